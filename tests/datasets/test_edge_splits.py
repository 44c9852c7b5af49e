"""The edge splits: what a split promises, and that it is PyTorch Geometric's."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import RandomLinkSplit
from torch_geometric.utils import to_undirected

from runner.contracts import LinkPrediction, NodeClassification
from runner.datasets.edge_splits import Links, random_links
from runner.datasets.graph_tasks import graph_task, simple_edges
from runner.errors import BadInput


def random_graph(num_nodes: int, num_edges: int, seed: int) -> Tensor:
    ends = np.random.default_rng(seed).integers(0, num_nodes, (2, num_edges))
    return torch.from_numpy(simple_edges(ends, num_nodes))


def as_set(pairs: Tensor) -> set[tuple[int, int]]:
    return set(map(tuple, pairs.T.tolist()))


def both_ways(pairs: Tensor) -> set[tuple[int, int]]:
    return as_set(pairs) | as_set(pairs.flip(0))


def task_of(kind: str, *, fold: int = 0, split: str = "kfold") -> LinkPrediction | NodeClassification:
    x = np.random.default_rng(1).random((40, 5))
    edges = random_graph(40, 80, seed=2).numpy()
    return graph_task(
        kind,
        name="random",
        x=x,
        edge_index=edges,
        y=np.arange(40) % 3,
        published=None,
        split=split,
        fold=fold,
        normalize_features=True,
    )


@settings(deadline=None, max_examples=30)
@given(num_nodes=st.integers(12, 60), seed=st.integers(0, 99), split=st.integers(0, 6))
def test_what_a_split_promises(num_nodes: int, seed: int, split: int) -> None:
    edges = random_graph(num_nodes, 2 * num_nodes, seed)
    links = random_links(edges, num_nodes, split)
    positives = [links.train_pos, links.val_pos, links.test_pos]
    negatives = [links.train_neg, links.val_neg, links.test_neg]
    num_edges = edges.shape[1] // 2
    # Every undirected edge is a positive pair once.
    assert sum(pairs.shape[1] for pairs in positives) == num_edges
    assert both_ways(torch.cat(positives, dim=1)) == as_set(edges)
    assert [pairs.shape[1] for pairs in positives[1:]] == [int(0.16 * num_edges), int(0.2 * num_edges)]
    # Messages never flow along an edge that is still to be told.
    assert as_set(links.train_edge_index) == both_ways(links.train_pos)
    assert as_set(links.test_edge_index) == both_ways(torch.cat([links.train_pos, links.val_pos], dim=1))
    # As many negative pairs, none of them an edge or a node with itself, none twice.
    assert [pairs.shape[1] for pairs in negatives] == [pairs.shape[1] for pairs in positives]
    whole = torch.cat(negatives, dim=1)
    assert not as_set(whole) & as_set(edges)
    assert (whole[0] != whole[1]).all()
    assert len(as_set(whole)) == whole.shape[1]
    for carried in (links.train_edge_index, links.test_edge_index):
        assert ((carried[0] * num_nodes + carried[1]).diff() > 0).all()


def test_is_pygs_transform_after_seeding_everything() -> None:
    edges = random_graph(50, 120, seed=3)
    links = random_links(edges, 50, 2)
    random.seed(202)
    np.random.seed(202)
    torch.manual_seed(202)
    transform = RandomLinkSplit(
        num_val=0.16, num_test=0.2, is_undirected=True, neg_sampling_ratio=1.0, split_labels=False
    )
    for name, part in zip(("train", "val", "test"), transform(Data(edge_index=edges, num_nodes=50)), strict=True):
        pairs = torch.cat([getattr(links, f"{name}_pos"), getattr(links, f"{name}_neg")], dim=1)
        assert torch.equal(part.edge_label_index, pairs)
        assert as_set(part.edge_index) == as_set(links.test_edge_index if name == "test" else links.train_edge_index)


def test_splits_are_fixed_and_differ() -> None:
    edges = random_graph(50, 120, seed=3)
    torch.manual_seed(5)
    first = random_links(edges, 50, 1)
    torch.manual_seed(6)
    again, other = random_links(edges, 50, 1), random_links(edges, 50, 7)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first.test_pos, other.test_pos)


def test_does_not_drift() -> None:
    """Pinned: another version of PyTorch or PyTorch Geometric that draws other edges is to be noticed."""
    links = random_links(random_graph(200, 500, seed=4), 200, 1)
    digest = hashlib.sha256(b"".join(part.numpy().astype("<i8").tobytes() for part in links)).hexdigest()
    assert digest == "448504d4d7fe16196a55f3506b21759e7ed09a53014cf07a65f21e624e4039d0"


def test_the_generators_go_on_where_they_were() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    undisturbed = draws()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    random_links(random_graph(50, 120, seed=3), 50, 0)
    assert draws() == undisturbed


def test_what_cannot_be_split_is_told() -> None:
    edges = random_graph(50, 120, seed=3)
    with pytest.raises(BadInput, match=r"dataset\.undirected=true"):
        random_links(edges[:, 1:], 50, 0)
    with pytest.raises(BadInput, match="5 are too few"):
        random_links(to_undirected(torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])), 6, 0)
    complete = torch.from_numpy(simple_edges(np.argwhere(np.ones((8, 8))).T, 8))
    with pytest.raises(BadInput, match="there are fewer"):
        random_links(complete, 8, 0)


def test_a_dataset_hands_over_the_kind_that_is_asked_for() -> None:
    nodes, links = task_of("NodeClassification"), task_of("LinkPrediction")
    assert isinstance(nodes, NodeClassification)
    assert isinstance(links, LinkPrediction)
    assert links.fingerprint == nodes.fingerprint
    assert torch.equal(links.x, nodes.x)
    assert links.counts().items() < nodes.counts().items()
    assert both_ways(torch.cat([links.train_pos, links.val_pos, links.test_pos], 1)) == as_set(nodes.edge_index)


def test_link_prediction_has_more_than_five_splits_and_no_published_one() -> None:
    sixth, other = task_of("LinkPrediction", fold=5), task_of("LinkPrediction", fold=5, split="public")
    assert all(torch.equal(sixth.splits()[name], pairs) for name, pairs in other.splits().items())
    with pytest.raises(BadInput, match="five folds"):
        task_of("NodeClassification", fold=5)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_pairs_and_labels(split: str) -> None:
    task = task_of("LinkPrediction")
    pairs, labels = task.pairs(split), task.labels(split)
    assert torch.equal(pairs[:, labels == 1], task.positives(split))
    assert torch.equal(pairs[:, labels == 0], task.negatives(split))
    assert labels.dtype == task.x.dtype
    assert task.splits()[f"{split}_pos"] is task.positives(split)
    hidden = not both_ways(task.positives(split)) & as_set(task.message_edges(split))
    assert hidden == (split != "train")


def test_links_have_the_names_of_the_task() -> None:
    task = task_of("LinkPrediction")
    assert all(getattr(task, name) is not None for name in Links._fields)
