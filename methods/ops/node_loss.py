"""The cross-entropy of several networks' nodes at once, each with a split of its own.

Letters: S networks, N nodes, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from runner.contracts import NodeClassification
from runner.methods.ops.accuracy import accuracy


class NodeLoss:
    """Mean cross-entropy over each network's training nodes, from logits [S, C, N]."""

    def __init__(self, tasks: Sequence[NodeClassification]) -> None:
        """``tasks``: one a network, alike but for their splits."""
        self._tasks = tasks
        self._labels = tasks[0].y.expand(len(tasks), 1, -1)
        self._shares = torch.zeros(len(tasks), tasks[0].num_nodes, dtype=tasks[0].x.dtype)
        """What each node counts [S, N]: 1 / n, n training nodes; others 0."""
        for row, task in zip(self._shares, tasks, strict=True):
            row[task.train] = 1 / len(task.train)

    def __call__(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The losses [S], and their gradients [S, C, N] in the logits: (softmax - one-hot) / n."""
        logs = logits.log_softmax(1)
        losses = -(logs.gather(1, self._labels).squeeze(1) * self._shares).sum(1)
        slopes = logs.exp_()
        slopes.scatter_add_(1, self._labels, slopes.new_full((1, 1, 1), -1.0).expand_as(self._labels))
        return losses, slopes.mul_(self._shares.unsqueeze(1))

    def validation(self, logits: Tensor) -> list[tuple[float, Tensor]]:
        """Accuracy and mean cross-entropy over each network's validation nodes."""
        found = []
        for task, scores in zip(self._tasks, logits, strict=True):
            scores, labels = scores[:, task.val].T, task.y[task.val]
            found.append((accuracy(scores, labels), torch.nn.functional.cross_entropy(scores, labels)))
        return found
