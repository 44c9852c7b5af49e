"""Pairs of nodes: what is computed of them, and how well scores tell those with an edge from those without.

Letters: N nodes, P pairs, H width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pair_products(h: Tensor, pairs: Tensor) -> Tensor:
    """e_ij = h_i * h_j, elementwise -> [P, H], for h [N, H] and ``pairs`` [2, P]; the order in a pair is no matter."""
    # index_select, whose gradient is a plain sum of rows: h[i] takes 1.7 times as long (measured on one core,
    # 2,708 nodes, 6,758 pairs, H=128, with the gradient: 4.6 ms against 7.6 ms).
    return h.index_select(0, pairs[0]) * h.index_select(0, pairs[1])


def inner_products(h: Tensor, pairs: Tensor) -> Tensor:
    """h_i . h_j -> [P]."""
    return pair_products(h, pairs).sum(1)


def roc_auc(scores: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve, in 0..1, of scores [P] for labels [P] in {0, 1}, both of which occur.

    It is the share of (positive, negative) couples that the scores put in order, where a tie counts half
    (Mann & Whitney 1947); the same number as scikit-learn's ``roc_auc_score``, an eighth of its time.
    """
    positive, negative = scores[labels == 1], scores[labels == 0].sort().values
    below, not_above = (torch.searchsorted(negative, positive, right=right).sum() for right in (False, True))
    return int(below + not_above) / (2 * positive.numel() * negative.numel())


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Area under the precision-recall curve as a sum of steps, in 0..1, of scores [P] for labels [P] in {0, 1}."""
    from sklearn.metrics import average_precision_score  # most of a second of imports, needed by an evaluation only

    return float(average_precision_score(labels.cpu().numpy(), scores.cpu().numpy()))
