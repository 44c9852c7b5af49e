"""The random walk that says whom a node reaches: M^L, used column by column or row by row, never formed.

Letters: N nodes, L steps, B nodes of a block, l entries kept of a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import SparseMatrix

BLOCK = 256
"""Columns or rows of M^L that are there at a time: 40 MB on PubMed, where all of them are 3.1 GB."""
DECIMALS = 12
"""To which influences are rounded before they are compared, so that equal ones tie however they were summed."""


class Walk:
    """M = D^-1 (A + I), row j the node that is influenced, column i the one that influences; float64."""

    def __init__(self, edge_index: Tensor, num_nodes: int, steps: int) -> None:
        """``edge_index`` [2, E], row 0 source and row 1 target; ``steps`` L."""
        adjacency = Graph(edge_index, num_nodes, torch.float64).neighbours_and_self
        self.adjacency = adjacency
        self.degree = adjacency.indptr.diff()
        """[N], int64: neighbours, the node itself among them."""
        self.matrix = adjacency.with_values(self.degree.double().reciprocal()[adjacency.row_of])
        """M [N, N]."""
        self.num_nodes = num_nodes
        self.steps = steps

    def column_sums(self) -> Tensor:
        """I(i) = sum_j [M^L]_ji, as (M^T)^L 1; [N], float64; they sum to N."""
        ones = torch.ones(self.num_nodes, 1, dtype=torch.float64, device=self.degree.device)
        return self._walked(self.matrix.transposed, ones)[:, 0]

    def columns(self, nodes: Tensor) -> Tensor:
        """[M^L]_ji for the given i [B]: the influence of each on all; [N, B]."""
        return self._walked(self.matrix, self._one_hot(nodes))

    def rows(self, nodes: Tensor) -> Tensor:
        """[M^L]_ji for the given j [B]: the influence of all on each; [N, B], the row j as a column."""
        return self._walked(self.matrix.transposed, self._one_hot(nodes))

    def largest(self, count: int) -> SparseMatrix:
        """Q [N, N]: 1 where [M^L]_ji is not zero and among the ``count`` largest of row j; of ties, larger i first."""
        found = [self._largest_of(nodes, count) for nodes in self.blocks()]
        rows, columns = torch.cat(found, dim=1)
        ones = torch.ones(rows.numel(), dtype=torch.float64, device=rows.device)
        return SparseMatrix.from_entries(rows, columns, ones, (self.num_nodes, self.num_nodes))

    def blocks(self) -> Iterator[Tensor]:
        """All nodes, ``BLOCK`` at a time."""
        yield from torch.arange(self.num_nodes, device=self.degree.device).split(BLOCK)

    def _largest_of(self, nodes: Tensor, count: int) -> Tensor:
        """Places [2, Z] of Q's ones in the given rows."""
        influence = self.rows(nodes).round(decimals=DECIMALS)
        least = influence.topk(min(count, self.num_nodes), dim=0).values[-1]
        above, tied = influence > least, (influence == least) & (influence > 0)
        from_the_last = tied.flip(0).cumsum(0).flip(0)
        place, column = (above | tied & (from_the_last <= count - above.sum(0))).T.nonzero(as_tuple=True)
        return torch.stack([nodes[place], column])

    def _one_hot(self, nodes: Tensor) -> Tensor:
        one_hot = torch.zeros(self.num_nodes, nodes.numel(), dtype=torch.float64, device=nodes.device)
        one_hot[nodes, torch.arange(nodes.numel(), device=nodes.device)] = 1
        return one_hot

    def _walked(self, matrix: SparseMatrix, start: Tensor) -> Tensor:
        for _ in range(self.steps):
            start = matrix @ start
        return start
