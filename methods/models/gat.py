"""Graph attention network (Velickovic et al., ICLR 2018, arXiv 1710.10903), without dropout.

Letters: N nodes, E edges (self loops among them), F input width, K heads, D width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.errors import BadInput
from runner.methods.models.initialisation import Propagating
from runner.methods.models.stack import StackedBackbone
from runner.methods.ops.attention import attend
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, SparseMatrix
from runner.types import PositiveInt

NEGATIVE_SLOPE = 0.2
"""Of the LeakyReLU on attention scores (sec. 2.1)."""


@dataclass(kw_only=True, eq=False)
class GAT(StackedBackbone):
    """Blocks of one attention layer each; their widths count all heads together."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt
    heads: PositiveInt

    def __post_init__(self) -> None:
        if self.hidden_channels % self.heads:
            raise BadInput(f"model: hidden_channels={self.hidden_channels} is no multiple of heads={self.heads}")

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> GATBlock:
        """K heads of out_channels / K, concatenated; as the head, K heads of out_channels, averaged (eq. 5, 6)."""
        width = out_channels if head else out_channels // self.heads
        return GATBlock(in_channels, width, heads=self.heads, average=head)


class GATBlock(Propagating):
    """Y_i = concat or mean over k of (sum_j alpha_ijk h_jk) + b, with h = X W (the same as PyG's ``GATConv``).

    alpha_ijk = softmax over the neighbours j of i, and i itself, of LeakyReLU(a_k . h_jk + a'_k . h_ik)
    (eq. 1-6). Initial values as in PyG: W, a, a' Glorot-uniform, b zero.
    """

    def __init__(self, in_channels: int, head_channels: int, *, heads: int, average: bool) -> None:
        super().__init__()
        self.heads = heads
        self.average = average
        self.averaged = heads if average else 1
        self.weight = nn.Parameter(torch.empty(in_channels, heads * head_channels))
        self.source_attention = nn.Parameter(torch.empty(heads, head_channels))
        self.target_attention = nn.Parameter(torch.empty(heads, head_channels))
        self.bias = nn.Parameter(torch.zeros(head_channels if average else heads * head_channels))
        for parameter in (self.weight, self.source_attention, self.target_attention):
            nn.init.xavier_uniform_(parameter)

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """Y [N, K D], or [N, D] where heads are averaged, for X [N, F]."""
        pattern = graph.attention_pattern(self.heads)
        # a . h = X (W a): the scores come out of the same product as h, without a tensor of N x K x D each.
        weight_FKD = self.weight.unflatten(1, (self.heads, -1))
        source_FK = (weight_FKD * self.source_attention).sum(2)
        target_FK = (weight_FKD * self.target_attention).sum(2)
        projected = x @ torch.cat([self.weight, source_FK, target_FK], dim=1)
        h_NKD, source_NK, target_NK = projected.split([self.weight.shape[1], self.heads, self.heads], dim=1)
        y = attend(
            source_NK.flatten(),
            target_NK.flatten(),
            h_NKD.reshape(pattern.shape[0], -1),
            pattern,
            NEGATIVE_SLOPE,
        )
        y_NKD: Tensor = y.unflatten(0, (-1, self.heads))
        return (y_NKD.mean(1) if self.average else y_NKD.flatten(1)) + self.bias

    def maps(self) -> list[list[Tensor]]:
        """W; the attention vectors keep their own initial values."""
        return [[self.weight]]

    def biases(self) -> list[Tensor]:
        """b."""
        return [self.bias]

    def operator(self, graph: Graph) -> SparseMatrix:
        """The mean over neighbours and self: what attention is while all scores are about equal."""
        adjacency = graph.neighbours_and_self
        return adjacency.with_values(adjacency.indptr.diff().to(graph.dtype).reciprocal()[adjacency.row_of])
