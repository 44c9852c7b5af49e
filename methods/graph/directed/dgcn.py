"""DGCN (Tong et al. 2020, arXiv 2004.13970): first- and second-order proximity side by side.

Letters: N nodes, F input width, H hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.methods.graph.directed.encoding import Encoder, EncodingBackbone
from runner.methods.graph.directed.operators import in_proximity, out_proximity
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features
from runner.types import PositiveInt, Probability


@dataclass(kw_only=True, eq=False)
class DGCN(EncodingBackbone):
    """Layers from F over 3H to 3H."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt
    dropout: Probability

    def encoder(self, in_channels: int) -> DGCNEncoder:
        """All layers."""
        return DGCNEncoder(in_channels, self.hidden_channels, self.num_layers)


class DGCNEncoder(Encoder):
    """h_l = ReLU([S_1 h W + b | S_2 h W + b | S_3 h W + b]), one W and b a layer for the three operators.

    S_1 the symmetrised graph, S_2 and S_3 proximity of who is sent from, and sent to, the same; all normalised with
    self-loops. W is Glorot-uniform, b zero.
    """

    def __init__(self, in_channels: int, hidden: int, num_layers: int) -> None:
        super().__init__()
        widths = [in_channels] + [3 * hidden] * (num_layers - 1)
        self.weights = nn.ParameterList(torch.empty(width, hidden) for width in widths)
        self.biases = nn.ParameterList(torch.zeros(hidden) for _ in widths)
        for weight in self.weights:
            nn.init.xavier_uniform_(weight)
        self.width = 3 * hidden

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """[N, 3H]."""
        operators = (graph.undirected.symmetric, graph.kept(in_proximity), graph.kept(out_proximity))
        h: Features = x
        for weight, bias in zip(self.weights, self.biases, strict=True):
            product = h @ weight
            h = torch.cat([operator @ product + bias for operator in operators], dim=1).relu()
        assert isinstance(h, Tensor)
        return h
