"""The random walk that says whom a node reaches: M^L, taken a few sparse rows or columns at a time, never whole.

Letters: N nodes, L steps, B nodes of a block, Z entries, l entries kept of a row. All of it is on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_array, eye_array
from torch import Tensor

from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import SparseMatrix

BLOCK = 512
"""Rows or columns of M^L that are there at a time: on PubMed, where all of them are 3.1 GB if dense, a few MB."""
DECIMALS = 12
"""To which influences are rounded before they are compared, so that equal ones tie however they were summed."""


class Walk:
    """M = D^-1 (A + I), row j the node that is influenced, column i the one that influences; float64."""

    def __init__(self, edge_index: Tensor, num_nodes: int, steps: int) -> None:
        """``edge_index`` [2, E], row 0 source and row 1 target; ``steps`` L."""
        self.adjacency = Graph(edge_index.cpu(), num_nodes, torch.float64).neighbours_and_self
        """A + I [N, N]."""
        self.degree = self.adjacency.indptr.diff()
        """[N], int64: neighbours, the node itself among them."""
        self.num_nodes = num_nodes
        self.steps = steps
        values = self.degree.double().reciprocal()[self.adjacency.row_of]
        parts = tuple(part.numpy() for part in (values, self.adjacency.indices, self.adjacency.indptr))
        self.matrix = csr_array(parts, shape=(num_nodes, num_nodes))
        """M [N, N]."""
        self.transposed = csr_array(self.matrix.T)

    def column_sums(self) -> Tensor:
        """I(i) = sum_j [M^L]_ji, as (M^T)^L 1; [N], float64; they sum to N."""
        sums = np.ones(self.num_nodes)
        for _ in range(self.steps):
            sums = self.transposed @ sums
        return torch.from_numpy(sums)

    def columns(self, nodes: Tensor) -> SparseMatrix:
        """[M^L]_ji for the given i [B]: the influence of each on all; [B, N], the column i as a row."""
        return _of_scipy(self._walked(self.transposed, nodes))

    def rows(self, nodes: Tensor) -> SparseMatrix:
        """[M^L]_ji for the given j [B]: the influence of all on each; [B, N]."""
        return _of_scipy(self._walked(self.matrix, nodes))

    def largest(self, count: int) -> SparseMatrix:
        """Q [N, N]: 1 where [M^L]_ji is not zero and among the ``count`` largest of row j; of ties, larger i first."""
        found = [self._largest_of(nodes, count) for nodes in self.blocks()]
        rows, columns = torch.cat(found, dim=1)
        ones = torch.ones(rows.numel(), dtype=torch.float64)
        return SparseMatrix.from_entries(rows, columns, ones, (self.num_nodes, self.num_nodes))

    def blocks(self) -> Iterator[Tensor]:
        """All nodes, ``BLOCK`` at a time."""
        yield from torch.arange(self.num_nodes).split(BLOCK)

    def _largest_of(self, nodes: Tensor, count: int) -> Tensor:
        """Places [2, Z] of Q's ones in the given rows."""
        rows = self.rows(nodes)
        row = rows.row_of.numpy()
        order = torch.from_numpy(np.lexsort((rows.indices.numpy(), rows.values.numpy().round(DECIMALS), row)))
        # Sorted within each row, the largest last: an entry's distance from its row's end is its rank.
        kept = order[rows.indptr[1:][rows.row_of] - torch.arange(len(row)) <= count]
        return torch.stack([nodes[rows.row_of[kept]], rows.indices[kept]])

    def _walked(self, matrix: csr_array, nodes: Tensor) -> csr_array:
        """The given rows of ``matrix`` to the power L."""
        rows = csr_array(eye_array(self.num_nodes, format="csr"))[nodes.numpy()]
        for _ in range(self.steps):
            rows = rows @ matrix
        return rows


def _of_scipy(matrix: csr_array) -> SparseMatrix:
    indptr, indices = (torch.from_numpy(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices))
    return SparseMatrix(indptr, indices, torch.from_numpy(matrix.data), matrix.shape[1])
