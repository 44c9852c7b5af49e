"""Sweeps through a real Ray of two nodes, and through one of the sweep's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import ray_cluster
from tests.cluster.sweeps import SLOW, Sweeps, ended, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ray_cluster.RayCluster]:
    if reason := ray_cluster.missing():
        pytest.skip(reason)
    cluster = ray_cluster.RayCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def sweeps(cluster: ray_cluster.RayCluster, tmp_path: Path) -> Sweeps:
    return Sweeps(tmp_path / "runs", ("+cluster=ray", f"cluster.address={cluster.address}"), cluster.environment)


def test_two_nodes_share_a_sweep_and_what_is_finished_is_not_asked_for(
    cluster: ray_cluster.RayCluster, sweeps: Sweeps
) -> None:
    process = sweeps.begin("seed=range(6)", *SLOW)
    until(lambda: len(cluster.workers()) == 2, process)  # a core a node
    result = ended(process)
    assert result.status == 0, result.err
    assert "6 runs: 0 existed, 6 made, 0 failed" in result.out
    assert sweeps.complete(6)
    again = sweeps.run("seed=range(6)", *SLOW)
    assert "6 runs: 6 existed, 0 made, 0 failed" in again.out
    assert sweeps.complete(6)


def test_a_killed_worker_costs_its_cell_and_the_same_command_makes_it(
    cluster: ray_cluster.RayCluster, sweeps: Sweeps
) -> None:
    process = sweeps.begin("seed=range(5)", *SLOW)
    until(lambda: sweeps.finished() and cluster.workers(), process)
    cluster.kill_worker()
    first = ended(process)
    assert first.status == 1, first.out
    assert "5 runs: 0 existed, 4 made, 1 failed" in first.out
    assert first.err.count("failed: its Ray worker is gone") == 1
    result = sweeps.run("seed=range(5)", *SLOW)
    assert result.status == 0, result.err
    assert "5 runs: 4 existed, 1 made, 0 failed" in result.out
    assert sweeps.complete(5)


def test_a_ray_of_the_sweeps_own(tmp_path: Path) -> None:
    """A failing cell stops no other; nothing but its own machine can reach it."""
    if reason := ray_cluster.missing():
        pytest.skip(reason)
    sweeps = Sweeps(tmp_path / "runs", ("+cluster=ray",), {})
    result = sweeps.run("seed=0,1", "method.epochs=3,2", TOY_FAULT="error:5")
    assert result.status == 1
    assert "4 runs: 0 existed, 2 made, 2 failed" in result.out
    assert result.err.count("failed: ValueError: asked for\n  repeat: runner method=toy dataset=toy_data") == 2
    assert "cluster" not in result.err.partition("repeat:")[2]
    assert sweeps.finished() == {0: 1, 1: 1}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("cluster.address=127.0.0.1:9", "cluster.address=127.0.0.1:9: no Ray answers there"),
        ("cluster.cpus=1000", "a cell needs 1000 cores, no node of this Ray has more than"),
        ("cluster.cpus=0", "cluster.cpus=0: expected"),
    ],
)
def test_what_cant_be_is_told_in_one_line(tmp_path: Path, wrong: str, told: str) -> None:
    if reason := ray_cluster.missing():
        pytest.skip(reason)
    sweeps = Sweeps(tmp_path / "runs", ("+cluster=ray",), {})
    result = sweeps.run("seed=range(2)", wrong)
    assert result.status == 2
    assert f"runner: {told}" in result.err
    assert sweeps.runs() == []
