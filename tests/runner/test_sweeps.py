"""Sweeps: each cell once, whatever the launcher; failures listed; killed sweeps completed by the same command."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.store.records import KIND_TAG, Record, Records
from runner.store.writer import artifact
from tests.conftest import Result

Cli = Callable[..., Result]
SEEDS = "seed=range(4)"


def runs(kind: str = "train") -> list[Record]:
    records = Records(f"sqlite:///{os.environ['RUNNER_HOME']}/mlflow.db", "runner").all()
    return [record for record in records if record.tags.get(KIND_TAG) == kind]


def test_a_sweep_is_made_once(cli: Cli, toy: list[str]) -> None:
    cli(*toy, "seed=2")
    first = cli("-m", *toy, SEEDS)
    assert first.status == 0, first.err
    assert "1 of 4 runs exist, making 3" in first.err
    assert "4 runs: 1 existed, 3 made, 0 failed" in first.out
    assert "±" in first.out
    assert "4 runs: 4 existed, 0 made, 0 failed" in cli("-m", *toy, SEEDS).out
    assert sorted(record.tags["runner.seed"] for record in runs()) == ["0", "1", "2", "3"]
    assert len(runs("sweep")) == 1  # nothing to make, no parent


def test_the_parent_lists_its_cells(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    cli("-m", *toy, "seed=0,1")
    (parent,) = runs("sweep")
    uri = f"sqlite:///{os.environ['RUNNER_HOME']}/mlflow.db"
    cells = json.loads(artifact(uri, parent.run_id, "cells.json", tmp_path).read_text())["cells"]
    assert {cell["run_id"] for cell in cells} == {record.run_id for record in runs()}
    assert all(record.tags["mlflow.parentRunId"] == parent.run_id for record in runs())
    assert parent.status == "FINISHED"


def test_a_key_of_a_swept_choice_may_have_one_value(cli: Cli, toy: list[str]) -> None:
    """Hydra itself would look for the key before the choice is made."""
    rest = [word for word in toy if not word.startswith(("method=", "dataset="))]
    result = cli("-m", "method=toy,student", "dataset=toy_data", *rest, "model.absent=1")
    assert result.status == 2
    assert "unknown key 'model.absent'" in result.err
    result = cli("-m", "method=toy", "dataset=toy_data,toy_data", *rest, "method.epochs=2", "dataset.nodes=30")
    assert result.status == 0, result.err
    assert "0 failed" in result.out


def test_a_failed_cell_stops_no_other_and_tells_how_to_repeat_it(
    cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAULT", "error:5")
    result = cli("-m", *toy, "seed=0,1", "method.epochs=2,3")  # only epochs=3 reaches a fifth epoch
    assert result.status == 1
    assert "4 runs: 0 existed, 2 made, 2 failed" in result.out
    assert result.err.count("ValueError: asked for") >= 2
    assert "repeat: runner method=toy dataset=toy_data model=none" in result.err
    monkeypatch.delenv("TOY_FAULT")
    assert "4 runs: 2 existed, 2 made, 0 failed" in cli("-m", *toy, "seed=0,1", "method.epochs=2,3").out


def test_a_wrong_cell_is_told_before_any_is_run(cli: Cli, toy: list[str]) -> None:
    result = cli("-m", *toy, "method.lr=0.1,much")
    assert result.status == 2
    assert "method.lr='much'" in result.err
    assert runs() == []


def test_a_killed_sweep_is_completed_by_the_same_command(
    cli: Cli, toy: list[str], child: Callable[..., object]
) -> None:
    command = ["-m", *toy, "method.epoch_seconds=0.05", "method.epochs=10", SEEDS, "checkpoint.every=0"]
    process = child(*command, wait=False)
    deadline = time.monotonic() + 120
    while sum(record.status == "FINISHED" for record in runs()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()  # type: ignore[attr-defined]
    process.join()  # type: ignore[attr-defined]
    made = {record.run_id for record in runs() if record.status == "FINISHED"}
    assert len(made) < 4
    result = cli(*command)
    assert result.status == 0, result.err
    assert sorted(record.tags["runner.seed"] for record in runs()) == ["0", "1", "2", "3"]
    assert made <= {record.run_id for record in runs()}
    assert all(record.status == "FINISHED" for record in runs())
    assert sorted(record.status for record in runs("sweep")) == ["FINISHED", "KILLED"]


def test_joblib_gives_the_same_results_as_the_basic_launcher(
    cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    cli("-m", *toy, "seed=0,1")
    basic = {record.tags["runner.seed"]: record.metrics["layer2/loss"] for record in runs()}
    monkeypatch.setenv("RUNNER_HOME", str(tmp_path / "other"))
    result = cli("-m", *toy, "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert result.status == 0, result.err
    assert {record.tags["runner.seed"]: record.metrics["layer2/loss"] for record in runs()} == basic


def test_evaluations_can_be_swept(cli: Cli, toy: list[str]) -> None:
    cli("-m", *toy, "seed=0,1")
    ids = ",".join(record.run_id for record in runs())
    result = cli("-m", "mode=evaluate", f"run={ids}")
    assert result.status == 0, result.err
    assert len(runs("evaluate")) == 2


def test_two_hundred_finished_cells_are_answered_at_once(cli: Cli, toy: list[str]) -> None:
    """The thousand of the requirement are measured by `make bench`."""
    from benchmarks.commands import finished_sweep

    (row,) = finished_sweep(cells=200)
    assert row.ours < 10
