"""Graphs that are drawn, not published: their fingerprint follows from the draw and nothing is pinned.

Letters: N nodes, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runner.contracts import Dataset, LinkPrediction, NodeClassification
from runner.datasets.graph_tasks import graph_task, simple_edges
from runner.errors import BadInput
from runner.types import NonNegativeInt, PositiveInt

RULE = (10.0, -10.0, 10.0, -10.0)
"""Weights of the first features; those of the others are small and random."""
OTHER_WEIGHTS = 0.1


@dataclass(kw_only=True)
class BarabasiAlbert(Dataset):
    """Preferential attachment, features that vary smoothly over the graph, two classes by a known linear rule."""

    num_nodes: PositiveInt
    attached: PositiveInt
    num_features: PositiveInt
    draw: NonNegativeInt
    split: Literal["uniform", "kfold"]
    fold: NonNegativeInt
    normalize_features: bool

    def load(self, task: str) -> NodeClassification | LinkPrediction:
        """x float32 [N, F], not negative; y = 1 where (D^-1 A X) w > 0, A with self-loops.

        Raises:
            BadInput: fewer nodes than a new one is attached to, or fewer features than the rule has.
        """
        if self.num_nodes <= self.attached:
            raise BadInput(f"dataset.num_nodes={self.num_nodes} must be above dataset.attached={self.attached}")
        if self.num_features < len(RULE):
            raise BadInput(f"dataset.num_features must be at least {len(RULE)}; got {self.num_features}")
        from networkx import barabasi_albert_graph

        edges = np.array(barabasi_albert_graph(self.num_nodes, self.attached, seed=self.draw).edges).T
        generator = np.random.default_rng(self.draw)
        edge_index = simple_edges(edges, self.num_nodes)
        adjacency = np.eye(self.num_nodes)
        adjacency[edge_index[1], edge_index[0]] = 1
        x = smooth_features(adjacency, self.num_features, generator)
        weight = OTHER_WEIGHTS * generator.standard_normal(self.num_features)
        weight[: len(RULE)] = RULE
        score = (adjacency @ x) @ weight / adjacency.sum(1)
        return graph_task(
            task,
            name="BarabasiAlbert",
            x=x.astype(np.float32),
            edge_index=edge_index,
            y=(score > 0).astype(np.int64),
            published=None,
            split=self.split,
            fold=self.fold,
            normalize_features=self.normalize_features,
        )


def smooth_features(
    adjacency: NDArray[np.float64], num_features: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """|x|, each column x [N] normal with mean 0 and covariance P^-1, P = I + (I - D^-1/2 A D^-1/2).

    With P = L L^T and z standard normal, x = L^-T z: one factorisation, and no inverse.

    Args:
        adjacency: A [N, N], symmetric, with self-loops; D are its row sums.
        num_features: F.
        generator: draws z.
    """
    from scipy.linalg import cholesky, solve_triangular  # needed by `load` only

    scale = adjacency.sum(1) ** -0.5
    precision = 2 * np.eye(len(adjacency)) - scale[:, None] * adjacency * scale
    factor = cholesky(precision, lower=True, overwrite_a=True)
    z = generator.standard_normal((len(adjacency), num_features))
    return np.abs(solve_triangular(factor, z, lower=True, trans="T"))
