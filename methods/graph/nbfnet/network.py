"""The network: generalised Bellman-Ford with learned INDICATOR, MESSAGE and AGGREGATE.

Zhu, Zhang, Xhonneux & Tang, NeurIPS 2021, arXiv 2106.06935.
Letters: B sources, N nodes, E edges, R relations (inverses among them), D width, L layers, C candidates.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from runner.methods.ops.edge_messages import Message, Statistic, gathered, gathered_and_scattered
from runner.methods.ops.relational import RelationalGraph

Aggregate = Literal["sum", "mean", "max", "min", "pna"]
PNA: tuple[Statistic, ...] = ("mean", "max", "min", "std")


def degree_scale(graph: RelationalGraph, dtype: torch.dtype) -> Tensor:
    """s_v = log(d_v + 1) / mean_u log(d_u + 1) [N], d the in-degree: the boundary value is the one more."""
    scale = (graph.in_degree + 1).to(dtype).log()
    return scale / scale.mean()


class BellmanFordLayer(nn.Module):
    """One iteration::

    m = MESSAGE(h_x, w_q(x, r, v))  over the edges (x, r, v), and h^0_v
    a = AGGREGATE(m)                pna: [mean, max, min, std] x [1, s_v, 1 / max(s_v, 0.01)]
    h'_v = ReLU(LayerNorm(Linear([h_v, a]))) + h_v
    """

    def __init__(
        self, width: int, num_relations: int, message: Message, aggregate: Aggregate, *, dependent: bool
    ) -> None:
        """``dependent``: a relation's vector is an affine map of the query, else one of the layer's own."""
        super().__init__()
        self.message, self.num_relations, self.dependent = message, num_relations, dependent
        self.statistics: tuple[Statistic, ...] = PNA if aggregate == "pna" else (aggregate,)
        self.scalers = 3 if aggregate == "pna" else 1
        self.relations: nn.Module = (
            nn.Linear(width, num_relations * width) if dependent else nn.Embedding(num_relations, width)
        )
        self.linear = nn.Linear((1 + len(self.statistics) * self.scalers) * width, width)
        self.norm = nn.LayerNorm(width)

    def relation_vectors(self, query: Tensor) -> Tensor:
        """w_q [R, B, D] for queries [B, D]; [R, 1, D] where they don't depend on it."""
        if self.dependent:
            vectors: Tensor = self.relations(query).unflatten(1, (self.num_relations, -1)).transpose(0, 1)
            return vectors
        assert isinstance(self.relations, nn.Embedding)
        return self.relations.weight.unsqueeze(1)

    def forward(
        self,
        h: Tensor,
        source: Tensor,
        query: Tensor,
        graph: RelationalGraph,
        scale: Tensor,
        weight: Tensor | None = None,
    ) -> Tensor:
        """[N, B, D] -> [N, B, D]; edges are multiplied by ``weight`` [E], one number each, if it is given."""
        inputs = (graph, h, self.relation_vectors(query), source, query, self.message, self.statistics)
        aggregate = gathered(*inputs) if weight is None else gathered_and_scattered(*inputs, weight)
        update = self.norm(self.transform(h, aggregate, scale)).relu()
        return update + h

    def transform(self, h: Tensor, aggregate: Tensor, scale: Tensor) -> Tensor:
        """Linear([h, a]) [N, B, D], for ``aggregate`` [N, B, S D] before it is scaled by ``scale`` [N].

        The columns of pna's weight are (statistic, place, scaler). Scaling after the product spares a tensor of 12 D.
        """
        width = h.shape[2]
        own, theirs = self.linear.weight.split([width, self.linear.in_features - width], dim=1)
        out = nn.functional.linear(h, own, self.linear.bias)
        if self.scalers == 1:
            return out + nn.functional.linear(aggregate, theirs)
        of_one, of_scale, of_inverse = theirs.unflatten(1, (-1, self.scalers)).unbind(2)
        scale = scale.view(-1, 1, 1)
        out = out + nn.functional.linear(aggregate, of_one)
        out = torch.addcmul(out, scale, nn.functional.linear(aggregate, of_scale))
        return torch.addcmul(out, 1 / scale.clamp(min=1e-2), nn.functional.linear(aggregate, of_inverse))


class NBFNet(nn.Module):
    """h^0_v = q at the source, 0 elsewhere; L layers; a pair's score is MLP([h^L_v, q])."""

    def __init__(
        self,
        width: int,
        num_layers: int,
        num_relations: int,
        message: Message,
        aggregate: Aggregate,
        *,
        dependent: bool,
    ) -> None:
        super().__init__()
        self.query = nn.Embedding(num_relations, width)
        self.layers: nn.ModuleList = nn.ModuleList(
            BellmanFordLayer(width, num_relations, message, aggregate, dependent=dependent) for _ in range(num_layers)
        )
        self.mlp = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 1))

    def forward(
        self, source: Tensor, relation: Tensor, graph: RelationalGraph, weights: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """h^L [N, B, D] and q [B, D], for sources [B] and the relations asked [B].

        ``weights`` [E] of the edges, a tensor for each layer, are for interpretation.
        """
        query = self.query(relation)
        passes = torch.arange(len(source), device=source.device)
        h = query.new_zeros(graph.num_nodes, len(source), query.shape[1]).index_put((source, passes), query)
        scale = degree_scale(graph, h.dtype)
        for number, layer in enumerate(self.layers):
            h = layer(h, source, query, graph, scale, weights[number] if weights else None)
        return h, query

    def features(self, h: Tensor, query: Tensor, candidates: Tensor | None = None) -> Tensor:
        """[h_v, q] of the candidates [B, C], or of all nodes: [B, C or N, 2 D]."""
        h = h.transpose(0, 1)
        if candidates is not None:
            h = h.gather(1, candidates.unsqueeze(2).expand(-1, -1, h.shape[2]))
        return torch.cat([h, query.unsqueeze(1).expand(-1, h.shape[1], -1)], dim=2)

    def score(self, features: Tensor) -> Tensor:
        """Logits [B, C] of features [B, C, 2 D]."""
        logits: Tensor = self.mlp(features).squeeze(2)
        return logits


def weighted_loss(logits: Tensor, temperature: float) -> Tensor:
    """Mean over rows of cross-entropy, the first logit of a row [B, 1 + n] being the positive one's.

    The positive weighs 1; the negatives weigh 1 together, evenly or (``temperature`` > 0) by softmax(logit /
    temperature), which takes no gradient (Sun et al., ICLR 2019).
    """
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    negatives = logits[:, 1:].detach()
    shares = (
        (negatives / temperature).softmax(1) if temperature > 0 else torch.full_like(negatives, 1 / negatives.shape[1])
    )
    return ((losses[:, 0] + (shares * losses[:, 1:]).sum(1)) / 2).mean()
