"""A user's own graph: what is accepted, and one clear line for what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data
from torch_geometric.transforms import NormalizeFeatures

from runner.datasets.graph_tasks import normalize_rows_, simple_edges
from runner.datasets.own import File, PyG
from runner.errors import BadInput

EDGES = np.array([[0, 1, 2, 3, 3], [1, 2, 0, 3, 4]])
GOOD: dict[str, Any] = {
    "x": np.arange(24.0).reshape(6, 4),
    "y": np.array([0, 1, 2, 0, 1, 2]),
    "edge_index": EDGES,
    "train_index": np.array([3, 0]),
    "val_index": np.array([1]),
    "test_index": np.array([5, 4]),
}


def load(path: Path, **choices: Any) -> Any:
    defaults = {"split": "kfold", "fold": 0, "undirected": True, "normalize_features": False}
    return File(path=str(path), **(defaults | choices)).load("NodeClassification")


def saved(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "mine.npz"
    np.savez(path, **{key: value for key, value in (GOOD | changes).items() if value is not None})
    return path


def test_npz(tmp_path: Path) -> None:
    task = load(saved(tmp_path), split="given")
    assert task.name == "mine"
    assert task.counts() == {"nodes": 6, "edges": 8, "features": 4, "classes": 3}
    assert {part: index.tolist() for part, index in task.splits().items()} == {
        "train": [0, 3],
        "val": [1],
        "test": [4, 5],
    }
    assert torch.equal(task.x, torch.arange(24.0).reshape(6, 4))
    assert load(saved(tmp_path), undirected=False).edge_index.tolist() == [[0, 1, 2, 3], [1, 2, 0, 4]]
    assert len(load(saved(tmp_path), fold=4).test) == 1


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = load(saved(tmp_path)).fingerprint
    assert load(saved(tmp_path, edge_index=EDGES[:, ::-1].astype(np.int32))).fingerprint == first
    assert load(saved(tmp_path), normalize_features=True).fingerprint == first
    assert load(saved(tmp_path, y=GOOD["y"][::-1])).fingerprint != first


def test_pt_of_a_data_dict(tmp_path: Path) -> None:
    masks = {f"{part}_mask": torch.arange(6) % 3 == i for i, part in enumerate(("train", "val", "test"))}
    data = Data(*(torch.from_numpy(GOOD[key]) for key in ("x", "edge_index")), y=torch.from_numpy(GOOD["y"]), **masks)
    torch.save(data.to_dict(), tmp_path / "mine.pt")
    task = load(tmp_path / "mine.pt", split="given")
    assert (
        task.fingerprint
        == load(saved(tmp_path, train_index=[0, 3], val_index=[1, 4], test_index=[2, 5]), split="given").fingerprint
    )
    torch.save(data, tmp_path / "mine.pt")
    with pytest.raises(BadInput, match=r"data\.to_dict\(\)"):
        load(tmp_path / "mine.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": None}, "has no 'y'"),
        ({"x": np.ones(6)}, r"x must be \[nodes, features\]"),
        ({"x": np.full((6, 4), np.nan)}, "x must hold finite numbers"),
        ({"y": np.zeros(5, int)}, r"y must be \[6\]"),
        ({"y": np.zeros(6)}, "y must be integers, not float64"),
        ({"y": np.arange(-1, 5)}, r"y must be 0\.\.5; it holds -1\.\.4"),
        ({"edge_index": EDGES.T}, r"edge_index must be \[2, edges\]"),
        ({"edge_index": EDGES + 2}, r"edge_index must be 0\.\.5; it holds 2\.\.6"),
        ({"test_index": np.array([6])}, r"test_index must be 0\.\.5"),
        ({"test_index": np.array([0])}, "a node is twice"),
        ({"val_index": np.array([], int)}, "the val split is empty"),
        ({"val_index": None}, "has neither val_index nor val_mask; use dataset.split=kfold"),
        ({"x": np.array([{}], object)}, "not an .npz of plain arrays"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as told:
        load(saved(tmp_path, **changes), split="given")
    assert "mine.npz" in str(told.value)
    assert "\n" not in str(told.value)


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no file"):
        load(tmp_path / "absent.npz")
    for name in ("noise.npz", "noise.pt", "noise.csv"):
        (tmp_path / name).write_bytes(b"noise")
        with pytest.raises(BadInput, match=name):
            load(tmp_path / name)


def pyg(class_name: str, **choices: Any) -> Any:
    defaults: dict[str, Any] = {
        "root": None,
        "name": None,
        "arguments": {},
        "split": "kfold",
        "fold": 0,
        "undirected": True,
        "normalize_features": False,
    }
    return PyG(class_name=class_name, **(defaults | choices)).load("NodeClassification")


def test_pyg_built_in_graph(empty_cache: Path) -> None:
    assert pyg("KarateClub").counts() == {"nodes": 34, "edges": 156, "features": 34, "classes": 4}
    assert not empty_cache.exists()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"class_name": "KarateKlub"}, "did you mean 'KarateClub'"),
        ({"class_name": "KarateClub", "arguments": {"colour": 1}}, "colour"),
        ({"class_name": "KarateClub", "split": "public"}, "val_mask"),
    ],
)
def test_pyg_errors(empty_cache: Path, choices: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        pyg(**choices)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30), st.booleans())
def test_simple_edges(pairs: list[tuple[int, int]], undirected: bool) -> None:
    made = simple_edges(np.array(pairs, np.int64).reshape(-1, 2).T, 7, undirected=undirected)
    wanted = {(a, b) for a, b in pairs if a != b}
    if undirected:
        wanted |= {(b, a) for a, b in wanted}
    assert list(zip(*made.tolist(), strict=True)) == sorted(wanted)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.05, 1.0, -3.0]))
def test_normalize_rows_is_pygs(seed: int, offset: float) -> None:
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(seed)) + offset
    x[1] = 0
    expected = NormalizeFeatures()(Data(x=x.clone())).x
    assert torch.equal(normalize_rows_(x), expected)
