"""Graph convolutional network (Kipf & Welling, ICLR 2017, arXiv 1609.02907).

Letters: N nodes, F input width, H output width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.methods.models.initialisation import Propagating
from runner.methods.models.stack import AggregateThenTransform, StackedBackbone
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, Product, SparseMatrix, aggregated
from runner.types import PositiveInt


@dataclass(kw_only=True, eq=False)
class GCN(StackedBackbone):
    """Blocks of one graph convolution each."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> GCNBlock:
        """A graph convolution; the head is an ordinary one."""
        return GCNBlock(in_channels, out_channels)


class GCNBlock(AggregateThenTransform, Propagating):
    """Y = A_hat X W + b, A_hat = D^-1/2 (A + I) D^-1/2 (eq. 2 with eq. 8; the same as PyG's ``GCNConv``).

    Initial values as in PyG: W Glorot-uniform, b zero.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """Y [N, H] for X [N, F]."""
        return graph.symmetric @ (x @ self.weight) + self.bias

    def aggregate(self, x: Features, graph: Graph) -> tuple[Features | Product]:
        """A_hat X [N, F]."""
        return (aggregated(graph.symmetric, x),)

    def transform(self, *parts: Features | Product) -> Tensor:
        """(A_hat X) W + b."""
        (neighbourhood,) = parts
        return neighbourhood @ self.weight + self.bias

    def maps(self) -> list[list[Tensor]]:
        """W."""
        return [[self.weight]]

    def biases(self) -> list[Tensor]:
        """b."""
        return [self.bias]

    def operator(self, graph: Graph) -> SparseMatrix:
        """A_hat."""
        return graph.symmetric
