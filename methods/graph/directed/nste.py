"""NSTE (Kollias et al., AAAI 2022): a source and a target encoding of each node, each updated from the other.

The paper's details were not to be had: this is its idea from memory. Letters: N nodes, F input width, H hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.methods.graph.directed.encoding import Encoder, EncodingBackbone
from runner.methods.models.mlp import AffineBlock
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features
from runner.types import NonNegativeFloat, PositiveInt, Probability


@dataclass(kw_only=True, eq=False)
class NSTE(EncodingBackbone):
    """s' = ReLU(s W_1 + D_out^-a A D_in^-b t W_2), t' = ReLU(t W_3 + D_in^-b A^T D_out^-a s W_4); s_0 = t_0 = x."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt
    exponent: NonNegativeFloat
    """What a and b start from."""
    learn_exponents: bool
    """Whether a and b are learned, for each layer; else they stay."""
    dropout: Probability

    def encoder(self, in_channels: int) -> NSTEEncoder:
        """All layers."""
        return NSTEEncoder(self, in_channels)


class NSTEEncoder(Encoder):
    """[s_L | t_L], [N, 2H]."""

    def __init__(self, options: NSTE, in_channels: int) -> None:
        super().__init__()
        hidden = options.hidden_channels
        widths = [in_channels] + [hidden] * (options.num_layers - 1)
        self.layers = nn.ModuleList(nn.ModuleList(AffineBlock(width, hidden) for _ in range(4)) for width in widths)
        start = torch.full((options.num_layers, 2), options.exponent)
        self.exponents = nn.Parameter(start, requires_grad=options.learn_exponents)
        self.width = 2 * hidden

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """[N, 2H]."""
        sends, receives = graph.reversed.neighbours, graph.neighbours
        out_degree, in_degree = (m.indptr.diff().clamp(min=1).to(graph.dtype).unsqueeze(1) for m in (sends, receives))
        s: Features = x
        t: Features = x
        for layer, (a, b) in zip(self.layers, self.exponents, strict=True):
            own_s, from_t, own_t, from_s = layer
            out_scale, in_scale = out_degree**-a, in_degree**-b
            new_s = own_s(s) + out_scale * (sends @ (in_scale * from_t(t)))
            new_t = own_t(t) + in_scale * (receives @ (out_scale * from_s(s)))
            s, t = new_s.relu(), new_t.relu()
        return torch.cat([s, t], dim=1)
