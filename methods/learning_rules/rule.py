"""What all learning rules share: the loop over batches, validation, and the test of a classifier of images.

Letters: B images of a batch, K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import ImageClassification, ImageSplit, Method
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.minibatches import minibatches
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt, Probability

if TYPE_CHECKING:
    from runner.run import Run

EVALUATED_AT_ONCE = 2000
"""Images of a batch without gradients."""


@dataclass(kw_only=True, eq=False)
class LearningRule(Method[ImageClassification]):
    """Stochastic gradient descent along whatever a rule takes for the gradient.

    A rule says how one batch sets every parameter's ``grad`` (``set_gradients``), and perhaps what its network is.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    optimizer: Literal["sgd", "adam", "adamw"]
    lr: PositiveFloat
    momentum: Probability
    """Of ``sgd``."""
    weight_decay: NonNegativeFloat
    clip: PositiveFloat | None
    """Largest norm of all gradients together; None: no limit."""
    keep: Literal["best", "last"]
    """``best``: the state with the lowest validation cross-entropy; ``last``: the last one."""

    def build(self, task: ImageClassification, run: Run) -> None:
        """The chosen network, from all pixels to K logits."""
        self.model = run.model(task.train_x[0].numel(), task.num_classes)

    @abstractmethod
    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """Leave every parameter's update where the optimiser looks, for a batch [B, …] with classes [B]; the loss."""

    def fit(self, task: ImageClassification, run: Run) -> None:
        """One step a batch."""
        parameters = list(self.model.parameters())
        optimizer = self._optimizer(parameters)
        run.track(model=self.model, optimizer=optimizer)
        validating = len(task.val_y) > 0
        best = validating and self.keep == "best"
        for epoch in run.epochs(self.epochs, monitor="val_loss" if best else None, mode="min", restore_best=best):
            self.model.train()
            total = torch.zeros((), dtype=torch.float32, device=run.device)  # no number of an emulated format
            for x, y in minibatches(task, self.batch_size, run.generator):
                optimizer.zero_grad()
                total += self.set_gradients(x, y).detach() * len(y)
                if self.clip is not None:
                    nn.utils.clip_grad_norm_(parameters, self.clip)
                optimizer.step()
            run.log(loss=total / len(task.train_y))
            if validating and epoch.validates:
                scores = self.scores(task, "val")
                run.log(val_loss=functional.cross_entropy(scores, task.val_y), val_acc=accuracy(scores, task.val_y))

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        shared = {"lr": self.lr, "weight_decay": self.weight_decay, "fused": True}
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, momentum=self.momentum, **shared)
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, **shared)

    @torch.no_grad()
    def scores(self, task: ImageClassification, split: ImageSplit) -> Tensor:
        """Logits [n, K] of a split's images."""
        self.model.eval()
        x, _ = task.part(split)
        return torch.cat([self.predict(part) for part in x.split(EVALUATED_AT_ONCE)])

    def predict(self, x: Tensor) -> Tensor:
        """Scores [B, K] of images [B, …], the highest at the predicted class."""
        scores: Tensor = self.model(x)
        return scores

    def evaluate(self, task: ImageClassification, run: Run) -> dict[str, float]:
        """``test_acc`` and, where images were held out, ``val_acc``."""
        scores = self.scores(task, "test")
        run.save("predictions", {"label": task.test_y, "score": scores})
        metrics = {"test_acc": accuracy(scores, task.test_y)}
        if len(task.val_y):
            metrics["val_acc"] = accuracy(self.scores(task, "val"), task.val_y)
        return metrics
