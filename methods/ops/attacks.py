"""Images disturbed within a bound: white noise, the fast gradient sign method, projected gradient descent.

All images [B, C, H, W] have pixels in [0, 1], and so have the disturbed ones. An attack is given no label: it moves
away from the class that the model itself predicts for the undisturbed image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Classifier = Callable[[Tensor], Tensor]
"""Logits [B, K] of images."""


@dataclass(frozen=True)
class Attacked:
    """What an attack made of images."""

    x: Tensor
    """[B, C, H, W]."""
    stuck: Tensor
    """[B], bool: the gradient of an image was zero in every pixel, at the undisturbed image, so that nothing moves it.

    A saturated softmax does that: it looks robust, and is not.
    """


def white_noise(x: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """clip(x + scale * u), u uniform in [0, 1); ``generator`` is a CPU one."""
    return (x + scale * torch.rand(x.shape, generator=generator).to(x)).clamp(0, 1)


def fgsm(model: Classifier, x: Tensor, eps: float) -> Attacked:
    """clip(x + eps * sign(dJ/dx)), J the cross-entropy (Goodfellow, Shlens & Szegedy, ICLR 2015, section 4)."""
    gradient = _gradient(model, x, _predicted(model, x))
    return Attacked((x + eps * gradient.sign()).clamp(0, 1), _stuck(gradient))


def pgd(
    model: Classifier, x: Tensor, eps: float, *, steps: int, step: float, generator: torch.Generator | None = None
) -> Attacked:
    """Repeated sign steps, each brought back to within eps of x (Madry et al., ICLR 2018, section 2.1).

    Args:
        model: its gradient leads.
        x: images.
        eps: bound of the maximum norm.
        steps: gradients in all.
        step: length of a step in every pixel.
        generator: a CPU one that draws the start, uniform within eps; None: start at x.
    """
    label = _predicted(model, x)
    stuck = _stuck(_gradient(model, x, label))
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    moved = x
    if generator is not None:
        moved = low + (high - low) * torch.rand(x.shape, generator=generator).to(x)
    for _ in range(steps):
        moved = (moved + step * _gradient(model, moved, label).sign()).clamp(low, high)
    return Attacked(moved, stuck)


@torch.no_grad()
def _predicted(model: Classifier, x: Tensor) -> Tensor:
    return model(x).argmax(1)


@torch.enable_grad()
def _gradient(model: Classifier, x: Tensor, label: Tensor) -> Tensor:
    """Of the sum over images: a mean would make small gradients smaller, down to zero."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(functional.cross_entropy(model(x), label, reduction="sum"), x)
    return gradient


def _stuck(gradient: Tensor) -> Tensor:
    return (gradient == 0).flatten(1).all(1)
