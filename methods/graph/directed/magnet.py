"""MagNet (Zhang et al., NeurIPS 2021, arXiv 2102.11391): Chebyshev filters of the magnetic Laplacian.

Letters: N nodes, F input width, H hidden width, K order. A complex matrix is its real part above its imaginary one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.methods.graph.directed.chebyshev import ChebyshevConvolution
from runner.methods.graph.directed.encoding import Encoder, EncodingBackbone
from runner.methods.graph.directed.operators import magnetic
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features
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
        self.layers = nn.ModuleList(ChebyshevConvolution(width, hidden, order) for width in widths)
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


def complex_relu(z: Tensor) -> Tensor:
    """Both parts where the real one is not negative, else 0 [2N, H]."""
    keep = (z[: z.shape[0] // 2] >= 0).repeat(2, 1)
    return z * keep
