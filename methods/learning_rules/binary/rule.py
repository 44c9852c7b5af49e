"""What all rules for binary networks share: stages with a schedule, and the count of signs that turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import ImageClassification
from runner.errors import BadInput
from runner.methods.learning_rules.binary.layers import binary_layers, tell_progress
from runner.methods.learning_rules.rule import LearningRule, inputs_of
from runner.methods.ops.minibatches import minibatches
from runner.types import NonNegativeInt

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(frozen=True)
class Stage:
    """One loop of training with an optimiser of its own."""

    name: str
    epochs: int
    lr: float
    weight_decay: float


class SignFlips:
    """Share of the binary weights that differ between an epoch's start and end, summed over all epochs."""

    def __init__(self) -> None:
        self.total = 0.0

    def add(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
        """Count one epoch, from the bits of all layers; the share, in 0..1."""
        changed = sum(int((old != new).sum()) for old, new in zip(before, after, strict=True))
        share = changed / max(1, sum(old.numel() for old in before))
        self.total += share
        return share

    def state_dict(self) -> dict[str, Any]:
        """The sum."""
        return {"total": self.total}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put a sum back."""
        self.total = state_dict["total"]


def scheduled(lr: float, epoch: int, epochs: int, warmup: int) -> float:
    """lr of epoch 0, 1, …: a linear rise over ``warmup`` epochs, (epoch + 1) / warmup, then a cosine to 0.

    Without a rise the cosine spans all epochs; with one it starts in the rise's last epoch.
    """
    if epoch < warmup:
        return lr * (epoch + 1) / warmup
    start = max(warmup - 1, 0)
    return lr / 2 * (1 + math.cos(math.pi * (epoch - start) / (epochs - start)))


@dataclass(kw_only=True, eq=False)
class StagedRule(LearningRule):
    """Back-propagation of mean cross-entropy and a penalty, in one stage or several.

    Metrics of each stage: ``loss`` with the penalty, ``lr``, ``sign_flips`` (share of binary weights that the epoch
    turned); of the run: ``sign_flips``, summed over all epochs.
    """

    warmup_epochs: NonNegativeInt
    """Over which the learning rate rises."""

    def build(self, task: ImageClassification, run: Run) -> None:
        """The chosen network, changed as the rule says.

        Raises:
            BadInput: a batch of one image, of which batch normalisation can make nothing.
        """
        network = run.backbone.network(inputs_of(task, run.backbone), task.num_classes)
        if len(task.train_y) % self.batch_size == 1 and any(isinstance(m, nn.BatchNorm1d) for m in network.modules()):
            raise BadInput(
                f"method.batch_size={self.batch_size} leaves one image over of {len(task.train_y)}, which batch "
                f"normalisation can't take; for example method.batch_size={self.batch_size + 1}"
            )
        self.model = run.adapt(self.changed(network))
        self.flips = SignFlips()

    def changed(self, network: nn.Module) -> nn.Module:
        """The network as the rule trains it."""
        return network

    def penalty(self) -> Tensor | float:
        """What is added to the cross-entropy."""
        return 0.0

    def begin_epoch(self, share: float) -> None:
        """Hear which share of the stage's epochs, in 0..1, lies behind."""
        tell_progress(self.model, share)

    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """By autograd, through the quantisers' stand-ins."""
        loss = functional.cross_entropy(self.model(x), y) + self.penalty()
        loss.backward()
        return loss

    def fit(self, task: ImageClassification, run: Run) -> None:
        """One stage."""
        self.train(task, run, Stage("train", self.epochs, self.lr, self.weight_decay))
        run.log(sign_flips=self.flips.total)

    def train(self, task: ImageClassification, run: Run, stage: Stage) -> None:
        """One stage: a fresh optimiser, the schedule, one step a batch."""
        parameters = list(self.model.parameters())
        optimizer = self.optimizer_of(parameters)
        for group in optimizer.param_groups:
            group["weight_decay"] = stage.weight_decay
        run.track(model=self.model, optimizer=optimizer, flips=self.flips)
        best = self.keep == "best" and len(task.val_y) > 0
        monitor = "val_loss" if best else None
        for epoch in run.epochs(stage.epochs, name=stage.name, monitor=monitor, mode="min", restore_best=best):
            self.begin_epoch((epoch - 1) / stage.epochs)
            lr = scheduled(stage.lr, epoch - 1, stage.epochs, self.warmup_epochs)
            for group in optimizer.param_groups:
                group["lr"] = lr
            self.model.train()
            before = self.bits()
            total = torch.zeros((), dtype=torch.float32, device=run.device)  # no number of an emulated format
            for x, y in minibatches(task, self.batch_size, run.generator):
                optimizer.zero_grad()
                total += self.set_gradients(x, y).detach() * len(y)
                if self.clip is not None:
                    nn.utils.clip_grad_norm_(parameters, self.clip)
                optimizer.step()
            run.log(loss=total / len(task.train_y), lr=lr, sign_flips=self.flips.add(before, self.bits()))
            self.validate(task, run, epoch)

    def bits(self) -> list[Tensor]:
        """Of all binary layers."""
        return [layer.bits() for layer in binary_layers(self.model)]
