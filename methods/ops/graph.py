"""The graph as its message-passing blocks see it.

Letters: N nodes, E directed edges (row 0 source, row 1 target: messages flow from source to target).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from runner.methods.ops.sparse import SparseMatrix

Derived = TypeVar("Derived")


class Graph:
    """Edges of a graph, and the operators that follow from them; each is computed once, when first used."""

    def __init__(self, edge_index: Tensor, num_nodes: int, dtype: torch.dtype) -> None:
        """``edge_index`` [2, E], each directed edge at most once; ``dtype`` is that of the operators."""
        self.edge_index = edge_index
        self.num_nodes = num_nodes
        self.dtype = dtype
        self._attention_patterns: dict[int, SparseMatrix] = {}
        self._kept: dict[tuple[Hashable, ...], Any] = {}

    def kept(self, compute: Callable[..., Derived], *arguments: Hashable) -> Derived:
        """``compute(self, *arguments)``, computed once: an operator that only some networks know of."""
        key = (compute, *arguments)
        if key not in self._kept:
            self._kept[key] = compute(self, *arguments)
        derived: Derived = self._kept[key]
        return derived

    @cached_property
    def reversed(self) -> Graph:
        """The graph of all edges turned round."""
        return Graph(self.edge_index.flip(0), self.num_nodes, self.dtype)

    @cached_property
    def undirected(self) -> Graph:
        """The graph of all edges and their reverses, each once: max(A, A^T)."""
        both = torch.cat([self.edge_index, self.edge_index.flip(0)], dim=1)
        return Graph(both.unique(dim=1), self.num_nodes, self.dtype)

    @cached_property
    def neighbours(self) -> SparseMatrix:
        """A [N, N]: 1 at (target, source)."""
        return self._adjacency(self.edge_index)

    @cached_property
    def neighbours_and_self(self) -> SparseMatrix:
        """A + I [N, N], where a node that has a self loop already gets no second one."""
        source, target = self.edge_index[:, self.edge_index[0] != self.edge_index[1]]
        loop = torch.arange(self.num_nodes, device=source.device)
        return self._adjacency(torch.stack([torch.cat([source, loop]), torch.cat([target, loop])]))

    @cached_property
    def symmetric(self) -> SparseMatrix:
        """A_hat = D^-1/2 (A + I) D^-1/2, D the in-degrees of A + I (Kipf & Welling, 2017, sec. 2)."""
        adjacency = self.neighbours_and_self
        scale = adjacency.indptr.diff().to(self.dtype).rsqrt()
        return adjacency.with_values(scale[adjacency.row_of] * scale[adjacency.indices])

    @cached_property
    def mean(self) -> SparseMatrix:
        """D^-1 A, D the in-degrees of A; rows of nodes without neighbours are empty."""
        adjacency = self.neighbours
        return adjacency.with_values(adjacency.indptr.diff().to(self.dtype).reciprocal()[adjacency.row_of])

    def attention_pattern(self, heads: int) -> SparseMatrix:
        """(A + I) (x) identity [N K, N K]: an entry for each edge (or node) and head; see ``ops.attention``."""
        if heads not in self._attention_patterns:
            adjacency = self.neighbours_and_self
            head = torch.arange(heads, device=adjacency.indices.device)
            rows = (adjacency.row_of.unsqueeze(1) * heads + head).flatten()
            columns = (adjacency.indices.unsqueeze(1) * heads + head).flatten()
            size = self.num_nodes * heads
            ones = adjacency.values.repeat_interleave(heads)
            self._attention_patterns[heads] = SparseMatrix.from_entries(rows, columns, ones, (size, size))
        return self._attention_patterns[heads]

    def _adjacency(self, edge_index: Tensor) -> SparseMatrix:
        source, target = edge_index
        ones = torch.ones(source.numel(), dtype=self.dtype, device=source.device)
        return SparseMatrix.from_entries(target, source, ones, (self.num_nodes, self.num_nodes))
