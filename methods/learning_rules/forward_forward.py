"""Forward-forward on images: layers tell right labels from wrong ones by the size of their activity (Hinton 2022).

Letters: B images of a batch, K classes, I inputs of a layer, D its width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import ImageClassification
from runner.errors import BadInput
from runner.methods.learning_rules.feedback import set_affine_gradient
from runner.methods.learning_rules.rule import LearningRule
from runner.methods.models.activations import ACTIVATIONS
from runner.methods.models.perceptron import Perceptron
from runner.types import PositiveFloat

if TYPE_CHECKING:
    from runner.run import Run

SMALL = 1e-8
"""Keeps a layer that is silent from being divided by 0."""


@dataclass(kw_only=True, eq=False)
class ForwardForward(LearningRule):
    """Each layer alone: softplus(theta - G(right label)) + softplus(G(wrong label) - theta), G its activities' squares.

    The label is written, one-hot, over the first K pixels; a wrong one is drawn anew for each batch. A layer's input is
    scaled to mean square 1, so that it can't read off how active the layer below was. All layers of the network but the
    output learn so; there is no output layer. The predicted class has the most goodness, summed over all layers
    but the first (over the only one).
    """

    theta: PositiveFloat
    goodness: Literal["mean", "sum"]
    """Of the squares of a layer's activities."""

    def build(self, task: ImageClassification, run: Run) -> None:
        """The hidden layers of the chosen perceptron.

        Raises:
            BadInput: another network, one without hidden layers, or images with fewer pixels than classes.
        """
        if not isinstance(run.backbone, Perceptron) or not run.backbone.hidden:
            raise BadInput("forward-forward trains hidden affine layers: model=perceptron 'model.hidden=[500,500]'")
        pixels = task.train_x[0].numel()
        if pixels <= task.num_classes:
            raise BadInput(
                f"forward-forward writes {task.num_classes} classes over the first of {pixels} pixels: too few"
            )
        self.classes = task.num_classes
        self.activation = ACTIVATIONS[run.backbone.activation]
        self.model = nn.ModuleList(run.block(*widths) for widths in pairwise([pixels, *run.backbone.hidden]))

    def labelled(self, x: Tensor, y: Tensor) -> Tensor:
        """Images [B, …] with the classes [B] written over their first K pixels: [B, I]."""
        return torch.cat([functional.one_hot(y, self.classes).to(x.dtype), x.flatten(1)[:, self.classes :]], dim=1)

    def good(self, activity: Tensor) -> Tensor:
        """G [B] of a layer's activities [B, D]."""
        squares = activity.square()
        return squares.mean(1) if self.goodness == "mean" else squares.sum(1)

    @torch.no_grad()
    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """In closed form, on the way up; the loss is the sum of the layers' mean losses.

        dG/da = 2 a (over D for the mean), dL/dG = -sigmoid(theta - G) for right labels, sigmoid(G - theta) for wrong.
        """
        wrong = (y + torch.randint(1, self.classes, y.shape, device=y.device)) % self.classes
        a = torch.cat([self.labelled(x, y), self.labelled(x, wrong)])
        sign = torch.ones(len(a), device=a.device, dtype=a.dtype)
        sign[len(y) :] = -1
        total = a.new_zeros(())
        for layer in self.model:
            below = unit_mean_square(a)
            a = self.activation.function(layer(below))
            margin = sign * (self.theta - self.good(a))
            total += functional.softplus(margin).sum() / len(y)
            by_goodness = -sign * torch.sigmoid(margin) / len(y)
            by_activity = 2 * a * by_goodness.unsqueeze(1) / (a.shape[1] if self.goodness == "mean" else 1)
            set_affine_gradient(layer, below, by_activity * self.activation.derivative(a))
        return total

    def predict(self, x: Tensor) -> Tensor:
        """Summed goodness [B, K] with each label.

        The first layer sees the same pixels with all labels: they are multiplied once.
        """
        first, *others = self.model
        blank = self.labelled(x, torch.zeros(len(x), dtype=torch.int64, device=x.device))
        blank[:, : self.classes] = 0
        size = ((blank.square().sum(1) + 1) / blank.shape[1]).sqrt() + SMALL
        pixels = functional.linear(blank, first.weight)
        z = (pixels.unsqueeze(1) + first.weight.T[: self.classes]) / size[:, None, None]
        if first.bias is not None:
            z = z + first.bias
        a = self.activation.function(z).flatten(0, 1)
        total = self.good(a) if not others else a.new_zeros(len(a))
        for layer in others:
            a = self.activation.function(layer(unit_mean_square(a)))
            total = total + self.good(a)
        return total.reshape(len(x), self.classes)


def unit_mean_square(a: Tensor) -> Tensor:
    """Rows [B, D] scaled to mean square 1."""
    return a / (a.square().mean(1, keepdim=True).sqrt() + SMALL)
