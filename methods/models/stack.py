"""A network as an ordered list of blocks, and what a block may promise to those who train blocks one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from runner.contracts import Backbone, Task
from runner.errors import BadInput
from runner.methods.models.initialisation import Propagating, draw
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


@dataclass(kw_only=True, eq=False)
class StackedBackbone(Backbone):
    """A backbone whose network is its blocks with ReLU between them, all hidden widths equal."""

    init: Literal[
        "default",
        "xavier",
        "kaiming_fan_in",
        "kaiming_fan_out",
        "lecun",
        "orthogonal",
        "linear",
        "virgo",
        "virgo_arithmetic",
        "virgofor",
        "virgoback",
    ]
    """Initial weights: ``default`` are each block's own; see ``runner.methods.models.initialisation``."""
    init_operator: Literal["own", "gcn"]
    """Virgo: how the statistics propagate; by the blocks' own operator, or as the released code does, by GCN's."""
    init_signal: Literal["mean", "features"]
    """Virgo: the mean over features [N], as in the paper, or all features [N, F]."""

    def network(self, in_channels: int, out_channels: int) -> Stack:
        """``num_layers`` blocks from ``in_channels`` over ``hidden_channels`` to ``out_channels``."""
        widths = [in_channels] + [self.hidden_channels] * (self.num_layers - 1)
        hidden = [self.block(*pair) for pair in pairwise(widths)]
        return Stack([*hidden, self.block(widths[-1], out_channels, head=True)])

    def initialise(self, model: nn.Module, task: Task) -> None:
        """Draw the weights of all blocks in ``model`` as ``init`` says, in the order in which the model holds them.

        Raises:
            BadInput: there are none, or Virgo can't look at this task.
        """
        if self.init == "default":
            return
        blocks = [module for module in model.modules() if isinstance(module, Propagating)]
        if not blocks:
            raise BadInput(f"model.init={self.init}: this method's network has no blocks of model=…; use init=default")
        draw(blocks, self.init, task, self.init_operator, self.init_signal)


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
