"""How far the periodic bit is from its proxy: closed forms for Laplace latents, and the measure on any latents.

QE(gamma) = E[(gamma sgn(s) - s)^2] with s = sin(omega w); its minimiser is gamma* = E|s|, its minimum
QE* = E[s^2] - (E|s|)^2. For w ~ Laplace(0, b), with x = omega b::

    E[s^2] = 2 x^2 / (1 + 4 x^2),    E|s| = x coth(pi / (2 x)) / (1 + x^2)

(derived here from the paper's definition; tests compare with quadrature). For x to infinity the phase is uniform:
gamma* = 2/pi, QE* = 1/2 - 4/pi^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIMIT = 0.5 - 4 / math.pi**2
"""QE* for a uniform phase."""
CHECKED = (0.1, 0.3, 1.0, 2.0, 5.0)
"""omega b at which the closed form is compared with a draw."""
DRAWN = 1_000_000
"""Latents of a draw."""


def mean_square(x: float) -> float:
    """E[s^2] for Laplace latents, x = omega b > 0."""
    return 2 * x**2 / (1 + 4 * x**2)


def fitted_scale(x: float) -> float:
    """gamma* = E|s| for Laplace latents, x = omega b > 0."""
    return x / math.tanh(math.pi / (2 * x)) / (1 + x**2)


def least_error(x: float) -> float:
    """QE* for Laplace latents, x = omega b > 0."""
    return mean_square(x) - fitted_scale(x) ** 2


def measured_error(s: Tensor, gamma: Tensor | float | None = None) -> Tensor:
    """QE(gamma) over all entries of s; None: with gamma = mean |s|, which is the least."""
    gamma = s.abs().mean() if gamma is None else gamma
    return (gamma * torch.where(s >= 0, 1.0, -1.0).to(s.dtype) - s).square().mean()


def repository_error(s: Tensor) -> Tensor:
    """Mean |s - sgn(s)|: a layer's term of the measure in repository edmav4/BiPer, which sums it over layers."""
    return (1 - s.abs()).mean()


def laplace(count: int, x: float, generator: torch.Generator) -> Tensor:
    """omega w of ``count`` latents, float32: Laplace(0, x)."""
    uniform = torch.rand(count, generator=generator, dtype=torch.float32) - 0.5
    distance = uniform.abs().clamp(max=0.5 - 2**-25)  # a draw of exactly 0 would be infinitely far out
    return -x * uniform.sign() * torch.log1p(-2 * distance)


def figure(spreads: Sequence[float], errors: Sequence[float], title: str) -> Figure:
    """QE* against omega b: the closed form, its limit, and measured layers with b = mean |w|."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(5.5, 3.4), layout="constrained")
    axis = drawing.subplots()
    curve = [10 ** (-1.5 + step / 50) for step in range(151)]
    axis.plot(curve, [least_error(x) for x in curve], color="#444444", label="Laplace latents, closed form")
    axis.axhline(LIMIT, color="#999999", linestyle=":", label="uniform phase, 1/2 - 4/π²")
    axis.plot(spreads, errors, "o", color="#1e6fb3", label="layers, b = mean |w|")
    axis.set(xscale="log", xlabel="ω b", ylabel="quantisation error", ylim=(0, None), title=title)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return drawing
