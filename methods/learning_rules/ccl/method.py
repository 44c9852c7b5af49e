"""Counter-current learning of a classifier.

Letters: B images of a batch, K classes, L layers, D_l width of layer l.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional

from runner.contracts import ImageClassification, ImageSplit
from runner.methods.learning_rules.ccl.alignment import linear_cka, weight_cosines
from runner.methods.learning_rules.ccl.losses import identity, meeting, meeting_of_batch, spread
from runner.methods.learning_rules.ccl.rule import CounterCurrentRule
from runner.methods.learning_rules.rule import EVALUATED_AT_ONCE, inputs_of
from runner.types import NonNegativeFloat, Probability

if TYPE_CHECKING:
    from runner.loops import Epoch
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class CounterCurrentLearning(CounterCurrentRule):
    """Feedback comes from classes; layers of equal depth are pulled together for images of the same class.

    ``objective=classes`` is the authors' code: feedback sees each of the K classes once, B_l [K, D_l], and with
    M[i, c] = 1 where y_i = c::

        sum_{l<L} scale mean((A_l B_l^T - M)^2) + spread (mean((A_l A_l^T - I)^2) + mean((B_l B_l^T - I)^2))
        + CE(a_L, y)

    times 256 / D_l in the first term where rows are not normalised; the second term always normalises them.
    ``objective=batch`` is the paper's formula: feedback sees the batch's labels, the first term is ||A_l B_l^T - I||,
    and sums stand in the place of the means.
    """

    objective: Literal["classes", "batch"]
    normalise: bool
    """Whether rows are divided by their lengths."""
    scale: NonNegativeFloat
    """Of the local losses."""
    spread: NonNegativeFloat
    """Of the term that keeps a layer's activities unlike one another."""
    flooding: Probability
    """Images whose own class has more than 1 - flooding of the probability don't move hidden layers; 0: none."""

    def build(self, task: ImageClassification, run: Run) -> None:
        """Both networks."""
        self.classes = task.num_classes
        self.model = self.pair(run, inputs_of(task, run.backbone), task.num_classes)

    def losses(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Of the hidden layers, the input's first, and the output's cross-entropy."""
        upward = self.model.upwards(x)
        matches = functional.one_hot(y, self.classes).to(x.dtype)
        downward = self.model.downwards(identity(matches.T) if self.objective == "classes" else matches)
        rows = [a.flatten(1) for a in upward[:-1]]
        if self.flooding:
            unsure = self.unsure(upward[-1].detach(), y).unsqueeze(1)
            rows = [a * unsure for a in rows]
        local = [self.local(a, b.flatten(1), matches) for a, b in zip(rows, downward[:-1], strict=True)]
        return [*local, functional.cross_entropy(upward[-1], y)]

    def unsure(self, logits: Tensor, y: Tensor) -> Tensor:
        """1 for images whose own class leaves at least ``flooding`` of the probability to others, else 0: [B]."""
        own = logits.softmax(1).gather(1, y.unsqueeze(1)).squeeze(1)
        return (own <= 1 - self.flooding).to(logits.dtype)

    def local(self, a: Tensor, b: Tensor, matches: Tensor) -> Tensor:
        """The loss at one depth, for a [B, D] and b [K, D] or [B, D]."""
        if self.objective == "classes":
            loss = self.scale * meeting(a, b, matches, normalise=self.normalise)
        else:
            loss = self.scale * meeting_of_batch(a, b, normalise=self.normalise)
        if self.spread:
            summed = (1, 1) if self.objective == "classes" else (len(a) ** 2, len(b) ** 2)
            loss = loss + self.spread * (summed[0] * spread(a) + summed[1] * spread(b))
        return loss

    def validate(self, task: ImageClassification, run: Run, epoch: Epoch) -> None:
        """Log ``cka`` of the held-out images too."""
        super().validate(task, run, epoch)
        if len(task.val_y) and epoch.validates:
            run.log(cka=self.alignment(task, "val"))

    @torch.no_grad()
    def alignment(self, task: ImageClassification, split: ImageSplit) -> float:
        """Linear CKA of a_{L-1} and b_{L-1} of the images' classes."""
        self.model.eval()
        x, y = task.part(split)
        topmost = torch.cat([self.model.upwards(part)[-2].flatten(1) for part in x.split(EVALUATED_AT_ONCE)])
        classes = torch.eye(self.classes, dtype=x.dtype, device=x.device)
        return linear_cka(topmost, self.model.downwards(classes)[-2].flatten(1)[y])

    def evaluate(self, task: ImageClassification, run: Run) -> dict[str, float]:
        """``cka`` of the test images too, and ``weight_cosine/layer<l>`` of U_l and the transposed V_l."""
        cosines = {f"weight_cosine/{layer}": value for layer, value in weight_cosines(self.model).items()}
        return {**super().evaluate(task, run), "cka": self.alignment(task, "test"), **cosines}
