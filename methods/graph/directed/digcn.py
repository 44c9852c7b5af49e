"""DiGCN (Tong et al., NeurIPS 2020): a Laplacian of the directed graph's random walk, alone or in inception blocks.

Letters: N nodes, F input width, H hidden width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn

from runner.methods.graph.directed.encoding import Encoder, EncodingBackbone
from runner.methods.graph.directed.operators import digraph_laplacian, second_order
from runner.methods.models.mlp import AffineBlock
from runner.methods.ops.dropout import dropout
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features
from runner.types import PositiveInt, Probability


@dataclass(kw_only=True, eq=False)
class DiGCN(EncodingBackbone):
    """The last layer gives the classes."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt
    alpha: Annotated[float, Meta(gt=0, lt=1)]
    """Probability of the walk's teleport."""
    inception: Literal["none", "sum", "concat"]
    """Blocks of a 0-hop, a first- and a second-order branch, joined so, without ReLU between them."""
    dropout: Probability

    def encoder(self, in_channels: int) -> DiGCNEncoder:
        """All layers, H wide to the last; 3H where branches stand side by side."""
        return DiGCNEncoder(self, in_channels, self.hidden_channels)

    def network(self, in_channels: int, out_channels: int) -> nn.Module:
        """All layers, C wide at the last; where branches stand side by side, an affine map after them."""
        if self.inception == "concat":
            return super().network(in_channels, out_channels)
        return DiGCNEncoder(self, in_channels, out_channels)


class DiGCNEncoder(Encoder):
    """h_l = layer_l(h_{l-1}); between layers ReLU and dropout, in inception blocks dropout within."""

    def __init__(self, options: DiGCN, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.inception = options.inception
        branches = 1 if self.inception == "none" else 3
        self.beside = 3 if self.inception == "concat" else 1
        above = [options.hidden_channels] * (options.num_layers - 1) + [out_channels]
        below = [in_channels, *(self.beside * width for width in above[:-1])]
        self.layers = nn.ModuleList(
            nn.ModuleList(AffineBlock(*widths) for _ in range(branches)) for widths in zip(below, above, strict=True)
        )
        self.alpha = options.alpha
        self.dropout = options.dropout
        self.width = self.beside * out_channels

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """[N, W]."""
        first = graph.kept(digraph_laplacian, self.alpha)
        h: Features = x
        for place, layer in enumerate(self.layers):
            if self.inception == "none":
                if place:
                    assert isinstance(h, Tensor)
                    h = self._drop(h.relu())
                (branch,) = layer
                h = first @ (h @ branch.weight) + branch.bias
                continue
            own, near, far = layer
            second = graph.kept(second_order)
            terms = [own(h), first @ (h @ near.weight) + near.bias, second @ (h @ far.weight) + far.bias]
            dropped = [self._drop(term) for term in terms]
            h = self._drop(sum(dropped[1:], dropped[0]) if self.beside == 1 else torch.cat(dropped, dim=1))
        assert isinstance(h, Tensor)
        return h

    def _drop(self, h: Tensor) -> Tensor:
        return dropout(h, self.dropout, self.training)
