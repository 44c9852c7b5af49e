"""What all learning rules share: the loop over batches, validation, and the test of a classifier of images.

Letters: B images of a batch, K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from runner.contracts import Backbone, ImageClassification, ImageSplit, Method
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.minibatches import minibatches
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt, Probability

if TYPE_CHECKING:
    from runner.loops import Epoch
    from runner.run import Run

EVALUATED_AT_ONCE = 2000
"""Images of a batch without gradients."""


def inputs_of(task: ImageClassification, backbone: Backbone) -> int:
    """What a network of images is built for: channels, where it takes them as images, else all pixels."""
    return task.train_x.shape[1] if backbone.takes_images else task.train_x[0].numel()


@dataclass(kw_only=True, eq=False)
class Classifier(Method[ImageClassification]):
    """A classifier of images that learns in epochs of batches: its optimiser, validation and test."""

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
    drop_last: ClassVar[bool] = False
    """Whether a smaller last batch is left out."""

    def build(self, task: ImageClassification, run: Run) -> None:
        """The chosen network, from images to K logits."""
        self.model = run.model(inputs_of(task, run.backbone), task.num_classes)

    def validated_epochs(self, task: ImageClassification, run: Run) -> Iterator[Epoch]:
        """The training loop's epochs; at its end the state is the one that ``keep`` asks for."""
        best = self.keep == "best" and len(task.val_y) > 0
        return run.epochs(self.epochs, monitor="val_loss" if best else None, mode="min", restore_best=best)

    def validate(self, task: ImageClassification, run: Run, epoch: Epoch) -> None:
        """Log ``val_loss`` and ``val_acc``, where images were held out and the loop expects it."""
        if len(task.val_y) and epoch.validates:
            scores = self.scores(task, "val")
            run.log(val_loss=functional.cross_entropy(scores, task.val_y), val_acc=accuracy(scores, task.val_y))

    def optimizer_of(self, parameters: list[nn.Parameter] | list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The chosen optimiser of some parameters, or groups of them."""
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

    def step_costs(
        self, step: Callable[[Tensor, Tensor], object], task: ImageClassification, run: Run
    ) -> dict[str, float]:
        """What a training step costs up to the gradients, measured on the first images.

        Args:
            step: makes it, for images [B, …] with classes [B].
            task: gives them.
            run: the run.

        Returns:
            ``training_flops``, operations an image of matrix products and convolutions (a product and its sum count
            as two) and ``step_bytes``, the most that is held at once beside parameters and their gradients, both of a
            whole batch; and what a modelled target says of a single image, batch norm by its statistics.
        """
        x, y = task.train_x[: self.batch_size], task.train_y[: self.batch_size]
        counter = FlopCounterMode(display=False)
        buffers = {buffer: buffer.clone() for buffer in self.model.buffers()}
        self.model.zero_grad()
        with torch.enable_grad():
            self.model.train()
            with counter:
                held = run.step_bytes(lambda: step(x, y), self.model)
            for part in self.model.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.eval()
            modelled = run.step_cost(lambda: step(x[:1], y[:1]), self.model)
        self.model.zero_grad()
        for buffer, before in buffers.items():
            buffer.copy_(before)
        return {"training_flops": counter.get_total_flops() / len(y), "step_bytes": float(held), **modelled}


@dataclass(kw_only=True, eq=False)
class LearningRule(Classifier):
    """Stochastic gradient descent along whatever a rule takes for the gradient.

    A rule says how one batch sets every parameter's ``grad`` (``set_gradients``), and perhaps what its network is.
    """

    @abstractmethod
    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """Leave every parameter's update where the optimiser looks, for a batch [B, …] with classes [B]; the loss."""

    def groups(self) -> list[dict[str, Any]]:
        """Parameters that share a learning rate (``lr``, where it is not the rule's) and a limit of their norm."""
        return [{"params": list(self.model.parameters())}]

    def rate(self, epoch: int) -> float:
        """What all learning rates are multiplied by in an epoch, counted from 1."""
        return 1.0

    def fit(self, task: ImageClassification, run: Run) -> None:
        """One step a batch."""
        optimizer = self.optimizer_of(self.groups())
        rates = [group["lr"] for group in optimizer.param_groups]
        run.track(model=self.model, optimizer=optimizer)
        for epoch in self.validated_epochs(task, run):
            self.model.train()
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * self.rate(epoch)
            total = torch.zeros((), dtype=torch.float32, device=run.device)  # no number of an emulated format
            images = 0
            for x, y in minibatches(task, self.batch_size, run.generator, drop_last=self.drop_last):
                optimizer.zero_grad()
                total += self.set_gradients(x, y).detach() * len(y)
                images += len(y)
                if self.clip is not None:
                    for group in optimizer.param_groups:
                        nn.utils.clip_grad_norm_(group["params"], self.clip)
                optimizer.step()
            run.log(loss=total / images)
            self.validate(task, run, epoch)

    def evaluate(self, task: ImageClassification, run: Run) -> dict[str, float]:
        """What a classifier gives, and what a training step costs."""
        return super().evaluate(task, run) | self.step_costs(self.set_gradients, task, run)
