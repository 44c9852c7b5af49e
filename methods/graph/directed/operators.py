"""Operators of directed graphs, each for ``graph.kept(operator, …)``.

Letters: N nodes; A the adjacency [N, N], A_ij = 1 for an edge i -> j; d_out, d_in its row and column sums.
A ``Graph``'s own ``neighbours`` is A^T: row i holds those that send to i.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import SparseMatrix

TOLERANCE = 1e-12
"""Of the stationary distribution, in the sum of absolute differences."""


def crossed(graph: Graph) -> SparseMatrix:
    """D_in^-1/2 A^T D_out^-1/2, without self-loops of its own (Dir-GNN, eq. 5); empty rows where a degree is 0."""
    adjacency = graph.neighbours
    row_scale = adjacency.indptr.diff().to(graph.dtype).rsqrt()
    column_scale = adjacency.transposed.indptr.diff().to(graph.dtype).rsqrt()
    return adjacency.with_values(row_scale[adjacency.row_of] * column_scale[adjacency.indices])


def magnetic(graph: Graph, q: float) -> SparseMatrix:
    """L~ = L - I = -D_s^-1/2 A_s D_s^-1/2 o exp(i Theta), of [Re; Im] as one real matrix [2N, 2N] (MagNet, sec. 3).

    A_s = (A + A^T) / 2, D_s its degrees (0 counts as 1), Theta = 2 pi q (A - A^T). L~ is 2 L / lambda_max - I for the
    bound lambda_max = 2. A mutual edge has phase 0 and A_s = 1, as the definition says; published sparse code loses it.
    """
    both = graph.undirected.neighbours
    row, column = both.row_of, both.indices
    source, target = graph.edge_index
    edge = source * graph.num_nodes + target
    along = torch.isin(row * graph.num_nodes + column, edge).to(graph.dtype)
    against = torch.isin(column * graph.num_nodes + row, edge).to(graph.dtype)
    weight = (along + against) / 2
    degree = torch.zeros(graph.num_nodes, dtype=graph.dtype, device=row.device).index_add(0, row, weight)
    scale = torch.where(degree > 0, degree, torch.ones_like(degree)).rsqrt()
    theta = 2 * math.pi * q * (along - against)
    size = -weight * scale[row] * scale[column]
    real, imaginary = size * theta.cos(), size * theta.sin()
    n = graph.num_nodes
    return SparseMatrix.from_entries(
        torch.cat([row, row, row + n, row + n]),
        torch.cat([column, column + n, column, column + n]),
        torch.cat([real, -imaginary, imaginary, real]),
        (2 * n, 2 * n),
    )


def out_proximity(graph: Graph) -> SparseMatrix:
    """Normalised with self-loops: sum_k A_ik A_jk / d_in(k) (DGCN, second order)."""
    return _operator(_normalised(proximity(adjacency(graph).T.tocsr()) + sparse.eye_array(graph.num_nodes)), graph)


def in_proximity(graph: Graph) -> SparseMatrix:
    """Normalised with self-loops: sum_k A_ki A_kj / d_out(k)."""
    return _operator(_normalised(proximity(adjacency(graph)) + sparse.eye_array(graph.num_nodes)), graph)


def proximity(a: Any) -> Any:
    """A^T D_out^-1 A, where a row without entries adds nothing."""
    return (a.T @ sparse.diags_array(_inverse(a.sum(1))) @ a).tocsr()


def digraph_laplacian(graph: Graph, alpha: float) -> SparseMatrix:
    """L = (Pi^1/2 P Pi^-1/2 + Pi^-1/2 P^T Pi^1/2) / 2, divided by the square roots of its row sums on both sides.

    DiGCN's propagation: P the transition matrix of A + I, Pi the stationary distribution of its chain with teleport.
    """
    transition = transitions(graph)
    root = np.sqrt(stationary(transition, alpha))
    half = sparse.diags_array(root) @ transition @ sparse.diags_array(1 / root)
    return _operator(_normalised((half + half.T) / 2), graph)


def second_order(graph: Graph) -> SparseMatrix:
    """(P^T P + P P^T) / 2 where both have an entry, normalised likewise (DiGCN's inception, k = 2)."""
    transition = transitions(graph)
    one, other = (transition.T @ transition).tocsr(), (transition @ transition.T).tocsr()
    both = one.multiply(other) > 0
    return _operator(_normalised((one.multiply(both) + other.multiply(both)) / 2), graph)


def transitions(graph: Graph) -> Any:
    """P = D^-1 (A + I), a node with a self-loop gets no second one (scipy CSR, float64)."""
    a = adjacency(graph).tolil()
    a.setdiag(1)
    a = a.tocsr()
    return sparse.diags_array(_inverse(a.sum(1))) @ a


def stationary(transition: Any, alpha: float) -> NDArray[np.float64]:
    """pi [N], sum 1: the first N entries, renormalised, of the left eigenvector of [(1 - alpha) P, alpha; 1/N, 0].

    By power iteration: pi <- (1 - alpha) P^T pi + c, with c the same for all nodes.
    """
    n = transition.shape[0]
    backwards = transition.T.tocsr()
    pi = np.full(n, 1 / n)
    for _ in range(math.ceil(math.log(TOLERANCE) / math.log1p(-alpha)) + 1):
        pi = (1 - alpha) * (backwards @ pi) + alpha / n
    found: NDArray[np.float64] = pi / pi.sum()
    return found


def smoothed(graph: Graph, loop: float) -> SparseMatrix:
    """Row-normalised A + loop I: a mean over who is sent to (DIMPA, eq. 2)."""
    a = (adjacency(graph) + loop * sparse.eye_array(graph.num_nodes)).tocsr()
    return _operator(sparse.diags_array(_inverse(a.sum(1))) @ a, graph)


def adjacency(graph: Graph) -> Any:
    """A (scipy CSR, float64)."""
    source, target = graph.edge_index.cpu().numpy()
    return sparse.csr_array((np.ones(source.size), (source, target)), shape=(graph.num_nodes, graph.num_nodes))


def _normalised(matrix: Any) -> Any:
    """D^-1/2 M D^-1/2, D the row sums."""
    scale = sparse.diags_array(np.sqrt(_inverse(matrix.sum(1))))
    return scale @ matrix @ scale


def _inverse(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)


def _operator(matrix: Any, graph: Graph) -> SparseMatrix:
    matrix = sparse.csr_array(matrix)
    matrix.sort_indices()
    device = graph.edge_index.device

    def tensor(values: NDArray[Any], dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device, dtype)

    return SparseMatrix(
        tensor(matrix.indptr, torch.int64),
        tensor(matrix.indices, torch.int64),
        tensor(matrix.data, graph.dtype),
        graph.num_nodes,
    )
