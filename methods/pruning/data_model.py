"""A trained network to be pruned, or to train a metanetwork on: what the paper calls a data model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from runner.contracts import ImageClassification, Method
from runner.errors import BadInput
from runner.methods.pruning.channel_groups import GROUP_L2, costs
from runner.methods.pruning.channel_pruning import Pruned, Schedule, compacted
from runner.methods.pruning.training import Recipe, accuracy_of, channels_of
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt, Probability

if TYPE_CHECKING:
    from runner.run import FinishedRun, Run


@dataclass(kw_only=True, eq=False)
class DataModel(Method[ImageClassification]):
    """Trains a network; where ``speedup`` is given, prunes it so far by the group norm, and finetunes it."""

    epochs: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat
    momentum: Probability
    weight_decay: NonNegativeFloat
    milestones: list[PositiveInt]
    """Epochs after which the learning rate falls to a tenth."""
    speedup: PositiveFloat | None
    """Multiply-adds before over those after the initial pruning; None: there is none."""
    steps: PositiveInt | None
    """Of the initial pruning; None: one channel each."""
    finetune_epochs: PositiveInt
    """After the initial pruning; likewise the next two."""
    finetune_lr: PositiveFloat
    finetune_milestones: list[PositiveInt]

    def build(self, task: ImageClassification, run: Run) -> None:
        """The chosen network, with all of its channels."""
        network = run.model(channels_of(task, run.backbone.takes_images), task.num_classes)
        self.model = Pruned(network, task.sample(), 1).to(run.device)
        self.model.register_buffer("seen", task.train_index.clone())

    def fit(self, task: ImageClassification, run: Run) -> None:
        """Train; prune and finetune."""
        whole = self.model.networks[0]
        recipe = Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            milestones=tuple(self.milestones),
        )
        recipe.fit(whole, task, run, name="train")
        if self.speedup is None:
            return
        schedule = Schedule(GROUP_L2, self.steps)
        (kept,) = schedule.kept(whole, self.model.sample, [self.speedup], run.generator)
        network = compacted(whole, self.model.sample, kept)
        finetune = Recipe(
            epochs=self.finetune_epochs,
            batch_size=self.batch_size,
            lr=self.finetune_lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            milestones=tuple(self.finetune_milestones),
        )
        finetune.fit(network, task, run, name="finetune", best=True)
        self.model.put(0, network, kept)

    def evaluate(self, task: ImageClassification, run: Run) -> dict[str, float]:
        """``test_acc``, ``val_acc``, ``macs`` (multiply-adds of an image) and ``weights`` (its parameters)."""
        network = self.model.network(0)
        macs, weights = costs(network, self.model.sample)
        metrics = {"test_acc": accuracy_of(network, task, "test"), "macs": macs, "weights": float(weights)}
        if len(task.val_y):
            metrics["val_acc"] = accuracy_of(network, task, "val")
        return metrics


def network_of(run: FinishedRun, task: ImageClassification) -> nn.Module:
    """The network of a run of ``data_model``, without the channels that it lacks.

    Raises:
        BadInput: it is another method's run, or one that was trained on other images than the task's.
    """
    method = run.restore()
    if not isinstance(method, DataModel):
        raise BadInput(f"run {run.run_id} is no run of method=data_model, which the reference needs")
    if (
        not torch.equal(method.model.get_buffer("seen"), task.train_index)
        or method.model.sample.shape != task.sample().shape
    ):
        raise BadInput(f"run {run.run_id} was trained on other images; give its reference this run's dataset options")
    return method.model.network(0)
