"""The graph with one virtual node a class.

Letters: N nodes, C classes, E directed edges, T training nodes. Virtual node c has the number N + c.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from runner.contracts import NodeClassification
from runner.methods.ops.graph import Graph

EdgeDirection = Literal["bidirection", "unidirection"]


def augmented_graph(task: NodeClassification, direction: EdgeDirection) -> Graph:
    """The task's graph with N + C nodes and E + 2 T edges, or E + T (unidirection: to the virtual node only).

    Only labels of training nodes make edges.
    """
    virtual = task.num_nodes + task.y[task.train]
    edges = [task.edge_index, torch.stack([task.train, virtual])]
    if direction == "bidirection":
        edges.append(torch.stack([virtual, task.train]))
    return Graph(torch.cat(edges, dim=1), task.num_nodes + task.num_classes, task.x.dtype)


def with_virtual(index: Tensor, task: NodeClassification) -> Tensor:
    """``index`` followed by the numbers of the C virtual nodes."""
    virtual = torch.arange(task.num_nodes, task.num_nodes + task.num_classes, device=index.device)
    return torch.cat([index, virtual])
