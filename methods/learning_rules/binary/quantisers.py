"""Signs of weights and of activations, with the gradients that stand in for the sign's own.

A quantiser of weights has a real-valued ``proxy`` s(w), whose sign is the bit. Letters: O output channels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

EPSILON = 1e-5
"""Under the root of an activation's variance (repository edmav4/BiPer)."""
TANH_SLOPE = 2.0
"""k of BiPer's ablation ``surrogate=tanh``: a choice made here."""
EDE_FIRST, EDE_LAST = 0.1, 10.0
"""t of IR-Net's error decay estimator in the first and after the last epoch."""


def sgn(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1, of the type of x."""
    return (x >= 0).to(x.dtype).mul_(2).sub_(1)


class _Substitute(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, slope: Tensor | None) -> Tensor:
        ctx.save_for_backward(*(() if slope is None else (slope,)))
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        slopes = ctx.saved_tensors
        return gradients[0] * slopes[0] if slopes else gradients[0], None, None


def substituted(x: Tensor, value: Tensor, slope: Tensor | None = None) -> Tensor:
    """``value`` (exactly) forward; backward dL/dx = dL/dvalue * slope, the gradient itself where there is none."""
    result: Tensor = _Substitute.apply(x, value.detach(), slope)  # type: ignore[no-untyped-call]
    return result


def decay(x: Tensor, t: float) -> Tensor:
    """k t (1 - tanh(t x)^2) with k = max(1/t, 1): the slope of IR-Net's estimator (EDE)."""
    return max(1 / t, 1.0) * t * (1 - torch.tanh(t * x).square())


class Estimated(nn.Module):
    """A quantiser whose gradient may depend on how far training is."""

    def progress(self, share: float) -> None:
        """Hear which share of the epochs, in 0..1, lies behind."""


class WeightQuantiser(Estimated, ABC):
    """From latent weights to those that a layer computes with."""

    binary = True
    """Whether it gives the signs; if not, the proxy itself (BiPer's first stage)."""

    @abstractmethod
    def proxy(self, w: Tensor) -> Tensor:
        """s(w), differentiable, of the shape of w."""

    @abstractmethod
    def signs(self, w: Tensor, s: Tensor) -> Tensor:
        """sgn(s), with the gradient that the rule takes for its own, for s = s(w)."""

    def forward(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """What the layer computes with, before any scale, and s(w)."""
        s = self.proxy(w)
        return (self.signs(w, s) if self.binary else s), s


class SineWeights(WeightQuantiser):
    """s = sin(omega w): the bit is a square wave of period 2 pi / omega (BiPer, Vargas et al., CVPR 2024).

    dL/dw = dL/dbit * omega cos(omega w), without clipping; the other surrogates are ablations:
    ``ste`` takes dL/dbit where \\|w\\| <= 1, ``tanh`` puts the slope of tanh(2 s) in between.
    """

    def __init__(self, omega: float, surrogate: Literal["sine", "ste", "tanh"]) -> None:
        super().__init__()
        self.omega = omega
        self.surrogate = surrogate

    def proxy(self, w: Tensor) -> Tensor:
        """sin(omega w)."""
        return torch.sin(self.omega * w)

    def signs(self, w: Tensor, s: Tensor) -> Tensor:
        """By the chosen surrogate."""
        if self.surrogate == "ste":
            return substituted(w, sgn(s), (w.detach().abs() <= 1).to(w.dtype))
        if self.surrogate == "tanh":
            return substituted(s, sgn(s), TANH_SLOPE * (1 - torch.tanh(TANH_SLOPE * s.detach()).square()))
        return substituted(s, sgn(s))


class ClippedWeights(WeightQuantiser):
    """s = w, dL/dw = dL/dbit where \\|w\\| <= 1: straight-through, clipped (Courbariaux et al., 2016)."""

    def proxy(self, w: Tensor) -> Tensor:
        """The latent weight."""
        return w

    def signs(self, w: Tensor, s: Tensor) -> Tensor:
        """Clipped."""
        return substituted(w, sgn(w), (w.detach().abs() <= 1).to(w.dtype))


class BalancedWeights(WeightQuantiser):
    """s = (w - mean) / deviation of each output channel, and a slope that sharpens (IR-Net, Qin et al., CVPR 2020)."""

    t = EDE_FIRST

    def progress(self, share: float) -> None:
        """t = 0.1 * 100^share."""
        self.t = EDE_FIRST * (EDE_LAST / EDE_FIRST) ** share

    def proxy(self, w: Tensor) -> Tensor:
        """Standardised (unbiased deviation)."""
        rows = w.flatten(1)
        centred = rows - rows.mean(1, keepdim=True)
        return (centred / centred.std(1, keepdim=True)).view_as(w)

    def signs(self, w: Tensor, s: Tensor) -> Tensor:
        """With EDE's slope."""
        return substituted(s, sgn(s), decay(s.detach(), self.t))


class PolynomialActivations(Estimated):
    """sgn(a0), slope max(0, 2 - 2 \\|a0\\|) (Bi-Real); in training a0 = a / sqrt(var(a) + 1e-5), of each sample.

    The gradient flows through the deviation too. In evaluation a0 = a: the sign is the same.
    """

    def forward(self, a: Tensor) -> Tensor:
        """[B, …], to signs."""
        if not self.training:
            return sgn(a)
        rows = a.flatten(1)
        count = rows.shape[1]
        # torch.var's single pass is slower; activations within +-1 lose nothing here that EPSILON would keep
        var = (rows.square().mean(1) - rows.mean(1).square()).clamp(min=0) * (count / (count - 1))
        a = a * (var + EPSILON).rsqrt().view(-1, *[1] * (a.dim() - 1))
        return substituted(a, sgn(a), (2 - 2 * a.detach().abs()).clamp_(min=0))


class ClippedActivations(Estimated):
    """sgn(a), slope 1 where \\|a\\| <= 1."""

    def forward(self, a: Tensor) -> Tensor:
        """[B, …], to signs."""
        return substituted(a, sgn(a), (a.detach().abs() <= 1).to(a.dtype))


class DecayActivations(Estimated):
    """sgn(a), with the slope of IR-Net's estimator."""

    t = EDE_FIRST

    def progress(self, share: float) -> None:
        """t = 0.1 * 100^share."""
        self.t = EDE_FIRST * (EDE_LAST / EDE_FIRST) ** share

    def forward(self, a: Tensor) -> Tensor:
        """[B, …], to signs."""
        return substituted(a, sgn(a), decay(a.detach(), self.t))


def shift(s: Tensor) -> Tensor:
    """The power of two next to each entry (in its logarithm)."""
    return torch.exp2((s.log() / math.log(2)).round())
