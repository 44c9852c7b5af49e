"""Labels as input features.

Letters: N nodes (virtual ones among them, where there are any), C classes, F input width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from runner.contracts import NodeClassification
from runner.methods.graph.forwardgnn.layer import NORM_EPSILON, divided, row_norms
from runner.methods.ops.sparse import Beside, Repeated, SparseMatrix, Stacked


def label_rows(task: NodeClassification, known: Tensor) -> Tensor:
    """[N, C]: one-hot for the nodes ``known``, the uniform 1/C for all others, whose labels are not looked at."""
    rows = task.x.new_full((task.num_nodes, task.num_classes), 1 / task.num_classes)
    rows[known] = one_hot(task.y[known], task)
    return rows


def label_rows_with_virtual(task: NodeClassification) -> Tensor:
    """The same for the training nodes, and below it one-hot c for virtual node c: [N + C, C]."""
    identity = torch.eye(task.num_classes, dtype=task.x.dtype, device=task.x.device)
    return torch.cat([label_rows(task, task.train), identity])


def one_hot(classes: Tensor, task: NodeClassification) -> Tensor:
    """[n] -> [n, C], in the task's floating-point type."""
    return functional.one_hot(classes, task.num_classes).to(task.x.dtype)


def with_labels(h: Tensor | SparseMatrix | Stacked, labels: Tensor) -> Beside:
    """norm([h | labels]) [N, F + C], both parts divided by the norm of the whole row."""
    norms = _joint_norms(h, labels)
    return Beside([divided(h, norms), divided(labels, norms)])


def with_several_labels(h: Tensor | SparseMatrix, labels: Tensor) -> Beside:
    """norm([h | labels_k]) for each k of ``labels`` [K, N, C], one below the other: [K N, F + C].

    A row's label vectors have the same norm for all k, so that the part that holds h is the same one.
    """
    copies = len(labels)
    norms = _joint_norms(h, labels[0])
    return Beside([Repeated(divided(h, norms), copies), divided(labels.flatten(0, 1), norms.repeat(copies))])


def _joint_norms(h: Tensor | SparseMatrix | Stacked, labels: Tensor) -> Tensor:
    return torch.hypot(row_norms(h), row_norms(labels)) + NORM_EPSILON
