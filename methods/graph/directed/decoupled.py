"""Networks that propagate without weights, over operators of several kinds, and learn from all results at once.

A2DUG (Maekawa, Sasaki & Onizuka, arXiv 2306.08274), ADPA (Sun et al., ICDE 2024, arXiv 2312.04111): both from memory.
Letters: N nodes, F input width, H hidden width, G operators. A_ij = 1 for an edge i -> j; M, M' and U are A, A^T and
max(A, A^T) with rows that sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from runner.methods.graph.directed.encoding import Encoder, EncodingBackbone
from runner.methods.models.mlp import AffineBlock
from runner.methods.ops.dropout import dropout
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features
from runner.types import PositiveInt, Probability

Walk = tuple[str, ...]
WALKS: dict[str, tuple[Walk, ...]] = {
    "concat": ((), ("both",), ("both", "both"), ("out",), ("out", "out"), ("in",), ("in", "in")),
    "attention": ((), ("out",), ("in",), ("out", "out"), ("in", "in"), ("out", "in"), ("in", "out")),
}
"""Each operator as a product of M (``out``), M' (``in``) and U (``both``), the left factor first."""


@dataclass(kw_only=True, eq=False)
class Decoupled(EncodingBackbone):
    """Two layers: one for each operator, and one after they are joined."""

    hidden_channels: PositiveInt
    join: Literal["concat", "attention"]
    """``concat``: side by side (A2DUG); ``attention``: a weighted sum, by weights of each node's own (ADPA)."""
    dropout: Probability

    def encoder(self, in_channels: int) -> DecoupledEncoder:
        """H wide."""
        return DecoupledEncoder(self, in_channels)


class DecoupledEncoder(Encoder):
    """h_g = ReLU(S_g x W_g + b_g) for the operators S_g; z = ReLU(join(dropout(h_1), …) W + b).

    Attention: sum_g a_g h_g [N, H], where a = softmax over g of q . tanh(h_g W_a + b_a), for each node. S_g x W_g is
    computed from the right: S_g is never made, and multiplies what is H wide.
    """

    def __init__(self, options: Decoupled, in_channels: int) -> None:
        super().__init__()
        hidden = options.hidden_channels
        self.walks = WALKS[options.join]
        self.first = AffineBlock(in_channels, len(self.walks) * hidden)
        attends = options.join == "attention"
        self.scored = nn.Linear(hidden, hidden) if attends else None
        self.query = nn.Parameter(torch.empty(hidden).uniform_(-(hidden**-0.5), hidden**-0.5)) if attends else None
        self.last = AffineBlock(hidden if attends else len(self.walks) * hidden, hidden)
        self.dropout = options.dropout
        self.width = hidden

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """[N, H]."""
        operators = {"out": graph.reversed.mean, "in": graph.mean, "both": graph.undirected.mean}
        states = []
        for walk, h in zip(self.walks, (x @ self.first.weight).chunk(len(self.walks), dim=1), strict=True):
            for step in reversed(walk):
                h = operators[step] @ h
            states.append(h)
        h_NGH = (torch.cat(states, dim=1) + self.first.bias).relu().unflatten(1, (len(self.walks), -1))
        h_NGH = dropout(h_NGH, self.dropout, self.training)
        joined = h_NGH.flatten(1) if self.query is None else (self.weights(h_NGH).unsqueeze(2) * h_NGH).sum(1)
        z: Tensor = self.last(joined).relu()
        return z

    def weights(self, h_NGH: Tensor) -> Tensor:
        """a [N, G], rows of sum 1."""
        assert self.scored is not None
        assert self.query is not None
        weights: Tensor = (self.scored(h_NGH).tanh() @ self.query).softmax(1)
        return weights
