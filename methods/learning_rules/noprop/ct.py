"""NoProp-CT: one block for all times in [0, 1], with a noise schedule that is learned too."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from runner.errors import BadInput
from runner.methods.learning_rules.noprop import schedule
from runner.methods.learning_rules.noprop.classifier import Network, NoProp
from runner.methods.learning_rules.noprop.embedding import noised
from runner.methods.learning_rules.rule import LearningRule
from runner.types import PositiveFloat, PositiveInt


@dataclass(kw_only=True, eq=False)
class NoPropCT(NoProp, LearningRule):
    """CE(head(z_1), y) + KL(q(z_0 | y) || N(0, I)) + (eta/2) SNR'(t) ||uhat(z_t, x, t) - u_y||^2, t ~ U(0, 1)."""

    eta: PositiveFloat
    time_embedding: PositiveInt
    """Length of the embedding of t."""
    inference_steps: PositiveInt
    gamma_0: float
    """-log SNR(1) at the start."""
    gamma_1: float
    """-log SNR(0) at the start: larger than ``gamma_0``."""
    schedule_width: PositiveInt

    @property
    def shape(self) -> tuple[int, int | None]:
        """One block, with a time path."""
        return 1, self.time_embedding

    def extend(self, network: Network) -> None:
        """The schedule.

        Raises:
            BadInput: it would fall.
        """
        if self.gamma_1 <= self.gamma_0:
            raise BadInput(f"method.gamma_1={self.gamma_1}: must be above method.gamma_0={self.gamma_0}")
        network.schedule = schedule.LearnedSchedule(self.gamma_0, self.gamma_1, self.schedule_width)

    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """By autograd, within the one block."""
        network = self.network
        u = network.embedding(y)
        t = torch.rand(len(y), device=x.device, dtype=x.dtype)
        first, last = network.schedule.abar(t.new_tensor([0.0, 1.0]))
        z = noised(u, network.schedule.abar(t).unsqueeze(1))
        error = network.clean(network.blocks[0], z, network.blocks[0].image(x), t) - u
        denoising = self.eta / 2 * (network.schedule.snr_rate(t) * error.square().sum(1)).mean()
        reading = functional.cross_entropy(network.classify(noised(u, last)), y)
        loss: Tensor = denoising + reading + schedule.prior_divergence(first, u).mean()
        loss.backward()
        return loss

    def walk(self, z: Tensor, seen: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """The steps of DT on the grid t_i = i / T, the block evaluated at t_{i-1}."""
        (block,), (view,) = self.network.blocks, seen
        times = torch.linspace(0, 1, self.inference_steps + 1, device=z.device, dtype=z.dtype)
        abar = self.network.schedule.abar(times).double()
        for t, a, b, c in zip(times[:-1].split(1), *schedule.step(abar[:-1], abar[1:]), strict=True):
            uhat = self.network.clean(block, z, view, t)
            # rounding may take the variance of a tiny step below 0
            deviation = float(c.clamp(min=0).sqrt())
            z = float(a) * uhat + float(b) * z + deviation * self.noise(tuple(z.shape), generator)
        return [z]
