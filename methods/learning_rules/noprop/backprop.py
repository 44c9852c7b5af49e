"""The paper's baseline: NoProp-DT's blocks chained by learnable gates, trained by back-propagation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.methods.learning_rules.noprop.classifier import Network, NoProp
from runner.methods.learning_rules.rule import LearningRule
from runner.types import PositiveFloat, PositiveInt


@dataclass(kw_only=True, eq=False)
class ChainBackprop(NoProp, LearningRule):
    """z_t = (1 - s_t) z_{t-1} + s_t uhat_t(z_{t-1}, x), s_t = tanh(w_t), z_0 ~ N(0, I); the head's cross-entropy."""

    blocks: PositiveInt
    """T."""
    gate_start: PositiveFloat
    """w_t at the start; at 0 no gradient would reach a block."""

    @property
    def shape(self) -> tuple[int, int | None]:
        """T blocks of one step each."""
        return self.blocks, None

    def extend(self, network: Network) -> None:
        """The gates w_1, …, w_T."""
        network.gates = nn.Parameter(torch.full((self.blocks,), self.gate_start))

    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """By autograd, through all blocks."""
        start = torch.randn(len(y), self.network.embedding.W.shape[1], device=x.device, dtype=x.dtype)
        loss = functional.cross_entropy(self.network.classify(self._chained(start, self.see(x))[-1]), y)
        loss.backward()
        return loss

    def walk(self, z: Tensor, seen: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """z_1 … z_T; only z_0 is random."""
        return self._chained(z, seen)

    def _chained(self, z: Tensor, seen: list[Tensor]) -> list[Tensor]:
        states = []
        for block, view, gate in zip(self.network.blocks, seen, self.network.gates.tanh(), strict=True):
            z = (1 - gate) * z + gate * self.network.clean(block, z, view)
            states.append(z)
        return states
