"""Every pinned graph of ``conf/dataset``: the YAML fits its class, content and counts are what is pinned.

Cora, CiteSeer and PubMed come from a package registry, once; others need the mirror, or a cache that has them.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import runner.conf
from runner.contracts import Dataset, NodeClassification
from runner.datasets import sources
from runner.datasets.sources import Status
from runner.errors import BadInput

FOLDER = Path(runner.conf.__file__).parent / "dataset"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if "LinkPrediction" in path.read_text())
PINNED = [name for name in NAMES if name not in ("file", "pyg", "barabasi_albert")]
FROM_REGISTRY = ["cora", "citeseer", "pubmed"]


def composed(name: str, **overrides: Any) -> dict[str, Any]:
    dataset = OmegaConf.merge(OmegaConf.load(FOLDER / f"{name}.yaml"), overrides)
    return OmegaConf.to_container(OmegaConf.create({"seed": 0, "dataset": dataset}), resolve=True)["dataset"]  # type: ignore[index,call-overload,return-value]


def make(config: dict[str, Any]) -> Dataset:
    module, _, name = config["_target_"].rpartition(".")
    made = getattr(importlib.import_module(module), name)
    return made(**{key: value for key, value in config.items() if not key.startswith("_")})  # type: ignore[no-any-return]


def load(name: str, **overrides: Any) -> NodeClassification:
    dataset = make(composed(name, **overrides))
    if any(sources.status(file) in (Status.URL, Status.MISSING) for file in dataset.files()):  # type: ignore[attr-defined]
        pytest.skip("not in the cache, and RUNNER_DATA_MIRROR does not have it")
    task = dataset.load("NodeClassification")
    assert isinstance(task, NodeClassification)
    return task


@pytest.mark.parametrize("name", NAMES)
def test_yaml_fits_the_class(name: str) -> None:
    own = {"path": "graph.npz"} if name == "file" else {"class_name": "KarateClub"} if name == "pyg" else {}
    config = composed(name, **own)
    files = make(config).files()  # type: ignore[attr-defined]
    assert config["_tasks_"] == ["NodeClassification", "LinkPrediction"]
    assert bool(files) == ("_fingerprint_" in config) == ("_counts_" in config) == (name in PINNED)
    assert len({file.name for file in files}) == len(files)


@pytest.mark.parametrize("name", PINNED)
def test_content_is_what_is_pinned(name: str) -> None:
    config = composed(name)
    task = load(name)
    assert task.counts() == config["_counts_"]
    assert task.fingerprint == config["_fingerprint_"]
    source, target = task.edge_index
    key = source * task.num_nodes + target
    assert (key.diff() > 0).all()
    assert (source != target).all()
    assert torch.equal(key, torch.sort(target * task.num_nodes + source).values)
    assert task.x.dtype == torch.float32
    assert task.y.dtype == task.edge_index.dtype == torch.int64
    assert task.y.unique().tolist() == list(range(task.num_classes))
    sums = task.x.sum(1)
    assert (torch.isclose(sums, torch.tensor(1.0), atol=1e-5) | (sums == 0)).all()


@pytest.mark.parametrize("name", FROM_REGISTRY)
def test_fingerprint_does_not_hang_on_options(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNNER_DATA_MIRROR", raising=False)
    first, other = load(name), load(name, fold=3, normalize_features=False)
    assert first.fingerprint == other.fingerprint
    assert not torch.equal(first.test, other.test)
    assert float(other.x.sum(1).max()) > 1.5


@pytest.mark.parametrize("name", FROM_REGISTRY)
def test_five_folds(name: str) -> None:
    for fold in range(5):
        task = load(name, fold=fold)
        sizes = {part: len(index) / task.num_nodes for part, index in task.splits().items()}
        assert sizes == pytest.approx({"train": 0.64, "val": 0.16, "test": 0.2}, abs=1e-3)
    with pytest.raises(BadInput, match=r"0\.\.4"):
        load(name, fold=5)


@pytest.mark.parametrize(("name", "train"), [("citeseer", 120), ("pubmed", 60), ("cora_planetoid", 140)])
def test_public_split(name: str, train: int) -> None:
    task = load(name, split="public", fold=7)
    assert [len(index) for index in task.splits().values()] == [train, 500, 1000]
    assert len(torch.cat(list(task.splits().values())).unique()) == train + 1500
    assert (task.y[task.train].bincount() == 20).all()


def test_both_coras_are_one_graph() -> None:
    """In another order of nodes and words, so: degrees, classes and words a paper are the same multiset."""
    linqs, planetoid = load("cora", normalize_features=False), load("cora_planetoid", normalize_features=False)

    def profile(task: NodeClassification) -> list[tuple[float, ...]]:
        degree = task.edge_index[0].bincount(minlength=task.num_nodes)
        sizes = task.y.bincount()[task.y]
        return sorted(map(tuple, torch.stack([degree, sizes, task.x.sum(1)]).T.tolist()))

    assert profile(linqs) == profile(planetoid)


def test_recipes_never_repeat_a_place() -> None:
    files = [file for name in PINNED for file in make(composed(name)).files()]  # type: ignore[attr-defined]
    assert len({file.path for file in files}) == len(files)
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in files if file.sha256)


def test_listing_data_does_not_import_torch() -> None:
    script = "import sys; from runner.datasets import sources, unpickle; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
