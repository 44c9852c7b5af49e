"""A network as an ordered list of blocks, and what a block may promise to those who train blocks one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from runner.contracts import Backbone
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, Product


class Stack(nn.Module):
    """h_l = ReLU(block_l(h_{l-1})) for l < L, output block_L(h_{L-1}): no ReLU after the last block."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """Output [N, C] for features x [N, F]."""
        *hidden, last = self.blocks
        h = x
        for block in hidden:
            h = block(h, graph).relu()
        output: Tensor = last(h, graph)
        return output


class StackedBackbone(Backbone):
    """A backbone whose network is its blocks with ReLU between them, all hidden widths equal."""

    def network(self, in_channels: int, out_channels: int) -> Stack:
        """``num_layers`` blocks from ``in_channels`` over ``hidden_channels`` to ``out_channels``."""
        widths = [in_channels] + [self.hidden_channels] * (self.num_layers - 1)
        hidden = [self.block(*pair) for pair in pairwise(widths)]
        return Stack([*hidden, self.block(widths[-1], out_channels, head=True)])


class AggregateThenTransform(nn.Module, ABC):
    """A block that is a trained map of an aggregate without parameters: ``transform(*aggregate(x, graph))``.

    Who trains such a block alone on a fixed input aggregates once, and transforms only the rows that
    the loss reads.
    """

    @abstractmethod
    def aggregate(self, x: Features, graph: Graph) -> tuple[Features | Product, ...]:
        """What ``transform`` needs of a fixed input: parts [N, F] whose rows may be selected."""

    @abstractmethod
    def transform(self, *parts: Features | Product) -> Tensor:
        """The block's output for the selected rows of the parts."""
