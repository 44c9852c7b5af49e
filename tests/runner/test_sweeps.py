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


def test_a_cluster_is_in_no_runs_key_and_no_runs_command(cli: Cli, toy: list[str]) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    cli("-m", *toy, "seed=0,1")
    result = cli("-m", *toy, "seed=range(3)", "+cluster=joblib", "cluster.workers=1")
    assert "3 runs: 2 existed, 1 made, 0 failed" in result.out
    assert not any("cluster" in text for run in runs() for text in run.tags.values())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["+cluster=jobli"], "no cluster 'jobli'; did you mean 'joblib'?"),
        (["cluster.workers=2"], "'cluster.workers' goes with +cluster=NAME (one of joblib, ray, slurm)"),
        (["+cluster=joblib", "cluster.worker=2"], "unknown key 'cluster.worker'; did you mean 'cluster.workers'?"),
        (["+cluster=joblib", "cluster.workers=0"], "cluster.workers=0: expected"),
        (["+cluster=joblib", "cluster.workers=1,2"], "a sweep goes through one cluster; give one value"),
    ],
)
def test_a_wrong_cluster_is_told_in_one_line(cli: Cli, toy: list[str], words: list[str], told: str) -> None:
    result = cli("-m", *toy, "seed=0,1", *words)
    assert result.status == 2
    assert told in result.err
    assert result.err.count("\n") == 1
    assert runs() == []


def test_a_missing_part_is_told_with_the_line_that_installs_it(
    cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner import extras

    monkeypatch.setitem(extras.CLUSTERS, "ray", ("no_such_module", "pip install 'forward-runner[ray]'"))
    result = cli("-m", *toy, "seed=0,1", "+cluster=ray")
    assert (result.status, result.err) == (
        2,
        "runner: +cluster=ray is an optional part: pip install 'forward-runner[ray]'\n",
    )


def test_a_cluster_makes_sweeps_alone(cli: Cli, toy: list[str]) -> None:
    result = cli(*toy, "+cluster=joblib")
    assert (result.status, "add -m" in result.err) == (2, True)


@pytest.mark.parametrize(("threads", "workers"), [([1], 4), ([2, 1], 2), ([3], 1), ([8], 1)])
def test_pinned_threads_decide_the_number_of_workers(
    threads: list[int], workers: int, cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import joblib
    from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

    seen: list[int] = []
    monkeypatch.setattr(joblib, "cpu_count", lambda: 4)
    monkeypatch.setattr(JoblibLauncher, "launch", lambda self, *_, **__: seen.append(self.joblib["n_jobs"]) or [])
    rest = [word for word in toy if not word.startswith("hardware.threads")]
    for line in (["+cluster=joblib"], ["hydra/launcher=joblib"]):
        with pytest.raises(ValueError, match="zip"):  # this launcher gives nothing back
            cli("-m", *rest, f"hardware.threads={','.join(map(str, threads))}", *line, "--traceback")
    assert seen == [workers, workers]


def test_a_launcher_that_breaks_down_costs_what_it_was_making(
    cli: Cli, toy: list[str], child: Callable[..., int], tmp_path: Path
) -> None:
    """A killed worker of joblib ends its launcher; what that hadn't begun is launched again."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    line = ["-m", *toy, "method.epochs=3,2", "seed=0,1", "+cluster=joblib", "cluster.workers=2"]
    assert child(*line, TOY_FAULT="kill:5") == 1  # epoch 5 is reached by epochs=3 alone
    made = [record for record in runs() if record.status == "FINISHED"]
    assert len(made) == 2
    assert all("method.epochs=2" in record.tags["runner.overrides"] for record in made)
    assert child(*line) == 0
    assert len([record for record in runs() if record.status == "FINISHED"]) == 4
