"""Graph isomorphism network (Xu et al., ICLR 2019, arXiv 1810.00826), full-batch, without batch norm.

Letters: N nodes, F input width, H output width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from runner.methods.models.initialisation import Propagating
from runner.methods.models.stack import StackedBackbone
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, SparseMatrix
from runner.types import PositiveInt


@dataclass(kw_only=True, eq=False)
class GIN(StackedBackbone):
    """Blocks of one sum over the neighbourhood and a perceptron each."""

    hidden_channels: PositiveInt
    num_layers: PositiveInt
    mlp_layers: PositiveInt
    """Affine maps of a block's perceptron: 2 in the paper; 1 is a GCN that sums without normalisation."""

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> GINBlock:
        """A sum and a perceptron, ``hidden_channels`` wide inside; the head is an ordinary one."""
        return GINBlock([in_channels, *[self.hidden_channels] * (self.mlp_layers - 1), out_channels])


class GINBlock(Propagating):
    """Y = MLP((A + I) X): GIN-0, eq. 4.1 with eps = 0 (the same as PyG's ``GINConv``).

    Initial values as in PyG, those of ``torch.nn.Linear``: uniform in +-1/sqrt(fan_in).
    """

    def __init__(self, widths: list[int]) -> None:
        """``widths``: F, those inside the perceptron, H."""
        super().__init__()
        self.linears = nn.ModuleList([nn.Linear(*pair) for pair in pairwise(widths)])

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """Y [N, H] for X [N, F]."""
        first, *further = self.linears
        # (A + I) (X W): the sum is taken at the narrower width, and X may stay sparse.
        h: Tensor = graph.neighbours_and_self @ (x @ first.weight.T) + first.bias
        for linear in further:
            h = linear(h.relu())
        return h

    def maps(self) -> list[list[Tensor]]:
        """The perceptron's weights, one after the other."""
        return [[linear.weight.T] for linear in self.linears]

    def biases(self) -> list[Tensor]:
        """Those of the perceptron."""
        return [linear.bias for linear in self.linears]

    def operator(self, graph: Graph) -> SparseMatrix:
        """A + I."""
        return graph.neighbours_and_self
