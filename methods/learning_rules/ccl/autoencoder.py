"""Autoencoders by counter-current learning and by back-propagation: images are their own targets.

Letters: B images, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional

from runner.contracts import ImageClassification, ImageSplit
from runner.methods.learning_rules.ccl.losses import unit_rows
from runner.methods.learning_rules.ccl.rule import CentralisedRule, CounterCurrentRule
from runner.methods.learning_rules.rule import EVALUATED_AT_ONCE, LearningRule, inputs_of

if TYPE_CHECKING:
    from runner.loops import Epoch
    from runner.run import Run

SHOWN = 16
"""Test images whose reconstructions are kept with the run."""


@dataclass(kw_only=True, eq=False)
class Reconstruction(LearningRule):
    """A rule whose target is the image, without its label. Errors are mean squares over pixels, as normalised."""

    def build(self, task: ImageClassification, run: Run) -> None:
        """The chosen network, from images to images."""
        width = inputs_of(task, run.backbone)
        self.model = run.model(width, width)

    @torch.no_grad()
    def error(self, task: ImageClassification, split: ImageSplit) -> float:
        """Mean square over all pixels of a split's images."""
        self.model.eval()
        x, _ = task.part(split)
        total = sum(float(mean_square(self.model(part), part)) * len(part) for part in x.split(EVALUATED_AT_ONCE))
        return total / len(x)

    def validate(self, task: ImageClassification, run: Run, epoch: Epoch) -> None:
        """Log ``val_loss``, where images were held out."""
        if len(task.val_y) and epoch.validates:
            run.log(val_loss=self.error(task, "val"))

    def evaluate(self, task: ImageClassification, run: Run) -> dict[str, float]:
        """``test_mse``, ``val_mse`` where images were held out, and what a training step costs."""
        metrics = {"test_mse": self.error(task, "test")}
        with torch.no_grad():
            shown = task.test_x[:SHOWN]
            run.save("reconstructions", {"image": shown, "reconstruction": self.model(shown).reshape(shown.shape)})
        if len(task.val_y):
            metrics["val_mse"] = self.error(task, "val")
        return metrics | self.step_costs(self.set_gradients, task, run)


def mean_square(output: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of outputs, as images or rows, for images [B, C, H, W]."""
    return functional.mse_loss(output, x.reshape(output.shape))


@dataclass(kw_only=True, eq=False)
class BackpropAutoencoder(Reconstruction, CentralisedRule):
    """The baseline: the gradient of the mean squared error."""

    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """By autograd."""
        loss = mean_square(self.model(x), x)
        self.descend(loss)
        return loss


@dataclass(kw_only=True, eq=False)
class CounterCurrentAutoencoder(Reconstruction, CounterCurrentRule):
    """Feedback sees the image, b_L; the output is pulled to it, each layer to feedback's.

    ``objective=squares`` is the paper's formula, ``objective=shapes`` the authors' code: H_l is the height in pixels,
    and s(a) each channel's pixels without their mean, divided by their length::

        sum_{l<=L} mean((a_l - b_l)^2)                                                                     squares
        sum_{l<=L} H_l mean((a_l - b_l)^2) + sum_{0<l<L} H_l mean((s(a_l) - s(b_l))^2)                     shapes
    """

    objective: Literal["shapes", "squares"]

    def build(self, task: ImageClassification, run: Run) -> None:
        """Both networks."""
        width = inputs_of(task, run.backbone)
        self.model = self.pair(run, width, width)

    def losses(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Of all depths, the input's first; b_L is the image."""
        pairs = list(zip(self.model.upwards(x), self.model.downwards(x), strict=True))
        losses = [functional.mse_loss(a, b) for a, b in pairs]
        if self.objective == "shapes":
            for place, pair in enumerate(pairs[1:-1], start=1):
                losses[place] = losses[place] + shape_error(*pair)
            losses = [a.shape[2] * loss for (a, _), loss in zip(pairs, losses, strict=True)]
        return losses


def shape_error(a: Tensor, b: Tensor) -> Tensor:
    """mean((s(a) - s(b))^2) for a and b [B, C, H, W]: whatever a channel's mean and length."""
    unit = [unit_rows((z - z.mean((2, 3), keepdim=True)).flatten(0, 1).flatten(1)) for z in (a, b)]
    return functional.mse_loss(*unit)
