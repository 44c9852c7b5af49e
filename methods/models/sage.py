"""GraphSAGE with the mean aggregator (Hamilton et al., NeurIPS 2017, arXiv 1706.02216), full-batch.

Letters: N nodes, F input width, H output width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from runner.methods.models.initialisation import Propagating
from runner.methods.models.stack import AggregateThenTransform, StackedBackbone
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, Product, SparseMatrix, aggregated
from runner.types import PositiveInt


@dataclass(kw_only=True, eq=False)
class SAGE(StackedBackbone):
    """Blocks of one mean aggregation each."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> SAGEBlock:
        """A mean aggregation; the head is an ordinary one."""
        return SAGEBlock(in_channels, out_channels)


class SAGEBlock(AggregateThenTransform, Propagating):
    """Y = (D^-1 A X) W_n + b + X W_s (algorithm 1, line 5; the same as PyG's ``SAGEConv``).

    W_n and W_s together are the paper's W, which stands before the concatenation of both inputs.
    Initial values as in PyG: all uniform in +-1/sqrt(F).
    """

    with_self: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.neighbour_weight = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.self_weight = nn.Parameter(torch.empty(in_channels, out_channels))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(in_channels**-0.5), in_channels**-0.5)

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """Y [N, H] for X [N, F]."""
        return graph.mean @ (x @ self.neighbour_weight) + self.bias + x @ self.self_weight

    def aggregate(self, x: Features, graph: Graph) -> tuple[Features | Product, Features]:
        """D^-1 A X and X, both [N, F]."""
        return aggregated(graph.mean, x), x

    def transform(self, *parts: Features | Product) -> Tensor:
        """(D^-1 A X) W_n + b + X W_s."""
        neighbours, own = parts
        return neighbours @ self.neighbour_weight + self.bias + own @ self.self_weight

    def maps(self) -> list[list[Tensor]]:
        """W_n and W_s, side by side."""
        return [[self.neighbour_weight, self.self_weight]]

    def biases(self) -> list[Tensor]:
        """b."""
        return [self.bias]

    def operator(self, graph: Graph) -> SparseMatrix:
        """D^-1 A."""
        return graph.mean
