"""The paper's continuous baseline: a neural ODE trained by the adjoint method (Chen et al. 2018), with torchdiffeq."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import ImageClassification
from runner.errors import BadInput
from runner.methods.learning_rules.noprop.classifier import NoProp
from runner.methods.learning_rules.rule import LearningRule
from runner.types import PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


class Flow(nn.Module):
    """d(z, h)/dt = (block(z, h, t) W, 0): h, the image's view, is a state so that its gradient is solved for too."""

    def __init__(self, block: nn.Module, matrix: Tensor) -> None:
        super().__init__()
        self.block = block
        self.matrix = matrix

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """For t a scalar, z [B, D] and h [B, M]."""
        z, seen = state
        return self.block(z, seen, t.reshape(1)) @ self.matrix, torch.zeros_like(seen)


@dataclass(kw_only=True, eq=False)
class Adjoint(NoProp, LearningRule):
    """The head's cross-entropy at z(1), dz/dt = block(z, x, t) W, z(0) ~ N(0, I), in Euler's steps both ways."""

    time_embedding: PositiveInt
    """Length of the embedding of t."""
    steps: PositiveInt
    """From t = 0 to 1, in training and in inference."""

    @property
    def shape(self) -> tuple[int, int | None]:
        """One block, with a time path."""
        return 1, self.time_embedding

    def build(self, task: ImageClassification, run: Run) -> None:
        """As ever.

        Raises:
            BadInput: torchdiffeq is not installed.
        """
        try:
            import torchdiffeq
        except ImportError as error:
            raise BadInput("method=noprop_adjoint needs torchdiffeq: pip install 'forward-runner[adjoint]'") from error
        self._solve: Any = torchdiffeq.odeint_adjoint
        super().build(task, run)

    def _solved(self, z: Tensor, seen: Tensor) -> Tensor:
        network = self.network
        ends = torch.tensor([0.0, 1.0], device=z.device, dtype=z.dtype)
        moved = [*network.blocks[0].parameters(), *network.embedding.parameters()]
        flow = Flow(network.blocks[0], network.embedding.W)
        options = {"step_size": 1 / self.steps}
        states, _ = self._solve(flow, (z, seen), ends, method="euler", options=options, adjoint_params=tuple(moved))
        end: Tensor = states[-1]
        return end

    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """By the adjoint equation, through time."""
        start = torch.randn(len(y), self.network.embedding.W.shape[1], device=x.device, dtype=x.dtype)
        end = self._solved(start, self.network.blocks[0].image(x))
        loss = functional.cross_entropy(self.network.classify(end), y)
        loss.backward()
        return loss

    def step_costs(
        self, step: Callable[[Tensor, Tensor], object], task: ImageClassification, run: Run
    ) -> dict[str, float]:
        """None: its backward pass is made within autograd's, where torch's counter of operations can't follow."""
        return {}

    def walk(self, z: Tensor, seen: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """z(1); only z(0) is random."""
        return [self._solved(z, seen[0])]
