"""The cross-entropy of several networks' nodes at once, each with a split of its own.

Letters: S networks, N nodes, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from runner.contracts import NodeClassification


class NodeLoss:
    """Means over each network's training and validation nodes, from logits [S, C, N].

    Sums over all nodes with a weight each: splits of different sizes fit, and nothing is selected.
    """

    def __init__(self, tasks: Sequence[NodeClassification]) -> None:
        """``tasks``: one a network, alike but for their splits."""
        self._labels = tasks[0].y.expand(len(tasks), 1, -1)
        self._train = _shares(tasks[0], [task.train for task in tasks])
        self._val = _shares(tasks[0], [task.val for task in tasks])
        self._val_nodes = [len(task.val) for task in tasks]
        self._of: tuple[Tensor, Tensor] | None = None

    def _logs(self, logits: Tensor) -> Tensor:
        """log softmax [S, C, N], kept: a validation and the step after it ask for the same."""
        if self._of is None or self._of[0] is not logits:
            self._of = (logits, logits.log_softmax(1))
        return self._of[1]

    def losses(self, logits: Tensor) -> list[float]:
        """Cross-entropies of the training nodes."""
        return self._means(self._logs(logits), self._train)

    def slopes(self, logits: Tensor) -> Tensor:
        """Gradients of the sum of ``losses`` in the logits: (softmax - one-hot) / n [S, C, N]."""
        slopes = self._logs(logits).exp()
        slopes.scatter_add_(1, self._labels, slopes.new_full((1, 1, 1), -1.0).expand_as(self._labels))
        return slopes.mul_(self._train.unsqueeze(1))

    def val_losses(self, logits: Tensor) -> list[float]:
        """Cross-entropies of the validation nodes."""
        return self._means(self._logs(logits), self._val)

    def val_accuracies(self, logits: Tensor) -> list[float]:
        """Shares, in 0..1, of the validation nodes whose highest score, the first of equal ones, is at their label."""
        highest = logits.amax(1, keepdim=True)
        right = logits.gather(1, self._labels) == highest
        if (logits == highest).count_nonzero() != right.numel():  # some scores are equal; argmax alone is slow
            right = logits.argmax(1, keepdim=True) == self._labels
        counts = (right.squeeze(1) & (self._val > 0)).count_nonzero(1)
        return [count / nodes for count, nodes in zip(counts.tolist(), self._val_nodes, strict=True)]

    def _means(self, logs: Tensor, shares: Tensor) -> list[float]:
        means: list[float] = (logs.gather(1, self._labels).squeeze(1) * shares).sum(1).neg_().tolist()
        return means


def _shares(task: NodeClassification, selected: Sequence[Tensor]) -> Tensor:
    """What each node counts [S, N]: 1 / n for n selected ones, 0 for others."""
    shares = torch.zeros(len(selected), task.num_nodes, dtype=task.x.dtype)
    for row, nodes in zip(shares, selected, strict=True):
        row[nodes] = 1 / len(nodes)
    return shares
