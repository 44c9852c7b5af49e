"""Accuracy."""

from __future__ import annotations

from torch import Tensor


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Percentage of the samples whose highest score [n, C] is at their label [n]."""
    return 100.0 * int((scores.argmax(1) == labels).sum()) / labels.numel()
