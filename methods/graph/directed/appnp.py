"""APPNP (Gasteiger, Bojchevski & Günnemann, ICLR 2019, arXiv 1810.05997), with or without direction: a control.

Letters: N nodes, F input width, H hidden width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from runner.methods.graph.directed.encoding import Encoder, EncodingBackbone
from runner.methods.models.mlp import AffineBlock
from runner.methods.ops.dropout import dropout
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features
from runner.types import PositiveInt, Probability


@dataclass(kw_only=True, eq=False)
class APPNP(EncodingBackbone):
    """An MLP first, then the walk, on what the MLP says of classes."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt
    """Of the MLP."""
    view: Literal["along", "undirected"]
    """``along``: A^T, what edges carry; ``undirected``: max(A, A^T)."""
    steps: PositiveInt
    teleport: Probability
    dropout: Probability

    def encoder(self, in_channels: int) -> APPNPEncoder:
        """H wide."""
        return APPNPEncoder(self, in_channels, self.hidden_channels)

    def network(self, in_channels: int, out_channels: int) -> APPNPEncoder:
        """C wide."""
        return APPNPEncoder(self, in_channels, out_channels)


class APPNPEncoder(Encoder):
    """z_0 = MLP(x), z <- (1 - teleport) A_hat z + teleport z_0, ``steps`` times.

    A_hat = D^-1/2 (A + I)^T D^-1/2, D the in-degrees on both sides, as PyTorch Geometric takes a directed graph.
    """

    def __init__(self, options: APPNP, in_channels: int, out_channels: int) -> None:
        super().__init__()
        widths = [in_channels, *[options.hidden_channels] * (options.num_layers - 1), out_channels]
        self.layers = nn.ModuleList(AffineBlock(*pair) for pair in pairwise(widths))
        self.undirected = options.view == "undirected"
        self.steps = options.steps
        self.teleport = options.teleport
        self.dropout = options.dropout
        self.width = out_channels

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """[N, W]."""
        first, *others = self.layers
        start: Tensor = first(x)
        for layer in others:
            start = layer(dropout(start.relu(), self.dropout, self.training))
        operator, z = (graph.undirected if self.undirected else graph).symmetric, start
        for _ in range(self.steps):
            z = (1 - self.teleport) * (operator @ z) + self.teleport * start
        return z
