"""Elementwise activation functions with their derivatives in closed form, for rules that don't ask autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Activation:
    """a = function(z), da/dz = derivative(a), as a function of the value."""

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


ACTIVATIONS = {
    "relu": Activation(torch.relu, lambda a: (a > 0).to(a.dtype)),
    "tanh": Activation(torch.tanh, lambda a: 1 - a * a),
    "sigmoid": Activation(torch.sigmoid, lambda a: a * (1 - a)),
    "elu": Activation(functional.elu, lambda a: torch.where(a > 0, torch.ones_like(a), a + 1)),
    # a pulse width: 0 below 0, 1 above 1
    "clip": Activation(lambda z: z.clamp(0, 1), lambda a: ((a > 0) & (a < 1)).to(a.dtype)),
}
"""By the names that ``model.activation`` takes."""
