"""The graph with one virtual node a class.

Letters: N nodes, C classes, E directed edges, F features, T training nodes. Virtual node c has the number N + c.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from runner.contracts import NodeClassification
from runner.methods.ops.graph import Graph

EdgeDirection = Literal["bidirection", "unidirection"]


class VirtualNodeNetwork(nn.Module):
    """Layers with losses of their own, and the fixed features [C, F] of the virtual nodes."""

    virtual_features: Tensor

    def __init__(self, virtual_features: Tensor, layers: list[nn.Module]) -> None:
        super().__init__()
        self.register_buffer("virtual_features", virtual_features)
        self.layers = nn.ModuleList(layers)


def augmented_graph(task: NodeClassification, direction: EdgeDirection) -> Graph:
    """The task's graph with N + C nodes and E + 2 T edges, or E + T (unidirection: to the virtual node only).

    Only labels of training nodes make edges.
    """
    edges = [task.edge_index, virtual_edges(task.train, task.y[task.train], task.num_nodes, direction)]
    return Graph(torch.cat(edges, dim=1), task.num_nodes + task.num_classes, task.x.dtype)


def virtual_edges(nodes: Tensor, classes: Tensor, num_nodes: int, direction: EdgeDirection) -> Tensor:
    """Edges [2, 2 n] between ``nodes`` [n] and the virtual nodes of ``classes`` [n]; [2, n] for one direction."""
    edges = torch.stack([nodes, num_nodes + classes])
    return torch.cat([edges, edges.flip(0)], dim=1) if direction == "bidirection" else edges


def with_virtual(index: Tensor, task: NodeClassification) -> Tensor:
    """``index`` followed by the numbers of the C virtual nodes."""
    virtual = torch.arange(task.num_nodes, task.num_nodes + task.num_classes, device=index.device)
    return torch.cat([index, virtual])


def class_logits(z: Tensor, num_classes: int, temperature: float) -> Tensor:
    """logits_ic = z_i . z_{v_c} / tau -> [n, C], for outputs z [n + C, H] whose last rows are virtual nodes."""
    return z[:-num_classes] @ z[-num_classes:].T / temperature
