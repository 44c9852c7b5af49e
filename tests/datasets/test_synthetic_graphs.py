"""Graphs that are drawn: what is drawn has the distribution that the recipe says."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
import torch

from runner.contracts import LinkPrediction, NodeClassification
from runner.datasets.synthetic_graphs import BarabasiAlbert, smooth_features
from runner.errors import BadInput


def drawn(draw: int = 0, kind: str = "NodeClassification", **changed: int) -> NodeClassification | LinkPrediction:
    sizes = {"num_nodes": 200, "attached": 2, "num_features": 10} | changed
    return BarabasiAlbert(**sizes, draw=draw, split="uniform", fold=0, normalize_features=False).load(kind)


def test_the_same_draw_is_the_same_graph() -> None:
    one, same, other = drawn(), drawn(), drawn(1)
    assert one.fingerprint == same.fingerprint == drawn(kind="LinkPrediction").fingerprint
    assert one.fingerprint != other.fingerprint
    assert isinstance(one, NodeClassification)
    assert one.counts() == {"nodes": 200, "edges": 2 * 2 * 198, "features": 10, "classes": 2}


def test_features_have_the_covariance_of_the_recipe() -> None:
    """|x| of a normal x with variance v has mean sqrt(2 v / pi)."""
    graph = networkx.barabasi_albert_graph(12, 2, seed=0)
    adjacency = networkx.to_numpy_array(graph) + np.eye(12)
    scale = np.diag(adjacency.sum(1) ** -0.5)
    variance = np.linalg.inv(2 * np.eye(12) - scale @ adjacency @ scale).diagonal()
    x = smooth_features(adjacency, 40_000, np.random.default_rng(0))
    np.testing.assert_allclose(x.mean(1), np.sqrt(2 * variance / np.pi), rtol=0.03)


def test_classes_follow_the_rule() -> None:
    """The four strong weights decide nearly all classes alone."""
    task = drawn()
    assert isinstance(task, NodeClassification)
    adjacency = torch.eye(200)
    adjacency[task.edge_index[1], task.edge_index[0]] = 1
    score = (adjacency @ task.x / adjacency.sum(1, keepdim=True))[:, :4] @ torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert float(((score > 0) == task.y.bool()).float().mean()) > 0.95


@pytest.mark.parametrize("changed", [{"num_features": 3}, {"num_nodes": 2}])
def test_impossible_sizes_are_told(changed: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="must be"):
        drawn(**changed)
