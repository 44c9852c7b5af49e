"""PEPITA: a second forward pass, with the error added to the image, in the place of a backward one.

Letters: B images of a batch, I pixels, K classes, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from runner.contracts import ImageClassification
from runner.methods.learning_rules.feedback import layered, set_affine_gradient
from runner.methods.learning_rules.rule import LearningRule
from runner.types import PositiveFloat

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class PepitaImage(LearningRule):
    """What a layer changes by between the two passes tells its update (Dellaferrera & Kreiman, ICML 2022).

    With e = softmax(h_L) - onehot(y) and the modulated pass h'_0 = x + e F^T, h'_l = f(W_l h'_{l-1} + b_l)::

        dW_l = 1/B sum_i (h_l - h'_l)_i (h'_{l-1})_i^T   for l < L,      dW_L = 1/B sum_i e_i (h'_{L-1})_i^T

    A bias learns as a weight whose input is 1.
    """

    feedback_scale: PositiveFloat
    """F [I, K] is uniform in +-feedback_scale sqrt(6 / I)."""

    def build(self, task: ImageClassification, run: Run) -> None:
        """The network and F.

        Raises:
            BadInput: the network is no list of affine layers.
        """
        super().build(task, run)
        self.network = layered(self.model)
        first = self.network.layers[0].weight
        bound = self.feedback_scale * (6 / first.shape[1]) ** 0.5
        self.feedback = first.new_empty(first.shape[1], task.num_classes).detach().uniform_(-bound, bound)

    @torch.no_grad()
    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """By both passes."""
        clean = self.network.trace(x)
        error = clean[-1].softmax(1) - functional.one_hot(y, clean[-1].shape[1]).to(clean[-1].dtype)
        below = clean[0] + error @ self.feedback.T
        last = len(self.network) - 1
        for place, layer in enumerate(self.network.layers):
            if place == last:
                set_affine_gradient(layer, below, error / len(y))
            else:
                modulated = self.network.stage(place, below)
                set_affine_gradient(layer, below, (clean[place + 1] - modulated) / len(y))
                below = modulated
        return functional.cross_entropy(clean[-1], y)
