"""Dir-GNN (Rossi et al., LoG 2023, arXiv 2305.10498), and its undirected controls in the same wrapper.

Letters: N nodes, F input width, H hidden width, C classes. A_ij = 1 for an edge i -> j.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.methods.graph.directed.encoding import Encoder, EncodingBackbone
from runner.methods.graph.directed.operators import crossed
from runner.methods.models.gat import GATBlock
from runner.methods.models.mlp import AffineBlock
from runner.methods.ops.dropout import dropout
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features
from runner.types import PositiveInt, Probability

Convolution = Literal["gcn", "sage", "gat", "none"]
View = Literal["apart", "along", "undirected"]


@dataclass(kw_only=True, eq=False)
class DirGNN(EncodingBackbone):
    """After each layer ReLU, dropout, perhaps row normalisation; then jumping knowledge and an affine map."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt
    conv: Literal["gcn", "sage", "gat", "none"]
    """``none``: each node by itself, an MLP in the same wrapper."""
    view: Literal["apart", "along", "undirected"]
    """``apart``: two convolutions, over out- and over in-neighbours; ``along``: one, over in-neighbours, where messages
    go along edges; ``undirected``: one, on max(A, A^T)."""
    alpha: Probability
    """Weight of the out-neighbours; 1 - alpha is that of the in-neighbours."""
    learn_alpha: bool
    jumping: Literal["max", "cat", "none"]
    """``none``: the last layer gives the classes."""
    dropout: Probability
    normalize: bool
    """Rows of unit length after each layer."""

    def encoder(self, in_channels: int) -> DirEncoder:
        """All layers, and their states joined."""
        return DirEncoder(self, in_channels, self.hidden_channels)

    def network(self, in_channels: int, out_channels: int) -> nn.Module:
        """With jumping knowledge an affine map at the end, without dropout before it; else the layers alone."""
        if self.jumping == "none":
            return DirEncoder(self, in_channels, out_channels, ends=True)
        return JumpingClassifier(self.encoder(in_channels), out_channels)


class JumpingClassifier(nn.Module):
    """Linear(encoder(x)): the layers have their own dropout."""

    def __init__(self, encoder: Encoder, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.width, num_classes)

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """[N, C]."""
        logits: Tensor = self.head(self.encoder(x, graph))
        return logits


class DirEncoder(Encoder):
    """h_l = normalise(dropout(ReLU(layer_l(h_{l-1})))); joined by maximum, side by side, or the last alone."""

    def __init__(self, options: DirGNN, in_channels: int, out_channels: int, *, ends: bool = False) -> None:
        """``ends``: the last layer is the output as it comes."""
        super().__init__()
        hidden = options.hidden_channels
        widths = [in_channels, *[hidden] * (options.num_layers - 1), out_channels]
        self.alpha = nn.Parameter(torch.tensor(options.alpha), requires_grad=options.learn_alpha)
        self.layers = nn.ModuleList(
            DirLayer(options.conv, below, above, view=options.view) for below, above in pairwise(widths)
        )
        self.jumping = options.jumping
        self.dropout = options.dropout
        self.normalize = options.normalize
        self.ends = ends
        self.width = hidden * options.num_layers if options.jumping == "cat" else out_channels

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """[N, W]."""
        h: Features = x
        states = []
        for place, layer in enumerate(self.layers):
            h = layer(h, graph, self.alpha)
            if self.ends and place == len(self.layers) - 1:
                return h
            h = dropout(functional.relu(h), self.dropout, self.training)
            if self.normalize:
                h = functional.normalize(h)
            states.append(h)
        if self.jumping == "cat":
            return torch.cat(states, dim=1)
        return torch.stack(states).amax(0) if self.jumping == "max" else states[-1]


class DirLayer(nn.Module):
    """alpha f_out(x) + (1 - alpha) f_in(x), with SAGE + x W_self; or one f, on A^T or on max(A, A^T)."""

    def __init__(self, conv: Convolution, in_channels: int, out_channels: int, *, view: View) -> None:
        super().__init__()
        self.view = view
        self.own = AffineBlock(in_channels, out_channels) if conv in ("sage", "none") else None
        count = 0 if conv == "none" else 2 if view == "apart" else 1
        # Of who sends to a node, and (second) of whom it sends to.
        self.parts = nn.ModuleList(_part(conv, in_channels, out_channels) for _ in range(count))

    def forward(self, x: Features, graph: Graph, alpha: Tensor) -> Tensor:
        """[N, H] for [N, F]."""
        terms = [] if self.own is None else [self.own(x)]
        if len(self.parts) == 1:
            terms.append(self.parts[0](x, graph if self.view == "along" else graph.undirected))
        elif self.parts:
            terms.append((1 - alpha) * self.parts[0](x, graph))
            terms.append(alpha * self.parts[1](x, graph.reversed))
        return sum(terms[1:], terms[0])


def _part(conv: Convolution, in_channels: int, out_channels: int) -> nn.Module:
    if conv == "gat":
        return GATBlock(in_channels, out_channels, heads=1, average=False)
    return Neighbourhood(in_channels, out_channels, mean=conv == "sage")


class Neighbourhood(AffineBlock):
    """S (x W) + b over those who send to a node: S the mean, or D_in^-1/2 A^T D_out^-1/2; without the node itself."""

    def __init__(self, in_channels: int, out_channels: int, *, mean: bool) -> None:
        super().__init__(in_channels, out_channels)
        self.mean = mean

    def forward(self, x: Features, graph: Graph | None = None) -> Tensor:
        """[N, H] for [N, F]."""
        assert graph is not None
        operator = graph.mean if self.mean else graph.kept(crossed)
        return operator @ (x @ self.weight) + self.bias
