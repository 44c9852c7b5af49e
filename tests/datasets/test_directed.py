"""Directed graphs as data: arcs stay as published, pairs have the right classes and never leak."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from runner import registry
from runner.contracts import Dataset, NodeClassification, PairClassification
from runner.datasets import directed, sources
from runner.datasets.node_splits import per_class, random_nodes
from runner.datasets.pair_splits import directed_pairs
from runner.datasets.sources import Status
from runner.errors import BadInput, CorruptData

NAMES = [
    name
    for name in registry.choices("dataset")
    if "PairClassification" in registry.read("dataset", name).get("_tasks_", [])
]
PINNED = [name for name in NAMES if name != "dsbm"]


def dataset(name: str, **overrides: Any) -> Dataset:
    section = registry.read("dataset", name) | overrides
    made: Dataset = registry.build({key: 0 if value == "${seed}" else value for key, value in section.items()})
    if any(sources.status(file) in (Status.URL, Status.MISSING) for file in made.files()):  # type: ignore[arg-type]
        pytest.skip("not in the cache, and RUNNER_DATA_MIRROR does not have it")
    return made


def node_task(name: str, **overrides: Any) -> NodeClassification:
    task = dataset(name, **overrides).load("NodeClassification")
    assert isinstance(task, NodeClassification)
    return task


def pair_task(name: str, **overrides: Any) -> PairClassification:
    task = dataset(name, **overrides).load("PairClassification")
    assert isinstance(task, PairClassification)
    return task


def keys(pairs: torch.Tensor, num_nodes: int) -> set[int]:
    return set((pairs[0] * num_nodes + pairs[1]).tolist())


def test_the_family_is_complete() -> None:
    assert {"cora_ml_directed", "citeseer_directed", "telegram", "chameleon", "squirrel", "dsbm"} <= set(NAMES)


@pytest.mark.parametrize("name", PINNED)
def test_content_is_what_is_pinned(name: str) -> None:
    section, task = registry.read("dataset", name), node_task(name)
    assert task.counts() == section["_counts_"]
    assert task.fingerprint == section["_fingerprint_"]
    source, target = task.edge_index
    key = source * task.num_nodes + target
    assert (key.diff() > 0).all()
    assert not torch.isin(target * task.num_nodes + source, key).all(), "it is directed"
    parts = torch.cat(list(task.splits().values()))
    assert len(parts.unique()) == len(parts)


@pytest.mark.parametrize(("name", "mutual"), [("cora_ml_directed", 516), ("telegram", 1572), ("chameleon", 9410)])
def test_mutual_edges_and_self_loops_are_as_counted_elsewhere(name: str, mutual: int) -> None:
    task = node_task(name)
    source, target = task.edge_index
    key = source * task.num_nodes + target
    assert int(torch.isin(target * task.num_nodes + source, key).sum()) == mutual


def test_direction_can_be_dropped_and_the_content_stays_the_same() -> None:
    kept, dropped = node_task("texas"), node_task("texas", direction="drop")
    assert kept.fingerprint == dropped.fingerprint
    both = keys(kept.edge_index, 183) | keys(kept.edge_index.flip(0), 183)
    assert keys(dropped.edge_index, 183) == both


def test_published_splits_are_numbered() -> None:
    first, second = node_task("wisconsin"), node_task("wisconsin", fold=1)
    assert [len(part) for part in first.splits().values()] == [120, 80, 51]
    assert not torch.equal(first.test, second.test)
    with pytest.raises(BadInput, match=r"0\.\.9"):
        node_task("wisconsin", fold=10)
    with pytest.raises(BadInput, match="no published split"):
        node_task("dsbm", split="public")


def test_damaged_words_are_told(tmp_path: Any) -> None:
    for content in (
        "id\tf\tl\n0\t0,1\t0\n1\t0,1,1\t1\n",
        "id\tf\tl\n0\t0,2\t0\n",
        "id\tf\tl\n1\t0,1\t0\n",
        "id\tf\n0\t0,1\n",
    ):
        (tmp_path / "words.txt").write_text(content)
        with pytest.raises(CorruptData, match=r"words\.txt"):
            directed._read_content(tmp_path / "words.txt")


def random_graph(seed: int, nodes: int = 30) -> np.ndarray[Any, Any]:
    draw = np.random.default_rng(seed)
    matrix = draw.random((nodes, nodes)) < 0.12
    np.fill_diagonal(matrix, False)
    return np.stack(np.nonzero(matrix)).astype(np.int64)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from(["direction", "existence", "three_class"]))
def test_pairs(seed: int, question: Any) -> None:
    n, edges = 30, random_graph(seed)
    all_ = keys(torch.from_numpy(edges), n)
    pairs = directed_pairs(edges, n, question, val_share=0.05, test_share=0.15, split=seed % 7, absent="unlinked")
    observed = keys(torch.from_numpy(pairs.observed), n)
    assert observed <= all_

    def components(index: np.ndarray[Any, Any]) -> int:
        return int(connected_components(coo_matrix((np.ones(index.shape[1]), tuple(index)), shape=(n, n)), False)[0])

    assert components(pairs.observed) == components(edges), "a spanning forest stays"
    seen: set[int] = set()
    for part, share in ((pairs.train, None), (pairs.val, 0.05), (pairs.test, 0.15)):
        both, label = torch.from_numpy(part[0]), torch.from_numpy(part[1])
        there = [keys(both[:, label == c], n) for c in range(3)]
        reverse = keys(both[:, label == 0].flip(0), n)
        assert there[0] <= all_
        assert not reverse & all_, "mutual edges have no class"
        absent = {"direction": set(), "existence": there[1], "three_class": there[2]}[question]
        if question != "existence":
            assert there[1] == reverse
        counts = label.bincount(minlength=2)
        assert (counts == counts[0]).all(), "classes are balanced"
        turned = {(k % n) * n + k // n for k in absent}
        assert not (absent | turned) & all_
        assert not (there[0] | absent | turned) & seen, "no pair is in two splits"
        seen |= there[0] | absent | turned
        if share is not None:
            assert len(there[0]) == int(share * edges.shape[1])
            assert not (there[0] | reverse) & observed, "no judged edge is in the graph"


def test_magnets_negatives_are_reversed_edges_too() -> None:
    edges, n = random_graph(3), 30
    shares = {"val_share": 0.05, "test_share": 0.15, "split": 0}
    usual = directed_pairs(edges, n, "existence", **shares, absent="unlinked")
    wider = directed_pairs(edges, n, "existence", **shares, absent="unlinked_or_reversed")
    assert np.array_equal(usual.observed, wider.observed)
    all_ = keys(torch.from_numpy(edges), n)
    shares_reversed = []
    for old, new in ((usual.train, wider.train), (usual.test, wider.test)):
        (pairs, label), (before, _) = (map(torch.from_numpy, part) for part in (new, old))
        there, absent = keys(pairs[:, label == 0], n), keys(pairs[:, label == 1], n)
        assert len(there) == len(absent) == int((label == 1).sum()), "balanced, no pair twice"
        assert there == keys(before[:, label == 0], n)
        reverse = keys(pairs[:, label == 0].flip(0), n)
        assert absent <= reverse | keys(before[:, label == 1], n)
        assert not absent & all_
        shares_reversed.append(len(absent & reverse) / len(absent))
    assert 0.2 < shares_reversed[0] < 0.8
    for question in ("direction", "three_class"):
        one, other = (directed_pairs(edges, n, question, **shares, absent=absent) for absent in ABSENT)
        assert all(np.array_equal(a, b) for a, b in zip(one.train, other.train, strict=True))


ABSENT = ("unlinked", "unlinked_or_reversed")


def test_too_few_edges_are_told() -> None:
    path = np.array([[0, 1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 8]])
    with pytest.raises(BadInput, match="outside a spanning forest"):
        directed_pairs(path, 9, "direction", val_share=0.2, test_share=0.2, split=0, absent="unlinked")
    with pytest.raises(BadInput, match="0 are one-way"):
        pair_task("dsbm", direction="drop", cluster_size=8)


def test_degrees_are_of_the_observed_graph() -> None:
    task = pair_task("dsbm", cluster_size=10, density=0.3)
    source, target = task.edge_index
    assert torch.equal(task.x[:, 0], target.bincount(minlength=50).float())
    assert torch.equal(task.x[:, 1], source.bincount(minlength=50).float())
    total = pair_task("dsbm", cluster_size=10, density=0.3, pair_features="total_degree")
    assert torch.allclose(total.x[:, 0].expm1(), task.x.sum(1))
    assert pair_task("dsbm", cluster_size=10, density=0.3, pair_features="own").x.unique().tolist() == [1.0]
    assert task.counts()["edges"] > task.edge_index.shape[1]


@pytest.mark.parametrize("pattern", ["ordered", "cyclic", "fill"])
def test_a_block_model_has_its_probabilities(pattern: str) -> None:
    task = node_task("dsbm", pattern=pattern)
    assert (task.y.bincount() == 100).all()
    source, target = (task.y[end] for end in task.edge_index)
    counts = torch.zeros(5, 5)
    counts.index_put_((source, target), torch.ones(len(source)), accumulate=True)
    both = counts + counts.T
    ahead = (torch.arange(5) - torch.arange(5)[:, None]) % 5
    following = torch.ones(5, 5).triu(1).bool() if pattern == "ordered" else ahead == 1
    assert torch.allclose((counts / both)[following], torch.tensor(0.95), atol=0.03)
    assert torch.allclose((counts / both).diagonal(), torch.tensor(0.5), atol=0.01)
    apart = ~(following | following.T | torch.eye(5).bool())
    if pattern == "cyclic":
        assert not both[apart].any()
    elif pattern == "fill":
        assert torch.allclose((counts / both)[apart], torch.tensor(0.5), atol=0.06)
    off = both[following]
    assert torch.allclose(off, torch.tensor(1000.0), atol=130), "a tenth of all pairs has an edge"
    assert node_task("dsbm", pattern=pattern, graph_seed=1).fingerprint != task.fingerprint


def test_block_models_have_features_if_asked() -> None:
    assert node_task("dsbm").x.unique().tolist() == [1.0]
    task = node_task("dsbm", num_features=16, degrees=True)
    assert task.x.shape == (500, 18)
    assert torch.allclose(task.x[:, 16:].mean(), torch.tensor(1.0))
    in_degree = task.edge_index[1].bincount(minlength=500).float()
    assert torch.allclose(task.x[:, 16] / task.x[0, 16], in_degree / in_degree[0])


def test_node_splits() -> None:
    split = random_nodes(50, 3, train_share=0.48, val_share=0.32)
    assert [len(part) for part in split] == [24, 16, 10]
    assert np.array_equal(np.sort(np.concatenate(split)), np.arange(50))
    y = np.arange(700) % 3
    split = per_class(y, 0)
    assert np.array_equal(np.bincount(y[split.train]), [20, 20, 20])
    assert [len(part) for part in split] == [60, 500, 140]
    with pytest.raises(BadInput, match="too few"):
        per_class(y[:500], 0)
    with pytest.raises(BadInput, match="part empty"):
        random_nodes(5, 0, train_share=0.5, val_share=0.5)
