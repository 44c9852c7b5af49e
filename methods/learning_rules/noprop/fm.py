"""NoProp-FM: one block learns the straight flow from noise to the class's embedding (flow matching)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from runner.methods.learning_rules.noprop.classifier import NoProp
from runner.methods.learning_rules.rule import LearningRule
from runner.types import NonNegativeFloat, PositiveInt


@dataclass(kw_only=True, eq=False)
class NoPropFM(NoProp, LearningRule):
    """||v(z_t, x, t) - (z_1 - z_0)||^2, z_1 = u_y, z_0 ~ N(0, I), t ~ U(0, 1), z_t ~ N(t z_1 + (1-t) z_0, sigma^2 I).

    v is the block's logits times W, without softmax. A learned embedding would shrink: it is held by
    CE(head(z_t + (1 - t) v), y).
    """

    time_embedding: PositiveInt
    """Length of the embedding of t."""
    inference_steps: PositiveInt
    sigma: NonNegativeFloat

    @property
    def shape(self) -> tuple[int, int | None]:
        """One block, with a time path."""
        return 1, self.time_embedding

    def velocity(self, z: Tensor, seen: Tensor, t: Tensor) -> Tensor:
        """v [B, D]."""
        v: Tensor = self.network.blocks[0](z, seen, t) @ self.network.embedding.W
        return v

    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """By autograd, within the one block."""
        network = self.network
        end = network.embedding(y)
        start = torch.randn_like(end)
        t = torch.rand(len(y), device=x.device, dtype=x.dtype)
        along = t.unsqueeze(1)
        z = along * end + (1 - along) * start
        if self.sigma:
            z = z + self.sigma * torch.randn_like(z)
        v = self.velocity(z, network.blocks[0].image(x), t)
        loss = (v - (end - start)).square().sum(1).mean()
        if network.embedding.learned:
            loss = loss + functional.cross_entropy(network.classify(z + (1 - along) * v), y)
        loss.backward()
        return loss

    def walk(self, z: Tensor, seen: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Euler's steps from t = 0 to 1."""
        times = torch.arange(self.inference_steps, device=z.device, dtype=z.dtype) / self.inference_steps
        for t in times.split(1):
            z = z + self.velocity(z, seen[0], t) / self.inference_steps
        return [z]

    def scored(self, z: Tensor) -> Tensor:
        """The nearest embedding, not the head, says the class."""
        scores: Tensor = self.network.embedding.nearness(z)
        return scores
