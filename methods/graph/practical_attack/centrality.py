"""Centralities by rustworkx, on the graph with self-loops; [N], float64, rounded so that equal nodes tie."""

from __future__ import annotations

from collections.abc import Mapping

import rustworkx
import torch
from torch import Tensor

from runner.methods.graph.practical_attack.walk import DECIMALS
from runner.methods.ops.sparse import SparseMatrix

DAMPING = 0.85


def pagerank(adjacency: SparseMatrix) -> Tensor:
    """Share of time that a surfer spends at each node, with damping 0.85 (networkx's default)."""
    return _values(rustworkx.pagerank(_digraph(adjacency), alpha=DAMPING, tol=1e-10, max_iter=1000), adjacency)


def betweenness(adjacency: SparseMatrix) -> Tensor:
    """Share of the shortest paths that lead over each node, exact and unweighted."""
    one_thread = adjacency.shape[0] + 1  # several would add up in another order each time
    found = rustworkx.digraph_betweenness_centrality(_digraph(adjacency), parallel_threshold=one_thread)
    return _values(found, adjacency)


def _digraph(adjacency: SparseMatrix) -> rustworkx.PyDiGraph[int, None]:
    graph: rustworkx.PyDiGraph[int, None] = rustworkx.PyDiGraph()
    graph.add_nodes_from(range(adjacency.shape[0]))
    graph.add_edges_from_no_data(list(zip(adjacency.indices.tolist(), adjacency.row_of.tolist(), strict=True)))
    return graph


def _values(found: Mapping[int, float], adjacency: SparseMatrix) -> Tensor:
    values = [found[node] for node in range(adjacency.shape[0])]
    return torch.tensor(values, dtype=torch.float64).round(decimals=DECIMALS)
