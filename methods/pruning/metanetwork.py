"""The metanetwork: message passing over a network's graph, which gives slightly other weights (section 3.2 of arXiv
2506.12041).

Letters: N nodes, E edges, D hidden features, F and G features of a node and of an edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-5


@dataclass(frozen=True, eq=False)
class Segments:
    """Edges by the node at one of their ends."""

    node: Tensor
    """That node of each edge [E]."""
    order: Tensor | None
    """Puts the edges into ascending order of it [E]; None: they are."""
    filled: Tensor
    """Nodes that have an edge, ascending."""
    lengths: Tensor
    """How many edges each of these has."""

    @classmethod
    def of(cls, node: Tensor) -> Segments:
        """Sort once; ``node`` [E], int64."""
        ordered = bool((node[1:] >= node[:-1]).all())
        filled, lengths = torch.unique(node, return_counts=True)
        return cls(node, None if ordered else torch.argsort(node, stable=True), filled, lengths)

    def reduced(self, values: Tensor, how: str) -> Tensor:
        """[filled, D] of values [E, D] in ascending order of the node."""
        return torch.segment_reduce(values, how, lengths=self.lengths, unsafe=True)


@dataclass(frozen=True, eq=False)
class Ends:
    """The edges of a graph, by both of their ends."""

    target: Segments
    source: Segments
    num_nodes: int

    @classmethod
    def of(cls, index: Tensor, num_nodes: int) -> Ends:
        """From [2, E]: row 0 sends in the forward direction, row 1 receives."""
        return cls(Segments.of(index[1]), Segments.of(index[0]), num_nodes)


class Layer(nn.Module):
    """One convolution, used along the edges and against them.

    m_ij = f2(x_i) f1(x_j) e_ij,   x_i' = W [mean, std, max, min of m_ij over j] + b,   e_ij' = f3(x_j) f4(x_i) e_ij

    with f = SiLU of an affine map. Against the edges, e is multiplied by s = (1, …, 1, -1, …, -1) before and after.
    """

    sign: Tensor

    def __init__(self, width: int) -> None:
        """``width``: D."""
        super().__init__()
        self.maps = nn.Linear(width, 4 * width)
        """f1, f2, f3 and f4, before SiLU."""
        self.join = nn.Linear(4 * width, width)
        sign = torch.ones(width)
        sign[width // 2 :] = -1
        self.register_buffer("sign", sign, persistent=False)

    def forward(self, x: Tensor, e: Tensor, ends: Ends) -> tuple[Tensor, Tensor]:
        """What is added to nodes [N, D] and edges [E, D]: both directions read the same x and e."""
        f1, f2, f3, f4 = functional.silu(self.maps(x)).chunk(4, dim=1)
        j, i = ends.source.node, ends.target.node
        nodes = self.aggregate(f1[j] * e, f2, ends.target) + self.aggregate(f1[i] * (self.sign * e), f2, ends.source)
        # s^2 = 1: on the edges' own features the sign cancels.
        return nodes, (f3[j] * f4[i] + f3[i] * f4[j]) * e

    def along(self, x: Tensor, e: Tensor, ends: Ends) -> tuple[Tensor, Tensor]:
        """One direction alone: new nodes and edges of the convolution."""
        f1, f2, f3, f4 = functional.silu(self.maps(x)).chunk(4, dim=1)
        j, i = ends.source.node, ends.target.node
        return self.aggregate(f1[j] * e, f2, ends.target), f3[j] * f4[i] * e

    def aggregate(self, messages: Tensor, f2: Tensor, at: Segments) -> Tensor:
        """[N, D]: f2(x_i) is the same in all of a node's messages [E, D], and multiplies what they were reduced to."""
        if at.order is not None:
            messages = messages[at.order]
        scale = f2[at.filled]
        mean = at.reduced(messages, "mean")
        variance = (at.reduced(messages.square(), "mean") - mean.square()).relu()
        high, low = at.reduced(messages, "max"), at.reduced(messages, "min")
        up = scale >= 0
        found = [
            scale * mean,
            (scale.square() * variance + EPSILON).sqrt(),
            scale * torch.where(up, high, low),
            scale * torch.where(up, low, high),
        ]
        # Nodes without a message have the aggregates of none: 0, and sqrt(epsilon).
        none = messages.new_zeros(len(f2), 4, messages.shape[1])
        none[:, 1] = EPSILON**0.5
        joined: Tensor = self.join(none.index_copy(0, at.filled, torch.stack(found, dim=1)).flatten(1))
        return joined


class Metanetwork(nn.Module):
    """output = input + r decoder(layers(encoder(input))), for nodes and edges; r is small, so that little changes."""

    def __init__(self, node_features: int, edge_features: int, *, width: int, layers: int, res_ratio: float) -> None:
        """F, G, D, and r."""
        super().__init__()
        self.width, self.res_ratio = width, res_ratio
        self.node_encoder = nn.Linear(node_features, width)
        self.edge_encoder = nn.Linear(edge_features, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))
        self.node_decoder = decoder(width, node_features)
        self.edge_decoder = decoder(width, edge_features)

    def forward(self, nodes: Tensor, edges: Tensor, ends: Ends) -> tuple[Tensor, Tensor]:
        """New nodes [N, F] and edges [E, G]."""
        x, e = self.node_encoder(nodes), self.edge_encoder(edges)
        for layer in self.layers:
            more_x, more_e = layer(functional.layer_norm(x, (self.width,), eps=EPSILON), e, ends)
            x, e = x + more_x, e + more_e
        return nodes + self.res_ratio * self.node_decoder(x), edges + self.res_ratio * self.edge_decoder(e)


def decoder(width: int, features: int) -> nn.Sequential:
    """LayerNorm, affine map, SiLU, affine map to the features."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, features))
