"""A real tracking server on a real PostgreSQL: whatever the command line does, it does over HTTP too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.store.artifacts import Artifacts
from runner.store.records import DUPLICATE_TAG, Record, Records
from tests.cluster.servers import Postgres, Tracking
from tests.conftest import Result

pytestmark = pytest.mark.cluster

Cli = Callable[..., Result]


@pytest.fixture
def store(server: Tracking, request: pytest.FixtureRequest) -> list[str]:
    """Arguments that choose the server, and an experiment that no other test sees."""
    return [f"tracking.uri={server.uri}", f"tracking.experiment={request.node.name}"]


def runs(store: list[str]) -> list[Record]:
    return [record for record in Records(*places(store)).all() if record.key]


def places(store: list[str]) -> list[str]:
    return [line.partition("=")[2] for line in store]


def test_a_run_is_made_once_and_shown(cli: Cli, toy: list[str], store: list[str], server: Tracking) -> None:
    made = cli(*toy, *store)
    assert made.status == 0, made.err
    assert len(made.out.splitlines()) == 3  # and nothing of MLflow's own
    assert f"runner show {runs(store)[0].run_id[:8]} {' '.join(store)}" in made.out
    again = cli(*toy, *store)
    assert "finished before" in again.out
    (record,) = runs(store)
    assert record.status == "FINISHED"
    assert record.counts
    assert record.run_id[:8] in cli("list", "runs", *store).out
    shown = cli("show", record.run_id[:8], *store)
    assert shown.status == 0, shown.err
    assert "test_acc" in shown.out


def test_the_server_has_the_whole_curve_and_serves_the_artefacts(
    cli: Cli, toy: list[str], store: list[str], server: Tracking
) -> None:
    assert cli(*toy, *store, "method.epochs=7").status == 0
    (record,) = runs(store)
    history = Records(*places(store)).histories([record.run_id])[record.run_id]
    assert [step for step, _ in history["layer1/loss"]] == list(range(1, 8))
    assert [step for step, _ in history["layer2/loss"]] == list(range(1, 8))
    assert record.artifact_uri.startswith("mlflow-artifacts:")
    files = {file.name: file.size for file in Artifacts(server.uri, record).files()}
    assert {"config.yaml", "environment.json", "model.pt", "history/metrics.jsonl"} <= files.keys()
    content = Artifacts(server.uri, record).read("history/metrics.jsonl")
    assert len(content) == files["history/metrics.jsonl"]
    assert len([line for line in content.splitlines() if "layer1/loss" in json.loads(line)["v"]]) == 7
    assert list(server.artifacts.rglob("model.pt"))


def test_a_run_that_refers_to_another_and_an_evaluation_fetch_its_checkpoint(
    cli: Cli, toy: list[str], store: list[str]
) -> None:
    student = ["method=student", *toy[1:], *store]
    made = cli(*student)
    assert made.status == 0, made.err
    teacher = next(record for record in runs(store) if record.tags["runner.method"] == "toy")
    evaluated = cli("mode=evaluate", f"run={teacher.run_id}", *store)
    assert evaluated.status == 0, evaluated.err
    accuracies = {record.metrics["test_acc"] for record in runs(store) if "test_acc" in record.metrics}
    assert len(accuracies) == 1


def test_a_sweep_and_its_parent(cli: Cli, toy: list[str], store: list[str]) -> None:
    cli(*toy, *store, "seed=1")
    swept = cli("-m", *toy, *store, "seed=range(3)")
    assert "3 runs: 1 existed, 2 made, 0 failed" in swept.out, swept.err
    assert "3 runs: 3 existed, 0 made, 0 failed" in cli("-m", *toy, *store, "seed=range(3)").out
    assert len(runs(store)) == 3
    assert [record.status for record in Records(*places(store)).all() if not record.key] == ["FINISHED"]


def test_a_paper_from_reproduce_to_report(cli: Cli, toy: list[str], store: list[str], tmp_path: Path) -> None:
    dry = cli("reproduce", "paper=toy", *store, "dry_run=true")
    assert "0 of 15 runs exist; 15 would run" in dry.out, dry.err
    reproduced = cli("reproduce", "paper=toy", *store, "progress=false")
    assert "15 runs: 0 existed, 15 made, 0 failed" in reproduced.out, reproduced.err
    assert "15 runs: 15 existed, 0 made, 0 failed" in cli("reproduce", "paper=toy", *store).out
    table = cli("table", "paper=toy", *store, "format=json")
    assert table.status == 0, table.err
    assert "does not hold" in cli("table", "paper=toy", *store).out
    reported = cli("report", str(tmp_path / "site"), "paper=toy", *store)
    assert reported.status == 0, reported.err
    assert (tmp_path / "site" / "index.html").stat().st_size > 0


def test_attempts_that_overlap_over_a_bare_server_count_once(
    cli: Cli, toy: list[str], store: list[str], tmp_path: Path, child: Callable[..., object]
) -> None:
    """Two machines that share nothing but the server: each has a home, and so locks, of its own."""
    line = [*toy, *store, "method.epoch_seconds=0.05"]
    both = [child(*line, wait=False, RUNNER_HOME=str(tmp_path / name)) for name in ("here", "there")]
    for process in both:
        process.join()  # type: ignore[attr-defined]
    assert [process.exitcode for process in both] == [0, 0]  # type: ignore[attr-defined]
    found = sorted(runs(store), key=lambda record: record.order)
    assert [record.status for record in found] == ["FINISHED", "FINISHED"]
    assert [record.counts for record in found] == [True, False]
    assert found[1].tags[DUPLICATE_TAG] == found[0].run_id
    assert found[0].run_id[:8] in cli(*line).out
    assert f"{found[1].run_id[:8]}  duplicate" in cli("clean", *store).out


def test_a_rerun_supersedes_and_is_no_duplicate(cli: Cli, toy: list[str], store: list[str]) -> None:
    cli(*toy, *store)
    cli(*toy, *store, "rerun=true")
    newest, oldest = runs(store)
    assert (newest.counts, oldest.counts) == (True, False)
    assert DUPLICATE_TAG not in newest.tags | oldest.tags


def test_a_sweep_of_evaluations(cli: Cli, toy: list[str], store: list[str]) -> None:
    """Hydra writes ``http\\://`` into the overrides of a sweep's cells."""
    cli("-m", *toy, *store, "seed=0,1")
    ids = ",".join(record.run_id for record in runs(store))
    evaluated = cli("-m", "mode=evaluate", f"run={ids}", *store)
    assert evaluated.status == 0, evaluated.err
    assert len(runs(store)) == 4


def test_a_server_without_its_database_is_told(cli: Cli, toy: list[str], store: list[str], database: Postgres) -> None:
    database.kill()
    try:
        result = cli(*toy, *store)
    finally:
        database.start()
    assert result.status == 1
    assert "its server fails: see the server's log" in result.err
    assert result.err.count("\n") == 1
    assert cli(*toy, *store).status == 0


def test_ui_of_a_server_is_the_servers_own(cli: Cli, store: list[str], server: Tracking) -> None:
    assert cli("ui", *store).out.startswith(server.uri)


def test_a_server_that_is_away_is_told_with_the_next_step(cli: Cli, toy: list[str]) -> None:
    from tests.cluster.servers import free_port

    result = cli(*toy, f"tracking.uri=http://127.0.0.1:{free_port()}")
    assert result.status == 1
    assert "no server answers there: start it" in result.err
    assert result.err.count("\n") == 1
