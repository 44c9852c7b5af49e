"""DIMPA (He, Reinert & Cucuringu, DIGRAC, LoG 2022, arXiv 2106.05194): nodes as sources and as targets.

Letters: N nodes, F input width, H hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.methods.graph.directed.encoding import Encoder, EncodingBackbone
from runner.methods.graph.directed.operators import smoothed
from runner.methods.models.mlp import AffineBlock
from runner.methods.ops.dropout import dropout
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, SparseMatrix
from runner.types import NonNegativeFloat, PositiveInt, Probability


@dataclass(kw_only=True, eq=False)
class DIMPA(EncodingBackbone):
    """Two MLPs of two layers, each followed by a weighted sum of powers of a mean over neighbours."""

    hidden_channels: PositiveInt
    hops: PositiveInt
    loop: NonNegativeFloat
    """Weight of a node itself beside its neighbours' 1."""
    dropout: Probability

    def encoder(self, in_channels: int) -> DIMPAEncoder:
        """Both sides."""
        return DIMPAEncoder(self, in_channels)


class DIMPAEncoder(Encoder):
    """[sum_h w_h M^h X_s | sum_h w'_h M'^h X_t], M and M' row-normalised A + loop I and A^T + loop I; w start at 1."""

    def __init__(self, options: DIMPA, in_channels: int) -> None:
        super().__init__()
        hidden = options.hidden_channels
        self.first = nn.ModuleList(AffineBlock(in_channels, hidden) for _ in range(2))
        self.second = nn.ModuleList(AffineBlock(hidden, hidden) for _ in range(2))
        self.hop_weights = nn.Parameter(torch.ones(2, options.hops + 1))
        self.loop = options.loop
        self.dropout = options.dropout
        self.width = 2 * hidden

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """[N, 2H]."""
        means = (graph.kept(smoothed, self.loop), graph.reversed.kept(smoothed, self.loop))
        sides = []
        for first, second, weights, mean in zip(self.first, self.second, self.hop_weights, means, strict=True):
            h = dropout(first(x).relu(), self.dropout, self.training)
            sides.append(weighted_powers(mean, second(h), weights))
        return torch.cat(sides, dim=1)


def weighted_powers(matrix: SparseMatrix, h: Tensor, weights: Tensor) -> Tensor:
    """sum_k weights_k matrix^k h [N, H]."""
    total = weights[0] * h
    for weight in weights[1:]:
        h = matrix @ h
        total = total + weight * h
    return total
