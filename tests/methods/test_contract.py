"""The contract: every method, and every dataset, goes through the same cases, as a user would meet it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from runner import registry
from runner.compose import compose
from runner.contracts import Dataset, Task
from runner.datasets import sources
from runner.datasets.sources import Status
from runner.store.records import Record, Records
from runner.store.writer import artifact
from tests.conftest import Result

Cli = Callable[..., Result]
UNSET = "???"
COSTS = ("_seconds", "_bytes", "speed")
"""Ends of names, up to a slash, of what is measured: it differs from one time to the next."""
SMALL_GRAPH = ["dataset=file", "dataset.split=kfold"]
SMALL_PAIRS = ["dataset=dsbm", "dataset.cluster_size=8", "dataset.density=0.4"]
SMALL_IMAGES = ["dataset=digits", "dataset.train_size=60", "dataset.val_size=30", "dataset.test_size=40"]
SMALL_CHAIN = ["dataset=cg_chain", "dataset.beads=16", "dataset.frames=2", "dataset.stride=1", "dataset.settling=1"]
SIDE_32 = ["dataset.pad=12"]
"""Digits as large as the images that convolutional networks are made for."""
CONVOLUTIONAL = ("cnn_pool", "autoencoder")
METHODS = [name for name in registry.choices("method") if UNSET not in registry.read("method", name).values()]
DATASETS = [name for name in registry.choices("dataset") if UNSET not in registry.read("dataset", name).values()]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A genuine random graph of 60 nodes, three classes, as a user's own file."""
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = generator.random((60, 12)).astype(np.float32) + np.eye(3, 12, dtype=np.float32)[y]
    edges = generator.integers(0, 60, (2, 240))
    np.savez(tmp_path / "graph.npz", x=x, y=y, edge_index=edges)
    return tmp_path / "graph.npz"


def triples(folder: Path) -> Path:
    """A genuine random knowledge graph of 20 entities and three relations, as a user's own files."""
    draw = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for part, count in (("train", 60), ("valid", 10), ("test", 10)):
        rows = draw.integers(0, 20, (count, 3)) % [20, 3, 20]
        (folder / f"{part}.txt").write_text("\n".join(f"e{head}\tr{kind}\te{tail}" for head, kind, tail in rows))
    return folder


def small(method: str, graph: Path) -> list[str]:
    """A command that makes the smallest run of a method."""
    tasks = registry.read("method", method)["_tasks_"]
    if "ImageClassification" in tasks:
        defaults = str(registry.read("method", method).get("defaults"))
        data = [*SMALL_IMAGES, *(SIDE_32 if any(model in defaults for model in CONVOLUTIONAL) else [])]
    elif {"NodeClassification", "LinkPrediction"} & set(tasks):
        data = [*SMALL_GRAPH, f"dataset.path={graph}"]
    elif "GraphClassification" in tasks:
        data = ["dataset=mutag", "model=gin"]
        if unavailable(registry.build(compose([f"method={method}", *data]).config["dataset"])):
            pytest.skip("mutag is not in the cache, and RUNNER_DATA_MIRROR does not have it")
    elif "KnowledgeGraphCompletion" in tasks:
        data = ["dataset=triples", f"dataset.path={triples(graph.parent / 'triples')}"]
    elif "PairClassification" in tasks:
        data = SMALL_PAIRS
    elif "ForceField" in tasks:
        data = SMALL_CHAIN
    else:  # nothing is trained: what counts is a modelled target's cost
        data = ["hardware=pulp_8core", f"dataset={next(name for name in DATASETS if _gives(name, tasks))}"]
    known = registry.read("method", method)
    few = {"batch_size": 20, "steps": 4, "rounds": 1}
    batch = [f"method.{key}={value}" for key, value in few.items() if key in known]
    return [f"method={method}", *data, *batch, "limit=1", "progress=false"]


def unavailable(dataset: Dataset) -> bool:
    """Whether a file of it would have to be fetched from its original address, or can't be."""
    return any(sources.status(file) in (Status.URL, Status.MISSING) for file in dataset.files())  # type: ignore[arg-type]


def _gives(dataset: str, tasks: list[str]) -> bool:
    return bool(set(tasks) & set(registry.read("dataset", dataset)["_tasks_"]))


def finished(tmp_path: Path) -> list[Record]:
    return list(Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").all())


def numbers(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.metrics.items() if not name.partition("/")[0].endswith(COSTS)}


@pytest.mark.parametrize("method", METHODS)
def test_every_method(method: str, cli: Cli, graph: Path, tmp_path: Path) -> None:
    command = small(method, graph)
    first = cli(*command)
    assert first.status == 0, first.err
    (record,) = finished(tmp_path)
    results = [name for name in record.metrics if "/" not in name and not name.endswith(COSTS)]
    assert set(results) - {"parameters", "epochs"}, "it measures something"
    assert "finished before" in cli(*command).out, "the same command makes it once"

    again = cli(*command, "rerun=true")
    assert again.status == 0, again.err
    old, new = sorted(finished(tmp_path), key=lambda run: run.start_ms)
    assert numbers(old) == numbers(new), "the same seed gives the same bits"

    weights = torch.load(
        artifact(f"sqlite:///{tmp_path}/runs/mlflow.db", new.run_id, "model.pt", tmp_path), weights_only=True
    )
    assert all(isinstance(value, torch.Tensor) for value in weights.values())

    evaluated = cli("mode=evaluate", f"run={new.run_id}", "progress=false")
    assert evaluated.status == 0, evaluated.err
    (own,) = [run for run in finished(tmp_path) if run.tags["runner.kind"] == "evaluate"]
    trained = ("parameters", "epochs")
    for name, value in numbers(own).items():
        if name not in trained and name in new.metrics:
            assert value == new.metrics[name], f"{name} of evaluation alone"


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset(name: str) -> None:
    method = next(method for method in METHODS if _gives(name, registry.read("method", method)["_tasks_"]))
    section = compose([f"method={method}", f"dataset={name}"]).config["dataset"]
    dataset: Dataset = registry.build(section)
    if unavailable(dataset):
        pytest.skip("not in the cache, and RUNNER_DATA_MIRROR does not have it")
    for kind in section["_tasks_"]:
        task = dataset.load(kind)
        assert isinstance(task, Task)
        assert type(task).__name__ == kind
        if pinned := section.get("_fingerprint_"):
            assert task.fingerprint == pinned
            assert task.counts().items() <= section["_counts_"].items()
        for part in task.splits().values():
            assert part.dtype == torch.int64
