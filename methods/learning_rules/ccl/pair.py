"""The two networks of counter-current learning.

Letters: B images, L layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runner.methods.models.layered import Layered


class CounterCurrentPair(nn.Module):
    """A network from inputs, a_0, …, a_L, and one from targets, b_L, …, b_0; they share no weight."""

    steps: Tensor
    """Steps taken so far; part of the state, so that a warm-up goes on where a killed run stood."""

    def __init__(self, network: Layered, feedback: Layered) -> None:
        super().__init__()
        self.network = network
        self.feedback = feedback
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """a_L: feedback takes no part in a prediction."""
        return self.network(x)  # type: ignore[no-any-return]

    def upwards(self, x: Tensor, *, local: bool = True) -> list[Tensor]:
        """a_0, …, a_L; ``local``: each stage's input is detached."""
        return self.network.trace(x, local=local)

    def downwards(self, target: Tensor) -> list[Tensor]:
        """b_0, …, b_L, each stage's input detached."""
        return self.feedback.trace(target, local=True)[::-1]
