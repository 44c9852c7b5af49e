"""The store: made without waiting, by many at once; away at the end; read without MLflow, and through it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.attempt import Attempt, AttemptState
from runner.errors import StoreUnavailable
from runner.store import template, writer
from runner.store.records import Records
from tests.conftest import Result

Cli = Callable[..., Result]


def test_the_template_is_what_mlflow_itself_would_make(tmp_path: Path) -> None:
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    template.ensure(ours)
    engine = sqlalchemy.create_engine(f"sqlite:///{theirs}")
    _initialize_tables(engine)
    engine.dispose()

    def schema(file: Path) -> dict[str, list[tuple[object, ...]]]:
        with sqlite3.connect(file) as database:
            names = [row[0] for row in database.execute("SELECT name FROM sqlite_master ORDER BY name")]
            return {name: database.execute(f"PRAGMA table_info('{name}')").fetchall() for name in names}

    assert schema(ours) == schema(theirs)


def test_several_processes_open_a_new_store_at_once(
    toy: list[str], child: Callable[..., object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processes = [child(*toy, f"seed={seed}", RUNNER_DATA=str(tmp_path / "cache"), wait=False) for seed in range(4)]
    for process in processes:
        process.join()  # type: ignore[attr-defined]
    assert [process.exitcode for process in processes] == [0] * 4  # type: ignore[attr-defined]
    assert len(Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").finished()) == 4


def attempt(folder: Path, uri: str, key: str = "k") -> Attempt:
    state = AttemptState(key, uri, "runner", "name", "code", tags={"runner.key": key})
    state.start_ms = time.time_ns() // 1_000_000
    made = Attempt(folder / "attempts" / key, state)
    made.save()
    return made


def test_a_run_that_ended_while_the_store_was_away_is_recorded_by_the_next_command(
    cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("tracking store x can't be used: it is away")

    with monkeypatch.context() as patched:
        patched.setattr(writer, "end", away)
        result = cli(*toy)
    assert result.status == 0
    assert "recorded by the next command" in result.err
    records = Records(f"sqlite:///{os.environ['RUNNER_HOME']}/mlflow.db", "runner")
    assert records.finished() == {}
    again = cli(*toy)
    assert "recorded an earlier run as FINISHED" in again.err
    assert "finished before" in again.out
    (record,) = records.finished().values()
    assert record.metrics["test_acc"] > 0


def test_an_unreachable_server_is_told_in_one_line(cli: Cli, toy: list[str]) -> None:
    result = cli(*toy, "tracking.uri=http://127.0.0.1:9")
    assert result.status == 1
    assert result.err.startswith("runner: tracking store http://127.0.0.1:9 can't be used")
    assert result.err.count("\n") == 1


def test_a_file_that_is_no_store_is_told(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow.db").write_text("this is not a database, though it is long enough to be one " * 9)
    result = cli(*toy)
    assert result.status == 1
    assert "it is damaged" in result.err


def test_the_earliest_finished_run_of_a_key_counts(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    for number in (1, 2):
        made = attempt(tmp_path, uri)
        made.state.status, made.state.end_ms = "FINISHED", 1_000_000 - number
        writer.end(made)
    (record,) = Records(uri, "runner").finished(["k"]).values()
    assert record.end_ms == 1_000_000 - 2


def test_long_histories_are_thinned_and_kept_whole_as_an_artefact(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    made = attempt(tmp_path, uri)
    for step in range(1, 5001):
        made.log({"loss": 1 / step}, step, 5000)
    made.state.status = "FINISHED"
    writer.end(made)
    (record,) = Records(uri, "runner").finished().values()
    from runner.store.client import connect

    history = connect(uri).get_metric_history(record.run_id, "loss")
    assert len(history) == 1001
    assert record.metrics["loss"] == 1 / 5000
    assert writer.artifact(uri, record.run_id, "history/metrics.jsonl", tmp_path).read_text().count("\n") == 5000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow tracking server on loopback."""
    import socket
    import urllib.request

    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    template.ensure(folder / "mlflow.db")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "art")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
            break
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "log").read_text()) from None
            time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    os.killpg(process.pid, 15)
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_tracking_server_serves_as_well(server: str, cli: Cli, toy: list[str]) -> None:
    place = f"tracking.uri={server}"
    assert cli(*toy, place).status == 0
    assert "finished before" in cli(*toy, place).out
    assert "4 runs: 1 existed, 3 made, 0 failed" in cli("-m", *toy, place, "seed=range(4)").out
    (record, *_) = Records(server, "runner").finished().values()
    assert record.metrics["test_acc"] > 0
    assert cli("mode=evaluate", f"run={record.run_id}", place).status == 0
    assert record.run_id[:8] in cli("list", "runs", place).out
