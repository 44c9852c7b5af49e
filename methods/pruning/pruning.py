"""Pruning of a trained network: finetune, prune to several speed-ups, finetune again (section 3.4 of arXiv 2506.12041).

With a metanetwork, which changes the weights first, or without one; both have the same finetuning.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from runner.contracts import ImageClassification, Method
from runner.errors import BadInput
from runner.methods.pruning import weight_masks
from runner.methods.pruning.channel_groups import ChannelGroups, Criterion, costs, spread
from runner.methods.pruning.channel_pruning import Pruned, Schedule, compacted
from runner.methods.pruning.data_model import network_of
from runner.methods.pruning.meta_training import MetaTraining
from runner.methods.pruning.training import Push, Recipe, accuracy_of
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, RunReference

if TYPE_CHECKING:
    from runner.run import Run

BASE, CHANGED, FINETUNED, FIRST = range(4)
"""Places in the checkpoint: victim, changed, after the first finetuning, pruned to the first speed-up."""


@dataclass(kw_only=True, eq=False)
class Pruning(Method[ImageClassification]):
    """Finetunes a victim, prunes it, and finetunes what is left, for each speed-up."""

    victim: RunReference
    """A ``data_model`` that was trained on the same images."""
    speedups: list[PositiveFloat]
    """Multiply-adds before over those after, ascending; where single weights are pruned, weights."""
    structure: Literal["channels", "weights", "blocks"]
    """What is pruned: channels; the smallest of all weights; the smallest weights of each block."""
    block: PositiveInt
    """Neighbouring weights of ``blocks``."""
    norm: Literal["l2", "l1", "random"]
    reduction: Literal["mean", "sum", "max", "first"]
    normaliser: Literal["max", "mean", "none"]
    steps: PositiveInt | None
    """Into how many steps all channels would be divided; None: one channel a step."""
    batch_size: PositiveInt
    lr: PositiveFloat
    momentum: Probability
    weight_decay: NonNegativeFloat
    epochs_before: PositiveInt
    """Of the finetuning before pruning; likewise its milestones."""
    milestones_before: list[PositiveInt]
    epochs_after: PositiveInt
    milestones_after: list[PositiveInt]
    sparsity: NonNegativeFloat
    """Strength of the regulariser in the finetuning before pruning; above 0 it takes the place of weight decay."""
    alpha: PositiveFloat
    """How much stronger the regulariser pushes a group's least important channel than its most important one."""
    keep: Literal["best", "last"]
    """Where the last finetuning ends: at the highest validation accuracy, or at its last epoch."""

    def build(self, task: ImageClassification, run: Run) -> None:
        """Room for the victim and what becomes of it.

        Raises:
            BadInput: the speed-ups don't ascend, or the victim is no ``data_model`` for such images.
        """
        if not self.speedups or sorted(set(self.speedups)) != self.speedups or self.speedups[0] < 1:
            raise BadInput("method.speedups must be one or more numbers from 1 on, ascending")
        victim = network_of(run.reference("victim"), task)
        self.model = Pruned(victim, task.sample(), FIRST + len(self.speedups)).to(run.device)

    def changed(self, network: nn.Module, run: Run) -> nn.Module:
        """What is finetuned and pruned: here the victim as it is."""
        return network

    def fit(self, task: ImageClassification, run: Run) -> None:
        """Change, finetune, prune, finetune."""
        seed = run.generator.initial_seed()
        networks = self.model.networks
        networks[CHANGED].load_state_dict(self.changed(self.model.network(BASE), run).state_dict())
        networks[FINETUNED].load_state_dict(networks[CHANGED].state_dict())
        before, after = (
            self._recipe(self.epochs_before, self.milestones_before),
            self._recipe(self.epochs_after, self.milestones_after),
        )
        if self.sparsity:
            before = self._recipe(self.epochs_before, self.milestones_before, weight_decay=0.0)
        # All arms draw the same batches.
        run.generator.manual_seed(seed + 1)
        before.fit(networks[FINETUNED], task, run, name="before", push=self._push(networks[FINETUNED]))
        for place, (speedup, kept) in enumerate(
            zip(self.speedups, self._kept(networks[FINETUNED], seed), strict=True), FIRST
        ):
            network, masks = self._cut(networks[FINETUNED], speedup, kept)
            run.generator.manual_seed(seed + 2)
            best = self.keep == "best"
            after.fit(network, task, run, name=f"after_{speedup:g}x", best=best, masks=masks)
            self.model.put(place, network, kept)

    def _recipe(self, epochs: int, milestones: list[int], weight_decay: float | None = None) -> Recipe:
        return Recipe(
            epochs=epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay if weight_decay is None else weight_decay,
            milestones=tuple(milestones),
        )

    def _push(self, network: nn.Module) -> Push | None:
        if not self.sparsity:
            return None
        groups = ChannelGroups(network, self.model.sample)

        def push(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: self.sparsity * more for name, more in groups.push(weights, self.alpha).items()}

        return push

    def _kept(self, network: nn.Module, seed: int) -> list[Tensor]:
        """For each speed-up: the channels that are left [S]."""
        if self.structure != "channels":
            return [torch.ones_like(self.model.kept[0])] * len(self.speedups)
        schedule = Schedule(Criterion(self.norm, self.reduction, self.normaliser), self.steps)
        return list(schedule.kept(network, self.model.sample, self.speedups, torch.Generator().manual_seed(seed)))

    def _cut(self, network: nn.Module, speedup: float, kept: Tensor) -> tuple[nn.Module, dict[str, Tensor] | None]:
        """A copy right after pruning, and its weights' masks where it keeps its channels."""
        if self.structure == "channels":
            return compacted(network, self.model.sample, kept), None
        pruned = copy.deepcopy(network)
        if self.structure == "weights":
            masks = weight_masks.unstructured(pruned, speedup)
        else:
            masks = weight_masks.blockwise(pruned, speedup, self.block)
        weight_masks.apply(pruned, masks)
        return pruned, masks

    def evaluate(self, task: ImageClassification, run: Run) -> dict[str, float]:
        """Accuracies on the test and, where there are any, the validation images, and what is left at each speed-up.

        ``test_acc/base``, ``/changed`` and ``/finetuned`` are before pruning, ``test_acc/right_after_3x`` and
        ``test_acc/pruned_3x`` right after it and after the last finetuning; ``test_acc`` is that of the last speed-up.
        ``weights_left/3x`` and, for channels, ``macs_left/3x`` are shares of the victim's. ``spread/…``: how much the
        norms of a group's channels differ, standard deviation over mean, before pruning.
        """
        networks, sample = self.model.networks, self.model.sample
        stages = {"base": networks[BASE], "changed": networks[CHANGED], "finetuned": networks[FINETUNED]}
        metrics = {f"spread/{stage}": spread(network, sample) for stage, network in stages.items()}
        macs, weights = costs(networks[BASE], sample)
        for place, speedup in enumerate(self.speedups, FIRST):
            final = self.model.network(place)
            stages[f"right_after_{speedup:g}x"], _ = self._cut(networks[FINETUNED], speedup, self.model.kept[place])
            stages[f"pruned_{speedup:g}x"] = final
            left = sum(int(weight.count_nonzero()) for weight in final.parameters())
            metrics[f"weights_left/{speedup:g}x"] = left / weights
            if self.structure == "channels":
                metrics[f"macs_left/{speedup:g}x"] = costs(final, sample)[0] / macs
        for split in ("test", "val"):
            if len(task.part(split)[1]):
                metrics |= {
                    f"{split}_acc/{stage}": accuracy_of(network, task, split) for stage, network in stages.items()
                }
        return metrics | {"test_acc": metrics[f"test_acc/pruned_{self.speedups[-1]:g}x"]}


@dataclass(kw_only=True, eq=False)
class MetaPruning(Pruning):
    """The same, after a metanetwork has changed the victim's weights."""

    metanetwork: RunReference
    """A ``metanetwork`` that was trained on such networks, on the same images."""

    def changed(self, network: nn.Module, run: Run) -> nn.Module:
        """By the metanetwork; the same where its choice was to change nothing."""
        method = run.reference("metanetwork").restore()
        if not isinstance(method, MetaTraining):
            raise BadInput("method.metanetwork is no run of method=metanetwork")
        return method.applied(network)
