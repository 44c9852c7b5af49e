"""Sweeps through a real Slurm of two nodes: each cell once, whatever is killed or cancelled."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import slurm
from tests.cluster.sweeps import SLOW, Sweeps, ended, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Slurm]:
    if reason := slurm.missing():
        pytest.skip(reason)
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    cluster = slurm.Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def sweeps(cluster: slurm.Slurm, tmp_path: Path) -> Sweeps:
    return Sweeps(tmp_path / "runs", ("+cluster=slurm", "cluster.partition=debug"), cluster.environment)


def test_two_nodes_share_a_sweep_and_what_is_finished_is_not_submitted(cluster: slurm.Slurm, sweeps: Sweeps) -> None:
    before = cluster.jobs()
    result = sweeps.run("seed=range(8)", "cluster.cells_per_job=2", *SLOW)
    assert result.status == 0, result.err
    assert "8 runs: 0 existed, 8 made, 0 failed" in result.out
    assert sweeps.complete(8)
    last = cluster.jobs()
    assert last - before == 4
    assert cluster.nodes_of(range(before + 1, last + 1)) == set(slurm.NODES)
    again = sweeps.run("seed=range(8)", "cluster.cells_per_job=2", *SLOW)
    assert (again.status, cluster.jobs()) == (0, last)
    assert "8 runs: 8 existed, 0 made, 0 failed" in again.out
    assert not any("cluster" in text for run in sweeps.runs() for text in [*run.tags.values(), *run.metrics])


def test_a_failing_cell_stops_no_other(sweeps: Sweeps) -> None:
    """Both kinds, in one job with others: a run that fails, and one that takes its whole job with it."""
    line = ["seed=0,1", "method.epochs=3,2", "cluster.cells_per_job=3"]  # epoch 5 is reached by epochs=3 alone
    result = sweeps.run(*line, TOY_FAULT="error:5")
    assert result.status == 1
    assert "4 runs: 0 existed, 2 made, 2 failed" in result.out
    assert result.err.count("failed: ValueError: asked for\n  repeat: runner method=toy dataset=toy_data") == 2
    assert "cluster" not in result.err.partition("repeat:")[2]
    result = sweeps.run(*line, TOY_FAULT="kill:5")
    assert result.status == 1
    assert "4 runs: 2 existed, 0 made, 2 failed" in result.out
    assert "ended without a result (failed)" in result.err
    assert sweeps.run(*line).status == 0
    assert sweeps.finished() == {0: 2, 1: 2}


def test_a_node_that_dies_and_comes_back(cluster: slurm.Slurm, sweeps: Sweeps) -> None:
    line = ["seed=range(6)", "cluster.cells_per_job=2", *SLOW]
    process = sweeps.begin(*line)
    until(lambda: sweeps.finished(), process)
    cluster.kill_node("one")
    cluster.start_node("one")
    first = ended(process)
    result = sweeps.run(*line)
    assert result.status == 0, (first, result.err)
    assert sweeps.complete(6)
    cluster.wait_until_idle()


def test_cancelled_jobs_are_failed_cells_which_the_same_command_makes(cluster: slurm.Slurm, sweeps: Sweeps) -> None:
    line = ["seed=range(6)", "cluster.cells_per_job=3", *SLOW]
    process = sweeps.begin(*line)
    until(lambda: sweeps.finished(), process)
    cluster.call("scancel", "--partition=debug")
    first = ended(process)
    assert first.status == 1
    made = sweeps.finished().total()
    assert f"6 runs: 0 existed, {made} made, {6 - made} failed" in first.out
    assert first.err.count("ended without a result (cancelled)") >= 6 - made
    result = sweeps.run(*line)
    assert result.status == 0, result.err
    assert f"6 runs: {made} existed, {6 - made} made, 0 failed" in result.out
    assert sweeps.complete(6)


def test_an_interrupted_sweep_cancels_its_jobs(cluster: slurm.Slurm, sweeps: Sweeps) -> None:
    process = sweeps.begin("seed=range(4)", "cluster.cells_per_job=2", *SLOW)
    until(lambda: sweeps.runs(), process)
    process.send_signal(signal.SIGTERM)
    assert ended(process).status == 128 + signal.SIGTERM
    cluster.wait_until_idle()
    assert sweeps.run("seed=range(4)", *SLOW).status == 0
    assert sweeps.complete(4)


def test_a_killed_parent_leaves_its_jobs_and_the_same_command_waits_for_them(sweeps: Sweeps) -> None:
    process = sweeps.begin("seed=range(4)", "cluster.cells_per_job=2", *SLOW)
    until(lambda: sweeps.runs(), process)
    process.kill()
    process.wait()
    result = sweeps.run("seed=range(4)", "cluster.cells_per_job=2", *SLOW)
    assert result.status == 0, result.err
    assert sweeps.complete(4)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("cluster.partition=debig", "cluster.partition=debig: Slurm has debug; did you mean 'debug'?"),
        ("cluster.minutes=ten", "cluster.minutes='ten': expected int, got str"),
        ("cluster.minute=10", "unknown key 'cluster.minute'; did you mean 'cluster.minutes'?"),
        ("cluster.memory=9000000", "Slurm doesn't take the jobs: "),
    ],
)
def test_what_cant_be_is_told_in_one_line(sweeps: Sweeps, wrong: str, told: str) -> None:
    result = sweeps.run("seed=range(2)", wrong)
    assert result.status == 2
    assert f"runner: {told}" in result.err
    assert sweeps.runs() == []


def test_a_job_that_is_out_of_time_or_has_to_yield_is_queued_again(cluster: slurm.Slurm, sweeps: Sweeps) -> None:
    """Slurm sends this signal before a job's time limit, and when another job is more urgent."""
    process = sweeps.begin("seed=range(4)", "cluster.cells_per_job=2", *SLOW)
    until(lambda: sweeps.finished(), process)
    cluster.call("scancel", "--signal=USR2", "--partition=debug", "--state=RUNNING")
    result = ended(process)
    assert result.status == 0, result.err
    assert "0 failed" in result.out
    assert sweeps.complete(4)
