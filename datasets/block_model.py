"""Directed stochastic block models (Zhang et al., MagNet, NeurIPS 2021, arXiv 2102.11391): made here, no data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runner.contracts import NodeClassification, PairClassification, RawFile
from runner.datasets.directed_tasks import DirectedDataset
from runner.types import NonNegativeInt, PositiveInt, Probability


@dataclass(kw_only=True)
class BlockModel(DirectedDataset):
    """K clusters of equal size; each unordered pair of nodes has an edge with one probability, whatever the clusters.

    All that a cluster decides is which way edges go, with probability F_ab from a to b, F_aa = 1/2:

    - ``ordered``: F_ab = p for a < b.
    - ``cyclic``: p from a to a + 1 modulo K; other clusters have no edge between them.
    - ``fill``: as ``cyclic``, and 1/2 between other clusters.

    In ``ordered`` and ``fill`` the undirected graph knows nothing of the classes.
    """

    pattern: Literal["ordered", "cyclic", "fill"]
    clusters: PositiveInt
    cluster_size: PositiveInt
    density: Probability
    """Probability of an edge."""
    forward: Probability
    """p."""
    num_features: NonNegativeInt
    """Features from N(0, 1); 0: one feature, 1 for all nodes."""
    degrees: bool
    """Whether in- and out-degree are features too, divided by the mean degree."""
    graph_seed: NonNegativeInt

    def files(self) -> Sequence[RawFile]:
        """Empty: nothing to fetch."""
        return ()

    def load(self, task: str) -> NodeClassification | PairClassification:
        """The graph of ``graph_seed``; nodes are in random order."""
        draw = np.random.default_rng([self.graph_seed, 2])
        num_nodes = self.clusters * self.cluster_size
        y = draw.permutation(np.arange(num_nodes) % self.clusters)
        one, other = np.triu_indices(num_nodes, 1)
        linked = draw.random(one.size) < self.density
        one, other = one[linked], other[linked]
        forward, present = self.probabilities()
        stays = present[y[one], y[other]]
        one, other = one[stays], other[stays]
        goes = draw.random(one.size) < forward[y[one], y[other]]
        edges = np.where(goes, np.stack([one, other]), np.stack([other, one]))
        parts = [draw.standard_normal((num_nodes, self.num_features)) if self.num_features else np.ones((num_nodes, 1))]
        if self.degrees:
            counts = np.stack([np.bincount(end, minlength=num_nodes) for end in edges[::-1]], axis=1)
            parts.append(counts / max(counts.mean(), 1))
        x = np.concatenate(parts, axis=1)
        return self.task(task, name=f"DSBM, {self.pattern}", x=x, edges=edges, y=y, published=None)

    def probabilities(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """F [K, K], with F + F^T = 1; and which clusters may have edges between them [K, K]."""
        cluster = np.arange(self.clusters)
        ahead = (cluster[None] - cluster[:, None]) % self.clusters
        following = cluster[:, None] < cluster[None] if self.pattern == "ordered" else ahead == 1
        if self.pattern != "ordered" and self.clusters == 2:
            following = np.triu(following)  # each follows the other: one way must be chosen
        forward = np.where(following, self.forward, np.where(following.T, 1 - self.forward, 0.5))
        apart = ~(following | following.T | np.eye(self.clusters, dtype=bool))
        return forward, ~apart if self.pattern == "cyclic" else np.ones_like(apart)
