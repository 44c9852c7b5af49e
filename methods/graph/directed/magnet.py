"""MagNet (Zhang et al., NeurIPS 2021, arXiv 2102.11391): Chebyshev filters of the magnetic Laplacian.

Letters: N nodes, F input width, H hidden width, K order. A complex matrix is its real part above its imaginary one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.methods.graph.directed.encoding import Encoder, EncodingBackbone
from runner.methods.graph.directed.operators import magnetic
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, SparseMatrix
from runner.types import NonNegativeFloat, PositiveInt, Probability


@dataclass(kw_only=True, eq=False)
class MagNet(EncodingBackbone):
    """Layers with a complex ReLU after each, then real and imaginary part side by side."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt
    q: NonNegativeFloat
    """Charge: how far an edge turns, in parts of a circle; 0 is the undirected case."""
    order: PositiveInt
    """K."""
    dropout: Probability

    def encoder(self, in_channels: int) -> MagNetEncoder:
        """All layers."""
        return MagNetEncoder(in_channels, self.hidden_channels, self.num_layers, self.q, self.order)


class MagNetEncoder(Encoder):
    """Z_0 = X + iX, Z_l = ReLU(layer_l(Z_{l-1})); output [Re | Im], [N, 2H]."""

    def __init__(self, in_channels: int, hidden: int, num_layers: int, q: float, order: int) -> None:
        super().__init__()
        widths = [in_channels] + [hidden] * (num_layers - 1)
        self.layers = nn.ModuleList(MagnetConvolution(width, hidden, order) for width in widths)
        self.q = q
        self.width = 2 * hidden

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """[N, 2H]."""
        laplacian = graph.kept(magnetic, self.q)
        first, *others = self.layers
        z = complex_relu(first(x, laplacian))
        for layer in others:
            z = complex_relu(layer(z, laplacian))
        return torch.cat(z.chunk(2), dim=1)


class MagnetConvolution(nn.Module):
    """sum_k T_k(L~) Z W_k + b, W_k and b real, b added to both parts.

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
        """[2N, H], for Z [2N, F], or for real features X [N, F] that stand for X + iX."""
        product = z @ self.weight
        if product.shape[0] != laplacian.shape[0]:
            product = product.repeat(2, 1)
        lowest, *terms, above = product.chunk(self.order + 1, dim=1)
        further = torch.zeros_like(lowest)
        for term in reversed(terms):
            above, further = term + 2 * (laplacian @ above) - further, above
        return lowest + laplacian @ above - further + self.bias


def complex_relu(z: Tensor) -> Tensor:
    """Both parts where the real one is not negative, else 0 [2N, H]."""
    keep = (z[: z.shape[0] // 2] >= 0).repeat(2, 1)
    return z * keep
