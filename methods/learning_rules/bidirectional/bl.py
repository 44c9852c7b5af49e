"""Bidirectional propagation of errors (BL): the generator learns to give each class's image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from runner.contracts import ImageClassification
from runner.loops import Stateful
from runner.methods.learning_rules.bidirectional.network import Undirected
from runner.methods.learning_rules.bidirectional.shared import SharedWeights
from runner.types import NonNegativeFloat, PositiveFloat

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class Bidirectional(SharedWeights):
    """Up: softmax cross-entropy of C(x) with y. Down: sigmoid cross-entropy of G(onehot(y)) with x, mean over pixels.

    Two Adams, each with moments of its own of the shared weights; the second steps at the weights that the first moved.
    """

    decay: PositiveFloat | None
    """Iterations in which the learning rates fall by a factor of e; None: they are constant."""
    lr_end: NonNegativeFloat
    """Of the classifier, at the end of ``decay``; the generator's keeps its ratio to it."""

    def build(self, task: ImageClassification, run: Run) -> None:
        """The network."""
        self.model = run.adapt(Undirected(task.shape, task.num_classes, self.layout(batch_norm=False)))

    def prepare(self, task: ImageClassification, run: Run) -> dict[str, Stateful]:
        """The generator's Adam."""
        self.classes = torch.eye(task.num_classes, dtype=task.train_x.dtype, device=task.train_x.device)
        self.down = self.adam(self.trained(self.undirected.after_down), self.lr_down)
        return {"down": self.down}

    def learning_rates(self, iteration: int) -> None:
        """lr_i = lr_end + (lr - lr_end) exp(-i / decay); the generator's is lr_i * lr_down / lr."""
        if self.decay is None:
            return
        lr = self.lr_end + (self.lr - self.lr_end) * math.exp(-iteration / self.decay)
        self.up.param_groups[0]["lr"] = lr
        self.down.param_groups[0]["lr"] = lr * self.lr_down / self.lr

    def step_down(self, x: Tensor, y: Tensor) -> Tensor:
        """Of soft targets: pixels in [0, 1]."""
        self.down.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(self.undirected.generate(self.classes[y]), x)
        loss.backward()
        self.down.step()
        return loss.detach()

    @torch.no_grad()
    def generated(self) -> Tensor:
        """sigmoid(G(e_c)) of each class c: [K, C, H, W]."""
        top = self.undirected.layers[-1].weight
        return self.undirected.eval().generate(torch.eye(len(top)).to(top)).sigmoid()
