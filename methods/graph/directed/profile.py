"""What direction tells in a graph: measures of the data, without any learning.

Letters: N nodes, E edges without self-loops, C classes; A_ij = 1 for an edge i -> j, U = max(A, A^T); Y one-hot [N, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from runner.contracts import Method, NodeClassification
from runner.methods.graph.directed.operators import adjacency
from runner.methods.ops.graph import Graph

if TYPE_CHECKING:
    from runner.run import Run

Factors = Sequence[Any]


@dataclass(kw_only=True, eq=False)
class DirectionProfile(Method[NodeClassification]):
    """Measures of one graph; ``fit`` does nothing. The class compatibility matrices are kept with the run."""

    show: bool
    """Print those matrices."""

    def build(self, task: NodeClassification, run: Run) -> None:
        """Nothing is learned."""
        self.model = nn.Module()

    def fit(self, task: NodeClassification, run: Run) -> None:
        """Nothing."""

    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        """See :func:`profile`."""
        proper = task.edge_index[0] != task.edge_index[1]
        graph = Graph(task.edge_index[:, proper], task.num_nodes, task.x.dtype)
        a, one_hot = adjacency(graph), np.eye(task.num_classes)[task.y.cpu().numpy()]
        matrices = {name: compatibility(m, one_hot) for name, m in (("out", a), ("in", a.T), ("both", _both(a)))}
        run.save("compatibility", {name: torch.from_numpy(matrix) for name, matrix in matrices.items()})
        if self.show:
            print(written(matrices))
        return profile(a, one_hot)


def profile(a: Any, one_hot: NDArray[np.float64]) -> dict[str, float]:
    """All measures of A (scipy, without self-loops, entries 1) and Y.

    - ``one_way``: share of edges whose reverse is none; ``reciprocity``: the others'.
    - ``direction_entropy``: :func:`direction_entropy`; ``cyclicity``: :func:`cyclicity`.
    - ``compatibility_gap``: :func:`compatibility_gap`.
    - ``edge_homophily`` of A and, ``edge_homophily_undirected``, of U.
    - ``homophily/…``: :func:`homophily` of each operator.
    - ``homophily_directed``: the most of any directed operator of one or two hops; ``homophily_undirected``: of U and
      U U. Dir-GNN's effective homophily, but that a node is not counted as its own neighbour.
    """
    u = _both(a)
    directed = {"out": [a], "in": [a.T], "out_out": [a, a], "in_in": [a.T, a.T], "out_in": [a, a.T], "in_out": [a.T, a]}
    undirected = {"both": [u], "both_both": [u, u]}
    found = {name: homophily(factors, one_hot) for name, factors in (directed | undirected).items()}
    mutual = a.multiply(a.T).sum() / max(a.sum(), 1)
    return {
        "one_way": float(1 - mutual),
        "reciprocity": float(mutual),
        "direction_entropy": direction_entropy(a, one_hot),
        "cyclicity": cyclicity(a),
        "compatibility_gap": compatibility_gap(a, one_hot),
        "edge_homophily": _edge_homophily(a, one_hot),
        "edge_homophily_undirected": _edge_homophily(u, one_hot),
        "homophily_directed": max(found[name] for name in directed),
        "homophily_undirected": max(found[name] for name in undirected),
        **{f"homophily/{name}": value for name, value in found.items()},
    }


def homophily(factors: Factors, one_hot: NDArray[np.float64]) -> float:
    """Mean over nodes i of sum_j S_ij [y_i = y_j] / sum_j S_ij, j != i, for S = S_1 S_2 …, which is never made.

    Nodes whose row is empty are left out; 0 where all are.
    """
    same = np.concatenate([one_hot, np.ones((len(one_hot), 1))], axis=1)
    for factor in reversed(factors):
        same = factor @ same
    loops = factors[0].multiply(factors[1].T).sum(1) if len(factors) == 2 else factors[0].diagonal()
    total = same[:, -1] - loops
    own = (same[:, :-1] * one_hot).sum(1) - loops
    there = total > 0
    return float((own[there] / total[there]).mean()) if there.any() else 0.0


def compatibility(a: Any, one_hot: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the entries in rows of class c that lie in columns of class d [C, C]; a class without entries: zeros."""
    counts = one_hot.T @ (a @ one_hot)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def compatibility_gap(a: Any, one_hot: NDArray[np.float64]) -> float:
    """How differently classes send and receive, 0..1: half the sum of |out - in| over a class's row, mean over classes.

    Of the compatibility matrices of A and A^T; 0: who is sent to are the classes of who is heard from.
    """
    gaps = np.abs(compatibility(a, one_hot) - compatibility(a.T, one_hot)).sum(1) / 2
    return float(gaps.mean())


def written(matrices: dict[str, NDArray[np.float64]]) -> str:
    """Compatibility matrices as text, side by side, in percent."""
    titles = {"out": "sends to class", "in": "hears from class", "both": "either way"}
    size = len(next(iter(matrices.values())))
    width = max(4 * size, max(map(len, titles.values())))
    lines = ["class  " + "   ".join(f"{titles[name]}, %".ljust(width) for name in matrices)]
    lines.append("       " + "   ".join("".join(f"{c:4d}" for c in range(size)).ljust(width) for _ in matrices))
    for row in range(size):
        cells = ("".join(f"{100 * share:4.0f}" for share in matrix[row]).ljust(width) for matrix in matrices.values())
        lines.append(f"{row:5d}  " + "   ".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def direction_entropy(a: Any, one_hot: NDArray[np.float64]) -> float:
    """Entropy in bits, 0..1, of which way a one-way edge goes, given the two classes that it joins; 1 if there is none.

    H(p_cd) of the share p_cd of edges c -> d among those between c and d, averaged over edges; within a class it is 1.
    """
    one_way = a - a.multiply(a.T)
    counts = one_hot.T @ (one_way @ one_hot)
    both = counts + counts.T
    if not both.sum():
        return 1.0
    share = np.divide(counts, both, out=np.full_like(counts, 0.5), where=both > 0)
    surprise = -share * np.log2(share, out=np.zeros_like(share), where=share > 0)
    return float((both * (surprise + surprise.T)).sum() / both.sum())


def cyclicity(a: Any) -> float:
    """Share of cycles among the triangles of one-way edges: each is a cycle or transitive. A fair coin gives 1/4.

    0 where there are no triangles.
    """
    one_way = (a - a.multiply(a.T)).tocsr()
    paths = one_way @ one_way
    cycles = paths.multiply(one_way.T).sum() / 3
    transitive = paths.multiply(one_way).sum()
    return float(cycles / (cycles + transitive)) if cycles + transitive else 0.0


def _edge_homophily(a: Any, one_hot: NDArray[np.float64]) -> float:
    return float(((a @ one_hot) * one_hot).sum() / max(a.sum(), 1))


def _both(a: Any) -> Any:
    return a.maximum(a.T).tocsr()
