"""Jumping knowledge networks of graph convolutions (Xu et al., ICML 2018, arXiv 1806.03536).

Letters: N nodes, H hidden width, L hidden layers, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import Backbone
from runner.methods.models.gcn import GCNBlock
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features
from runner.types import PositiveInt, Probability


@dataclass(kw_only=True, eq=False)
class JKNet(Backbone):
    """Graph convolutions whose hidden outputs are all read by the last one."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt
    """L + 1: the last one gives the output."""
    jump: Literal["concat", "max"]
    dropout: Probability

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> GCNBlock:
        """A graph convolution; the head is an ordinary one."""
        return GCNBlock(in_channels, out_channels)

    def network(self, in_channels: int, out_channels: int) -> JumpingNetwork:
        """L convolutions, and one from their outputs, joined, to ``out_channels``; L = 0: that one alone."""
        hidden = self.num_layers - 1
        widths = [in_channels] + [self.hidden_channels] * hidden
        joined = widths[-1] * (hidden if self.jump == "concat" and hidden else 1)
        blocks = [self.block(*pair) for pair in pairwise(widths)]
        return JumpingNetwork([*blocks, self.block(joined, out_channels, head=True)], self.jump, self.dropout)


class JumpingNetwork(nn.Module):
    """h_l = ReLU(block_l(dropout(h_{l-1}))), output block_{L+1}(join(h_1, …, h_L)).

    ``join`` puts the undropped h_l beside one another, or takes their elementwise maximum. The features h_0 and the
    joined outputs are not dropped.
    """

    def __init__(self, blocks: Sequence[nn.Module], jump: Literal["concat", "max"], dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.jump = jump
        self.dropout = dropout

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """Output [N, C] for features x [N, F]."""
        *hidden, last = self.blocks
        outputs: list[Tensor] = []
        for block in hidden:
            below = functional.dropout(outputs[-1], self.dropout, self.training) if outputs else x
            outputs.append(block(below, graph).relu())
        output: Tensor = last(self._joined(outputs) if outputs else x, graph)
        return output

    def _joined(self, outputs: list[Tensor]) -> Tensor:
        """[N, L H] or [N, H]."""
        return torch.cat(outputs, dim=1) if self.jump == "concat" else torch.stack(outputs).max(dim=0).values
