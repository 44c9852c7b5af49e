"""Chebyshev filters (Defferrard, Bresson & Vandergheynst, NeurIPS 2016, arXiv 1606.09375), and ChebNet of them.

Letters: N nodes, F input width, H hidden width, K order; M rows of an operator: N, or 2N where it is a complex one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from runner.methods.graph.directed.encoding import Encoder, EncodingBackbone
from runner.methods.graph.directed.operators import crossed
from runner.methods.ops.dropout import dropout
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, SparseMatrix
from runner.types import PositiveInt, Probability


@dataclass(kw_only=True, eq=False)
class ChebNet(EncodingBackbone):
    """Layers with ReLU after each, and then dropout."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt
    view: Literal["along", "undirected"]
    """``along``: A^T, what edges carry; ``undirected``: max(A, A^T)."""
    order: PositiveInt
    """K."""
    dropout: Probability

    def encoder(self, in_channels: int) -> ChebEncoder:
        """All layers."""
        return ChebEncoder(self, in_channels)


class ChebEncoder(Encoder):
    """h_l = dropout(ReLU(layer_l(h_{l-1}))), L~ = -D_in^-1/2 A^T D_out^-1/2: L - I of a symmetric A, lambda_max 2."""

    def __init__(self, options: ChebNet, in_channels: int) -> None:
        super().__init__()
        hidden = options.hidden_channels
        widths = [in_channels] + [hidden] * (options.num_layers - 1)
        self.layers = nn.ModuleList(ChebyshevConvolution(width, hidden, options.order) for width in widths)
        self.undirected = options.view == "undirected"
        self.dropout = options.dropout
        self.width = hidden

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """[N, H]."""
        laplacian = (graph.undirected if self.undirected else graph).kept(negated)
        first, *others = self.layers
        h: Tensor = first(x, laplacian).relu()
        for layer in others:
            h = layer(dropout(h, self.dropout, self.training), laplacian).relu()
        return h


def negated(graph: Graph) -> SparseMatrix:
    """-D_in^-1/2 A^T D_out^-1/2."""
    operator = graph.kept(crossed)
    return operator.with_values(-operator.values)


class ChebyshevConvolution(nn.Module):
    """sum_k T_k(L~) Z W_k + b; of a complex Z, real part above imaginary, W_k and b are real, b is added to both.

    T_0 = I, T_1 = L~, T_k = 2 L~ T_{k-1} - T_{k-2}. Clenshaw's recurrence sums them from the top: so L~ multiplies
    what is H wide, never the features. W is uniform in +-1/sqrt(H), b zero.
    """

    def __init__(self, in_channels: int, out_channels: int, order: int) -> None:
        super().__init__()
        self.order = order
        self.weight = nn.Parameter(torch.empty(in_channels, (order + 1) * out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.uniform_(self.weight, -(out_channels**-0.5), out_channels**-0.5)

    def forward(self, z: Features, laplacian: SparseMatrix) -> Tensor:
        """[M, H] for L~ [M, M] and Z [M, F], or for half as many rows: real features X that stand for X + iX."""
        product = z @ self.weight
        if product.shape[0] != laplacian.shape[0]:
            product = product.repeat(2, 1)
        lowest, *terms, above = product.chunk(self.order + 1, dim=1)
        further = torch.zeros_like(lowest)
        for term in reversed(terms):
            above, further = term + 2 * (laplacian @ above) - further, above
        return lowest + laplacian @ above - further + self.bias
