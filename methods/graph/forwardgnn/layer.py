"""One layer, trained on an input that stays as it is.

Letters: N nodes (virtual ones among them), F input width, H output width, R selected rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import torch
from torch import Tensor, nn

from runner.methods.models.stack import AggregateThenTransform
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, SparseMatrix, Stacked

NORM_EPSILON = 1e-8


@overload
def unit_rows(h: Tensor) -> Tensor: ...
@overload
def unit_rows(h: SparseMatrix) -> SparseMatrix: ...
def unit_rows(h: Tensor | SparseMatrix) -> Tensor | SparseMatrix:
    """norm(h)_i = h_i / (||h_i||_2 + 1e-8): a layer passes on its direction, not its goodness."""
    return divided(h, row_norms(h) + NORM_EPSILON)


def row_norms(h: Tensor | SparseMatrix | Stacked) -> Tensor:
    """||h_i||_2 [N] of the rows of h [N, F]."""
    if isinstance(h, Tensor):
        norms: Tensor = torch.linalg.vector_norm(h, dim=1)
        return norms
    if isinstance(h, SparseMatrix):
        return (h.with_values(h.values.square()) @ h.values.new_ones(h.shape[1], 1)).sqrt().squeeze(1)
    return torch.cat([row_norms(part) for part in h.parts])


@overload
def divided(h: Tensor, by: Tensor) -> Tensor: ...
@overload
def divided(h: SparseMatrix, by: Tensor) -> SparseMatrix: ...
@overload
def divided(h: Stacked, by: Tensor) -> Stacked: ...
def divided(h: Tensor | SparseMatrix | Stacked, by: Tensor) -> Tensor | SparseMatrix | Stacked:
    """h_i / by_i for the rows of h [N, F] and a divisor [N]."""
    if isinstance(h, Tensor):
        return h / by.unsqueeze(1)
    if isinstance(h, SparseMatrix):
        return h.with_values(h.values / by[h.row_of])
    divisors = by.split([part.shape[0] for part in h.parts])
    return Stacked([divided(part, divisor) for part, divisor in zip(h.parts, divisors, strict=True)])


class FixedInputLayer:
    """z = ReLU(block(x)) for a fixed x [N, F], as often as the block's parameters change.

    A block that only transforms an aggregate has it aggregated once, here, and computes only those rows
    that are asked for; loss and gradients are the same. Attention depends on the parameters: there, all
    rows are computed each time.
    """

    def __init__(self, block: nn.Module, x: Features, graph: Graph) -> None:
        self.block = block
        self.x = x
        self.graph = graph
        self.parts = block.aggregate(x, graph) if isinstance(block, AggregateThenTransform) else ()

    def at(self, rows: Tensor) -> Callable[[], Tensor]:
        """A function that computes z at ``rows`` [R] -> [R, H] with the parameters of that moment."""
        block = self.block
        if isinstance(block, AggregateThenTransform):
            parts = [part[rows] for part in self.parts]
            return lambda: block.transform(*parts).relu()
        return lambda: self()[rows]

    def __call__(self) -> Tensor:
        """z [N, H]."""
        if isinstance(self.block, AggregateThenTransform):
            return self.block.transform(*self.parts).relu()
        output: Tensor = self.block(self.x, self.graph)
        return output.relu()
