"""One synaptic device: how a pulse moves its conductance.

g in [0, 1] is the normalised conductance (G - G_min) / (G_max - G_min). P identical pulses drive it from one end to
the other; beta bends the curve (the soft-bounds, or NeuroSim, model; Lim et al. don't say theirs)::

    g(n) = (1 - exp(-beta n / P)) / (1 - exp(-beta))       potentiation from 0; depression is its mirror image from 1

A pulse is an affine map: with the distance d from the end where the branch begins (g, or 1 - g)::

    d <- min(1, d + first - slope d),   slope = 1 - exp(-beta / P),   first = slope / (1 - exp(-beta))

so no table is needed, and g may stand between the levels of one branch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Distribution = Literal["normal", "lognormal"]
LINEAR = 1e-9
"""A beta below it is 0: the difference would drown in rounding."""
SMALLEST_FACTOR = 0.1
"""Of a normally distributed spread: no device is dead or reversed."""


@dataclass(frozen=True)
class Branch:
    """Potentiation or depression: numbers, or one for each device as tensors of a shape."""

    first: Tensor
    """Step of the first pulse."""
    slope: Tensor
    """What a step loses for a distance of 1."""

    def step(self, d: Tensor) -> Tensor:
        """Step of a pulse at a distance d from where the branch begins."""
        return self.first - self.slope * d

    def curve(self, n: Tensor) -> Tensor:
        """Distance after n pulses from the beginning: (first / slope) (1 - (1 - slope)^n), at most 1."""
        bent = -torch.expm1(torch.special.xlog1py(n, -self.slope)) * self.first / self._divisor
        return torch.where(self.slope > 0, bent, self.first * n).clamp(max=1)

    def pulses(self, d: Tensor) -> Tensor:
        """How many pulses from the beginning give the distance d in [0, 1]: the inverse of ``curve``, not rounded."""
        bent = torch.log1p(-d * self.slope / self.first) / torch.log1p(-self._divisor)
        return torch.where(self.slope > 0, bent, d / self.first)

    def scaled(self, factor: Tensor) -> Branch:
        """Every step times ``factor``; the conductance where steps end stays."""
        return Branch(self.first * factor, self.slope * factor)

    @property
    def _divisor(self) -> Tensor:
        return torch.where(self.slope > 0, self.slope, torch.full_like(self.slope, 0.5))


def branch(beta: Tensor, pulses: int) -> Branch:
    """The branch of nonlinearity beta >= 0 that takes ``pulses`` from one end to the other."""
    bent = beta > LINEAR
    some = torch.where(bent, beta, torch.ones_like(beta))
    slope = -torch.expm1(-some / pulses)
    first = slope / -torch.expm1(-some)
    return Branch(torch.where(bent, first, 1 / pulses), torch.where(bent, slope, 0.0))


def reset(like: Tensor) -> Branch:
    """Abrupt depression: one pulse goes all the way (phase-change memory, gated Schottky diode)."""
    return Branch(torch.ones_like(like), torch.ones_like(like))


def spread(sigma: float, shape: tuple[int, ...], distribution: Distribution, like: Tensor) -> Tensor:
    """Factors of mean 1 and deviation ``sigma``, one for each device; a normal one is at least ``SMALLEST_FACTOR``."""
    draw = torch.randn(shape, dtype=like.dtype, device=like.device)
    if distribution == "normal":
        return (1 + sigma * draw).clamp(min=SMALLEST_FACTOR)
    variance = math.log1p(sigma**2)
    return torch.exp(math.sqrt(variance) * draw - variance / 2)


def pulsed(g: Tensor, direction: Tensor, up: Branch, down: Branch, noise: float) -> Tensor:
    """Conductances after at most one pulse each.

    Args:
        g: normalised conductances, of any shape.
        direction: 1 potentiates, -1 depresses, 0 leaves alone; the same shape and type.
        up: potentiation.
        down: depression.
        noise: deviation of a step from pulse to pulse, relative to the step.
    """
    step = direction.clamp(min=0) * up.step(g) + direction.clamp(max=0) * down.step(1 - g)
    if noise:
        step = step * (1 + noise * torch.randn_like(step))
    return (g + step).clamp(0, 1)
