"""Graph convolutional network with dropout between its layers, none on the features (Kipf & Welling, ICLR 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from runner.methods.models.gcn import GCN
from runner.methods.models.stack import Stack
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features
from runner.types import PositiveInt, Probability


@dataclass(kw_only=True, eq=False)
class DroppedGCN(GCN):
    """Blocks of one graph convolution each, the hidden outputs dropped at random while training."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt
    dropout: Probability

    def network(self, in_channels: int, out_channels: int) -> DroppedStack:
        """``num_layers`` blocks from ``in_channels`` over ``hidden_channels`` to ``out_channels``."""
        return DroppedStack([*super().network(in_channels, out_channels).blocks], self.dropout)


class DroppedStack(Stack):
    """h_l = dropout(ReLU(block_l(h_{l-1}))) for l < L, output block_L(h_{L-1})."""

    def __init__(self, blocks: Sequence[nn.Module], dropout: float) -> None:
        super().__init__(blocks)
        self.dropout = dropout

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """Output [N, C] for features x [N, F]."""
        *hidden, last = self.blocks
        h = x
        for block in hidden:
            h = functional.dropout(block(h, graph).relu(), self.dropout, self.training)
        output: Tensor = last(h, graph)
        return output
