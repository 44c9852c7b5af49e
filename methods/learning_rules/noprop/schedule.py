"""How noisy an embedding is at each step: abar rises from nearly 0 (noise) to nearly 1 (clean).

q(z_t | y) = N(sqrt(abar_t) u_y, (1 - abar_t) I). Note the direction: diffusion papers count the other way.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.errors import BadInput


def cosine(steps: int, clip: float) -> Tensor:
    """abar_t = cos^2((pi/2) (1 - t/T)), t = 0..T, clipped to [clip, 1 - clip]: [T + 1], float64.

    Raises:
        BadInput: clipped ends coincide with their neighbours, so that a step would do nothing.
    """
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    abar = torch.cos(math.pi / 2 * (1 - t)).square().clamp(clip, 1 - clip)
    if bool((abar.diff() <= 0).any()):
        raise BadInput(f"method.abar_clip={clip} flattens the schedule of {steps} blocks; take a smaller one")
    return abar


def snr(abar: Tensor) -> Tensor:
    """Signal over noise, abar / (1 - abar)."""
    return abar / (1 - abar)


def prior_divergence(abar: Tensor, u: Tensor) -> Tensor:
    """KL(q(z_0 | y) || N(0, I)) for abar_0 and u_y [B, D]: [B].

    1/2 (D (1 - abar_0) + abar_0 ||u_y||^2 - D - D log(1 - abar_0))
    """
    dim = u.shape[1]
    return 0.5 * (abar * u.square().sum(1) - dim * abar - dim * torch.log1p(-abar))


class Step(NamedTuple):
    """z_t = a uhat + b z_{t-1} + sqrt(c) noise; tensors of one shape."""

    a: Tensor
    b: Tensor
    c: Tensor


def step(before: Tensor, now: Tensor) -> Step:
    """The step from abar_{t-1} to abar_t, both of one shape, with alpha = abar_{t-1} / abar_t.

    a = sqrt(abar_t) (1 - alpha) / (1 - abar_{t-1}), b = sqrt(alpha) (1 - abar_t) / (1 - abar_{t-1}),
    c = (1 - abar_t) (1 - alpha) / (1 - abar_{t-1}): with uhat = u_y the result is drawn from q(z_t | y).
    """
    alpha = before / now
    return Step(
        now.sqrt() * (1 - alpha) / (1 - before),
        alpha.sqrt() * (1 - now) / (1 - before),
        (1 - now) * (1 - alpha) / (1 - before),
    )


class LearnedSchedule(nn.Module):
    """abar(t) = sigmoid(-gamma(t)), gamma(t) = gamma_0 + (gamma_1 - gamma_0) (1 - gbar(t)), t in [0, 1].

    gbar rises from 0 to 1: a network with one hidden layer and positive weights, shifted and scaled.
    """

    def __init__(self, gamma_0: float, gamma_1: float, width: int) -> None:
        super().__init__()
        self.ends = nn.Parameter(torch.tensor([gamma_0, gamma_1]))
        self.slope = nn.Parameter(torch.randn(width))
        self.offset = nn.Parameter(torch.randn(width))
        self.weight = nn.Parameter(torch.randn(width))

    def rise(self, t: Tensor) -> Tensor:
        """gbar(t), of t's shape."""
        at = torch.cat([t.reshape(-1), t.new_tensor([0.0, 1.0])]).unsqueeze(1)
        hidden = torch.tanh(functional.softplus(self.slope) * at + self.offset)
        raw = hidden @ functional.softplus(self.weight)
        return ((raw[:-2] - raw[-2]) / (raw[-1] - raw[-2])).reshape(t.shape)

    def gamma(self, t: Tensor) -> Tensor:
        """Minus the logarithm of the SNR, falling."""
        return self.ends[0] + (self.ends[1] - self.ends[0]) * (1 - self.rise(t))

    def abar(self, t: Tensor) -> Tensor:
        """Of t's shape, in (0, 1)."""
        return torch.sigmoid(-self.gamma(t))

    def snr_rate(self, t: Tensor) -> Tensor:
        """dSNR/dt, of t's shape; its graph is kept, for the schedule learns from it too."""
        with torch.enable_grad():
            t = t.detach().requires_grad_()
            (rate,) = torch.autograd.grad(torch.exp(-self.gamma(t)).sum(), t, create_graph=True)
        return rate
