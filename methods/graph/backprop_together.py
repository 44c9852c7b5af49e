"""Several seeds of back-propagation on one graph, in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from runner.contracts import NodeClassification, Together
from runner.methods.graph.backprop import Backprop, inputs
from runner.methods.models.side_by_side import SideBySide, unfit
from runner.methods.ops.adam import step_together
from runner.methods.ops.full_batch import Turn
from runner.methods.ops.node_loss import NodeLoss

if TYPE_CHECKING:
    from runner.run import Run


def obstacle(methods: Sequence[Backprop], tasks: Sequence[NodeClassification], runs: Sequence[Run]) -> str:
    """Why these runs can't be trained in one pass, or the empty string."""
    first = tasks[0]
    if runs[0].one_process or runs[0].device.type != "cpu":
        return "only a real processor trains several at once"
    if reason := unfit(methods[0].model):
        return reason
    if len({(method.lr, method.weight_decay) for method in methods}) > 1:
        return "lr or weight_decay differ"
    for name in ("x", "edge_index", "y"):
        if not all(torch.equal(getattr(first, name), getattr(task, name)) for task in tasks):
            return f"the tasks differ in {name}"
    return ""


class BackpropTogether(Together):
    """The networks keep their parameters and optimisers; a step is computed for all that wait for one."""

    def __init__(self, methods: Sequence[Backprop], tasks: Sequence[NodeClassification], runs: Sequence[Run]) -> None:
        self._methods = methods
        self._tasks = tasks
        self._runs = runs
        self._x, self._graph = inputs(tasks[0])
        self._turns = [Turn() for _ in runs]
        self._numbers: list[int] = []

    def fit(self, number: int) -> Iterator[None]:
        """As ``Backprop.fit``."""
        method = self._methods[number]
        loss, validate = method.losses(self._tasks[number], self._x, self._graph)
        return method.descend_in_turns(
            self._runs[number],
            method.model,
            loss=loss,
            validate=validate,
            turn=self._turns[number],
            monitor=method.monitor,
        )

    @torch.no_grad()
    def step(self, numbers: Sequence[int]) -> None:
        """One step of each, and the figures of a validation for those that ask for one."""
        if numbers != self._numbers:
            self._gather(list(numbers))
        turns = [self._turns[number] for number in numbers]
        logits = self._networks.forward(training=True)
        losses, slopes = self._loss.losses(logits), self._loss.slopes(logits)
        step_together([turn.optimizer for turn in turns], self._networks.parameters(), self._networks.backward(slopes))
        self._networks.stepped()
        for turn, loss in zip(turns, losses, strict=True):
            turn.loss = loss
        if any(turn.validates for turn in turns):
            self._validate(turns)

    def _gather(self, numbers: list[int]) -> None:
        """Only these train on."""
        self._numbers = numbers
        models = [self._methods[number].model for number in numbers]
        self._networks = SideBySide(models, self._x, self._graph, [self._runs[number].draws for number in numbers])
        self._loss = NodeLoss([self._tasks[number] for number in numbers])

    def _validate(self, turns: list[Turn]) -> None:
        logits: Tensor = self._networks.forward(training=False)
        figures = zip(turns, self._loss.val_accuracies(logits), self._loss.val_losses(logits), strict=True)
        for turn, accuracy, loss in figures:
            turn.validation = {"val_acc": accuracy, "val_loss": loss}
