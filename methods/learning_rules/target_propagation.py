"""Difference target propagation with fixed feedback.

Letters: B images of a batch, K classes, L layers, D_l width of layer l.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from runner.methods.learning_rules.feedback import FixedFeedback, set_affine_gradient
from runner.types import PositiveFloat


@dataclass(kw_only=True, eq=False)
class FixedWeightTargetPropagation(FixedFeedback):
    """Targets, not errors, go down, through fixed random layers; each layer moves its output to its target (FW-DTP).

    Shibuya et al., AAAI 2023. With p = softmax(h_L), and g_l(t) = tanh(t F_l), F_l [D_l, D_{l-1}] fixed::

        t_L = h_L - stepsize (p - onehot(y))
        t_{l-1} = h_{l-1} + g_l(t_l) - g_l(h_l)                        for l = L, …, 2
        loss of layer l = mean over the batch of ||h_l - t_l||^2, t_l held fixed
    """

    stepsize: PositiveFloat
    """How far the output's target lies along the gradient of each image's cross-entropy."""

    def shapes(self) -> Sequence[tuple[int, int]]:
        """Of F_2, …, F_L."""
        widths = self.widths()
        return list(zip(widths[1:], widths[:-1], strict=True))

    def targets(self, outputs: list[Tensor], y: Tensor) -> list[Tensor]:
        """t_1, …, t_L for h_1, …, h_L, each [B, D_l], and classes [B]."""
        logits = outputs[-1]
        error = logits.softmax(1) - functional.one_hot(y, logits.shape[1]).to(logits.dtype)
        targets = [logits - self.stepsize * error]
        for place in reversed(range(len(outputs) - 1)):
            feedback = self.feedback[place]
            difference = torch.tanh(targets[0] @ feedback) - torch.tanh(outputs[place + 1] @ feedback)
            targets.insert(0, outputs[place] + difference)
        return targets

    @torch.no_grad()
    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """In closed form: dW_l = 2/B ((h_l - t_l) * f'(h_l))^T h_{l-1}, f' = 1 for the output."""
        below, *outputs = self.network.trace(x)
        for layer, output, target in zip(self.network.layers, outputs, self.targets(outputs, y), strict=True):
            delta = (output - target) * (2 / len(y))
            if output is not outputs[-1]:
                delta *= self.network.activation.derivative(output)
            set_affine_gradient(layer, below, delta)
            below = output
        return functional.cross_entropy(outputs[-1], y)
