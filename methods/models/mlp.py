"""Multi-layer perceptron: the baseline that does not see the graph.

Letters: N samples, F input width, H output width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.methods.models.initialisation import Propagating
from runner.methods.models.stack import StackedBackbone
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, SparseMatrix
from runner.types import PositiveInt


@dataclass(kw_only=True, eq=False)
class MLP(StackedBackbone):
    """Blocks of one affine map each."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> AffineBlock:
        """An affine map; the head is an ordinary one."""
        return AffineBlock(in_channels, out_channels)


class AffineBlock(Propagating):
    """Y = X W + b. Initial values as in ``torch.nn.Linear``: uniform in +-1/sqrt(F)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(in_channels**-0.5), in_channels**-0.5)

    def forward(self, x: Features, graph: Graph | None = None) -> Tensor:
        """Y [N, H] for X [N, F]; the graph is not looked at."""
        return x @ self.weight + self.bias

    def maps(self) -> list[list[Tensor]]:
        """W."""
        return [[self.weight]]

    def biases(self) -> list[Tensor]:
        """b."""
        return [self.bias]

    def operator(self, graph: Graph) -> SparseMatrix:
        """I."""
        node = torch.arange(graph.num_nodes, device=graph.edge_index.device)
        ones = torch.ones(graph.num_nodes, dtype=graph.dtype, device=node.device)
        return SparseMatrix.from_entries(node, node, ones, (graph.num_nodes, graph.num_nodes))
