"""Accuracy."""

from __future__ import annotations

from torch import Tensor


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Share, in 0..1, of the samples whose highest score [n, C] is at their label [n]."""
    return int((scores.argmax(1) == labels).sum()) / labels.numel()
