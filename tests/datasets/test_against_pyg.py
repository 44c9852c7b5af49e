"""The same files give what PyTorch Geometric's own classes give (its code, run on a copy of the mirror's raw files)."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric import datasets as pyg
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import NormalizeFeatures
from torch_geometric.utils import degree

from runner.contracts import NodeClassification
from runner.datasets.citation import Planetoid
from runner.datasets.npz_graphs import NpzGraph
from runner.datasets.own import PyG
from runner.datasets.tu_graphs import TUGraphs

CHOICES: dict[str, Any] = {"fold": 0, "normalize_features": True}
LINKS = {"link_val_share": 0.16, "link_test_share": 0.2}


@pytest.fixture(scope="module")
def root(genuine_mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pyg")
    for family in ("Planetoid", "CitationFull", "Amazon", "TUDataset"):
        with tarfile.open(genuine_mirror / f"graphs/pyg_raw_{family}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
    return folder / "pyg_raw"


def assert_same(task: NodeClassification, theirs: Any) -> None:
    order = (theirs.edge_index[0] * theirs.num_nodes + theirs.edge_index[1]).argsort()
    assert torch.equal(task.edge_index, theirs.edge_index[:, order])
    assert torch.equal(task.y, theirs.y)
    assert torch.equal(task.x, NormalizeFeatures()(theirs).x)


@pytest.mark.parametrize("name", ["Cora", "CiteSeer", "PubMed"])
def test_planetoid(root: Path, name: str) -> None:
    task = Planetoid(name=name, split="public", **CHOICES, **LINKS).load("NodeClassification")  # type: ignore[arg-type]
    theirs = pyg.Planetoid(str(root / "Planetoid"), name)[0]
    assert_same(task, theirs)
    for part, index in task.splits().items():
        assert torch.equal(index, theirs[f"{part}_mask"].nonzero()[:, 0])


@pytest.mark.parametrize(
    ("name", "family", "graph"),
    [
        ("Cora_ML", "CitationFull", "Cora_ML"),
        ("CiteSeerFull", "CitationFull", "CiteSeer"),
        ("AmazonPhoto", "Amazon", "Photo"),
        ("AmazonComputers", "Amazon", "Computers"),
    ],
)
def test_npz(root: Path, name: str, family: str, graph: str) -> None:
    task = NpzGraph(name=name, split="kfold", **CHOICES).load("NodeClassification")  # type: ignore[arg-type]
    assert_same(task, getattr(pyg, family)(str(root / family), graph)[0])


def test_dataset_pyg_loads_it_too(root: Path) -> None:
    ours = Planetoid(name="Cora", split="public", **CHOICES, **LINKS).load("NodeClassification")
    theirs = PyG(
        class_name="Planetoid",
        root=str(root / "Planetoid"),
        name="Cora",
        arguments={},
        split="public",
        undirected=True,
        **CHOICES,
    ).load("NodeClassification")
    assert theirs.fingerprint == ours.fingerprint
    assert torch.equal(theirs.x, ours.x)
    assert torch.equal(theirs.test, ours.test)


@pytest.mark.parametrize("name", ["MUTAG", "IMDB-BINARY"])
def test_graphs_with_classes(root: Path, name: str) -> None:
    task = TUGraphs(name=name, fold=3).load("GraphClassification")  # type: ignore[arg-type]
    theirs = pyg.TUDataset(str(root / "TUDataset"), name)
    whole = next(iter(DataLoader(theirs, batch_size=len(theirs))))
    order = (whole.edge_index[0] * whole.num_nodes + whole.edge_index[1]).argsort()
    assert torch.equal(task.edge_index, whole.edge_index[:, order])
    assert torch.equal(task.graph_of, whole.batch)
    assert torch.equal(task.y, whole.y)
    if whole.x is not None:
        assert torch.equal(task.x, whole.x)
    else:
        assert torch.equal(task.x.argmax(1), degree(whole.edge_index[1], whole.num_nodes, torch.int64))
    assert torch.equal(torch.cat([task.train, task.test]).sort().values, torch.arange(len(task.y)))
    share = task.y[task.test].double().mean() / task.y.double().mean()
    assert 0.9 < share < 1.1, "stratified"
