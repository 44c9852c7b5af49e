"""Stochastic gradient descent with steps of the learning rate, by which networks are trained and finetuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import ImageClassification, ImageSplit
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.minibatches import minibatches
from runner.methods.pruning import weight_masks

if TYPE_CHECKING:
    from runner.run import Run

EVALUATED_AT_ONCE = 2000
"""Images of a batch without gradients."""
DECAY = 0.1
"""Of the learning rate at each milestone."""

Push = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""From weights to what is added to their gradients, both by name."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained."""

    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    milestones: tuple[int, ...]
    """Epochs, counted from 1, after which the learning rate falls to a tenth."""

    def rate(self, epoch: int) -> float:
        """The learning rate in an epoch, counted from 1."""
        return self.lr * DECAY ** sum(milestone < epoch for milestone in self.milestones)

    def optimizer(self, network: nn.Module) -> torch.optim.SGD:
        """Of all parameters."""
        return torch.optim.SGD(
            network.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True
        )

    def fit(
        self,
        network: nn.Module,
        task: ImageClassification,
        run: Run,
        *,
        name: str,
        best: bool = False,
        push: Push | None = None,
        masks: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Train in a named loop of the run.

        Args:
            network: gives logits [B, K]; trained in place.
            task: gives the images.
            run: the run, whose generator draws the batches.
            name: the loop's.
            best: whether to end in the state of the highest validation accuracy; else in the last one.
            push: added to the gradients of each batch.
            masks: where weights may differ from 0, by name.
        """
        best = best and len(task.val_y) > 0
        optimizer = self.optimizer(network)
        run.track(model=network, optimizer=optimizer)
        for epoch in run.epochs(self.epochs, name=name, monitor="val_acc" if best else None, restore_best=best):
            loss = self.epoch(epoch, network, optimizer, task, run.generator, push=push, masks=masks)
            validated = {"val_acc": accuracy_of(network, task, "val")} if len(task.val_y) else {}
            run.log(loss=loss, **validated)

    def epoch(
        self,
        epoch: int,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        task: ImageClassification,
        generator: torch.Generator,
        *,
        push: Push | None = None,
        masks: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Train one epoch; the mean loss of its images, without what ``push`` stands for."""
        network.train()
        for group in optimizer.param_groups:
            group["lr"] = self.rate(epoch)
        parameters = dict(network.named_parameters())
        total = torch.zeros((), device=task.train_x.device)
        for x, y in minibatches(task, self.batch_size, generator):
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(x), y)
            loss.backward()
            for name, more in (push(parameters) if push is not None else {}).items():
                parameters[name].grad.add_(more)  # type: ignore[union-attr]
            optimizer.step()
            if masks is not None:
                weight_masks.apply(network, masks)
            total += loss.detach() * len(y)
        return total / len(task.train_y)

    def finetuned(self, network: nn.Module, task: ImageClassification, generator: torch.Generator) -> nn.Module:
        """Train outside of a run's loops, to the last state; the same network."""
        optimizer = self.optimizer(network)
        for epoch in range(1, self.epochs + 1):
            self.epoch(epoch, network, optimizer, task, generator)
        return network


@torch.no_grad()
def accuracy_of(network: nn.Module, task: ImageClassification, split: ImageSplit) -> float:
    """On a split, batch norm by its running statistics."""
    network.eval()
    x, y = task.part(split)
    return accuracy(torch.cat([network(part) for part in x.split(EVALUATED_AT_ONCE)]), y)


def channels_of(task: ImageClassification, takes_images: bool) -> int:
    """What a network of images is built for: channels, where it takes them as images, else all pixels."""
    return task.train_x.shape[1] if takes_images else task.train_x[0].numel()
