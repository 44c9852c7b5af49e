"""A learner: parameters that are trained without regard to any others, with random numbers of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from runner.contracts import ImageClassification
from runner.methods.ops.minibatches import minibatches


@dataclass(frozen=True)
class Pass:
    """Once through the images: a loss of (x, y), and the optimisers of all that it moves."""

    loss: nn.Module
    optimizers: list[torch.optim.Optimizer]


@dataclass(frozen=True)
class Learner:
    """What is trained alone: its module, and the passes of an epoch."""

    module: nn.Module
    passes: list[Pass]
    clip: float | None
    """Largest norm of all gradients of a step together."""

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Each once."""
        return list({id(item): item for part in self.passes for item in part.optimizers}.values())

    def named(self, place: int) -> Iterator[tuple[str, torch.optim.Optimizer]]:
        """Its optimisers by names that are unique if ``place`` is."""
        for number, optimizer in enumerate(self.optimizers):
            yield f"optimizer{place}_{number}", optimizer

    def epoch(self, task: ImageClassification, batch_size: int, seed: tuple[int, ...]) -> float:
        """One epoch; the mean loss of its steps.

        ``seed`` alone decides order, noise and dropout, so that it doesn't matter what is trained before or beside.
        """
        device = task.train_x.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1)))
            losses = [self._step(part, x, y) for part in self.passes for x, y in self._batches(task, batch_size)]
        return float(torch.stack(losses).mean())

    @staticmethod
    def _batches(task: ImageClassification, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        return minibatches(task, size, torch.default_generator, drop_last=True)

    def _step(self, part: Pass, x: Tensor, y: Tensor) -> Tensor:
        for optimizer in part.optimizers:
            optimizer.zero_grad()
        loss: Tensor = part.loss(x, y)
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(
                [item for optimizer in part.optimizers for item in parameters(optimizer)], self.clip
            )
        for optimizer in part.optimizers:
            optimizer.step()
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Of the module and the optimisers."""
        return {"module": self.module.state_dict()} | {name: item.state_dict() for name, item in self.named(0)}

    def load(self, state: dict[str, Any]) -> None:
        """Put a state back."""
        self.module.load_state_dict(state["module"])
        for name, optimizer in self.named(0):
            optimizer.load_state_dict(state[name])


def parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All that an optimiser moves."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
