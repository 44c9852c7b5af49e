"""The store locked, unreachable, read-only, full, of another schema: told in one line, and no finished run is lost."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner import attempt as attempts
from runner.store import template, writer
from runner.store.records import Records
from tests.conftest import Result
from tests.disks import fill, mounted, needs_root

Cli = Callable[..., Result]
NEXT_STEP = ("home=…", "tracking.uri=")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The file of a new store, made."""
    file = tmp_path / "runs" / "mlflow.db"
    template.ensure(file)
    return file


def finished(store: Path) -> int:
    return len(Records(f"sqlite:///{store}", "runner").finished())


def told(result: Result, cause: str) -> None:
    assert result.status == 1
    assert result.err.count("\n") == 1
    assert cause in result.err
    assert any(step in result.err for step in NEXT_STEP)


@contextmanager
def lock(store: Path, kind: str = "EXCLUSIVE") -> Iterator[None]:
    database = sqlite3.connect(store, isolation_level=None)
    database.execute(f"BEGIN {kind}")
    yield
    database.rollback()
    database.close()


def make_garbage(store: Path) -> None:
    store.write_bytes(b"this is no database, though it is long enough to be one " * 99)


def make_foreign(store: Path) -> None:
    store.unlink()
    with sqlite3.connect(store) as database:
        database.execute("CREATE TABLE mine (a)")


def set_revision(name: str) -> Callable[[Path], None]:
    def change(store: Path) -> None:
        with sqlite3.connect(store) as database:
            database.execute("UPDATE alembic_version SET version_num = ?", [name])

    return change


UNUSABLE = {
    "garbage": (make_garbage, "it is damaged"),
    "foreign": (make_foreign, "not an MLflow store"),
    "older": (set_revision("0584bdc529eb"), "`mlflow db upgrade sqlite:///"),
    "newer": (set_revision("ffffffffffff"), "a newer MLflow made it"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_file_that_cannot_be_the_store_is_told_before_training(
    kind: str, cli: Cli, toy: list[str], store: Path
) -> None:
    spoil, cause = UNUSABLE[kind]
    spoil(store)
    before = store.read_bytes()
    told(cli(*toy), cause)
    assert not list((store.parent / "attempts").glob("*"))
    assert store.read_bytes() == before


@pytest.mark.parametrize("kind", ["garbage", "foreign"])
@pytest.mark.parametrize("command", [("list", "runs"), ("show", "abc"), ("clean",)])
def test_commands_that_read_tell_it_too(kind: str, command: tuple[str, ...], cli: Cli, store: Path) -> None:
    spoil, cause = UNUSABLE[kind]
    spoil(store)
    told(cli(*command), cause)


def test_an_older_store_can_still_be_read(cli: Cli, toy: list[str], store: Path) -> None:
    assert cli(*toy).status == 0
    set_revision("0584bdc529eb")(store)
    assert "FINISHED" in cli("list", "runs").out


def test_an_empty_file_is_a_store_that_nobody_has_written(cli: Cli, toy: list[str], store: Path) -> None:
    store.write_bytes(b"")
    assert cli("list", "runs").status == 0
    assert cli(*toy).status == 0
    assert finished(store) == 1


def test_a_half_written_change_of_a_killed_process_is_undone(cli: Cli, toy: list[str], store: Path) -> None:
    """SIGKILL in the middle of a commit: the journal that it leaves can't be undone by who may only read."""
    script = f"""
import os, signal, sqlite3
database = sqlite3.connect({str(store)!r}, isolation_level=None)
database.execute("PRAGMA cache_size=1")
database.execute("BEGIN IMMEDIATE")
for number in range(3000):
    database.execute("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", (str(number), "v" * 200, "r"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert store.with_name("mlflow.db-journal").stat().st_size > 0
    assert cli("list", "runs").status == 0
    assert cli(*toy).status == 0
    with sqlite3.connect(store) as database:
        assert database.execute("SELECT count(*) FROM tags WHERE run_uuid = 'r'").fetchone() == (0,)


def test_a_store_that_is_locked_at_the_start_is_told(cli: Cli, toy: list[str], store: Path) -> None:
    with lock(store):
        told(cli(*toy, f"tracking.uri='sqlite:///{store}?timeout=0.2'"), "another process holds its lock")
    assert not list((store.parent / "attempts").glob("*"))


def test_a_store_that_is_locked_for_writers_gets_the_run_later(cli: Cli, toy: list[str], store: Path) -> None:
    place = f"tracking.uri='sqlite:///{store}?timeout=0.2'"
    with lock(store, "IMMEDIATE"):
        result = cli(*toy, place)
        assert result.status == 0, result.err
        assert "the run goes on without it" in result.err
        assert "recorded by the next command" in result.err
        again = cli(*toy, place)  # answered from what was kept, not trained again
        assert "recorded by the next command" in again.err
        assert "without it" not in again.err
        assert cli(*toy, place, "rerun=true").status == 1
        swept = cli("-m", *toy, place, "seed=1,2")
        assert swept.status == 0, swept.err
        assert "goes on without a record of its own" in swept.err
    assert finished(store) == 0
    assert cli(*toy, place).err.count("recorded an earlier run as FINISHED") == 3
    assert finished(store) == 3


@pytest.mark.parametrize("change", ["deleted", "moved", "garbage", "locked"])
def test_a_store_that_goes_away_under_way_gets_the_run_later(
    change: str, cli: Cli, toy: list[str], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"tracking.uri='sqlite:///{store}?timeout=0.2'"
    copy = tmp_path / "copy.db"
    begin = writer.begin
    database = sqlite3.connect(":memory:")

    def begin_then_change(*arguments: object) -> None:
        nonlocal database
        begin(*arguments)  # type: ignore[arg-type]
        writer.begin = begin  # the end may begin again
        if change == "moved":
            store.rename(copy)
        elif change == "deleted":
            store.unlink()
        elif change == "garbage":
            shutil.copy(store, copy)
            make_garbage(store)
        else:
            database = sqlite3.connect(store, isolation_level=None, check_same_thread=False)
            database.execute("BEGIN IMMEDIATE")

    with monkeypatch.context() as patched:
        patched.setattr(writer, "begin", begin_then_change)
        result = cli(*toy, place)
    assert result.status == 0, result.err
    if change in ("garbage", "locked"):
        assert "recorded by the next command" in result.err
        database.close()
        if change == "garbage":
            shutil.copy(copy, store)
        assert "recorded an earlier run as FINISHED" in cli(*toy, place).err
    assert finished(store) == 1, result.err  # a store made anew has it at once, under a new id
    assert not list((store.parent / "attempts").glob("*"))


def test_a_rerun_that_is_recorded_later_still_supersedes(cli: Cli, toy: list[str], store: Path) -> None:
    place = f"tracking.uri='sqlite:///{store}?timeout=0.2'"
    cli(*toy, place)
    with lock(store, "IMMEDIATE"):
        assert cli(*toy, place, "rerun=true").status == 0
    cli(*toy, place)
    records = Records(f"sqlite:///{store}", "runner").all()
    assert sorted("runner.superseded" in record.tags for record in records) == [False, True]


@needs_root
def test_a_read_only_folder_answers_and_is_told(cli: Cli, toy: list[str], store: Path) -> None:
    assert cli(*toy).status == 0
    with mounted(store.parent, "--bind", "--options", "ro", str(store.parent)):
        assert "finished before" in cli(*toy).out
        told(cli(*toy, "seed=1"), "it can't be written")
        assert cli("list", "runs").status == 0


@needs_root
def test_a_read_only_file_gets_the_run_later(cli: Cli, toy: list[str], store: Path) -> None:
    cli(*toy)
    with mounted(store, "--bind", "--options", "ro", str(store)):
        result = cli(*toy, "seed=1")
        assert result.status == 0
        assert "it can't be written" in result.err
    assert "recorded an earlier run as FINISHED" in cli(*toy).err
    assert finished(store) == 2


@needs_root
def test_a_full_store_gets_the_run_later(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "small"
    with mounted(folder, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        place = f"tracking.uri=sqlite:///{folder}/mlflow.db"
        assert cli(*toy, place).status == 0
        filler = fill(folder)
        result = cli(*toy, place, "seed=1")
        assert result.status in (0, 1)
        assert "the disk is full" in result.err
        if result.status == 0:
            filler.unlink()
            assert "recorded an earlier run as FINISHED" in cli(*toy, place).err
            assert finished(folder / "mlflow.db") == 2


@needs_root
@pytest.mark.parametrize("away", [False, True])
def test_a_home_that_fills_up_under_way(
    away: bool, cli: Cli, toy: list[str], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "small"
    begin = writer.begin

    def begin_then_fill(*arguments: object) -> None:
        begin(*arguments)  # type: ignore[arg-type]
        fill(home)

    with mounted(home, "-t", "tmpfs", "-o", "size=2m", "tmpfs"), monkeypatch.context() as patched:
        patched.setattr(writer, "begin", begin_then_fill)
        result = cli(*toy, f"home={home}", f"tracking.uri=sqlite:///{store}", "checkpoint.every=0")
    assert result.status == 1
    assert "the result can't be kept" in result.err
    assert "no snapshot" in result.err or "No space left" in result.err


def test_metrics_that_the_disk_does_not_take_are_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = attempts.AttemptState("k", f"sqlite:///{tmp_path}/m.db", "runner", "name", "code", tags={"runner.key": "k"})
    made = attempts.Attempt(tmp_path / "attempts" / "k", state)
    made.log({"loss": 1.0}, 1, 2)
    made.spool.mkdir()  # writing fails
    made.flush()
    assert made.trouble
    made.spool.rmdir()
    made.log({"loss": 0.5}, 2, 2)
    made.flush()
    assert [line["v"]["loss"] for line in made.history()] == [1.0, 0.5]


def test_damaged_attempts_are_set_aside_once_and_half_lines_skipped(cli: Cli, toy: list[str], store: Path) -> None:
    folder = store.parent / "attempts"
    for name, content in {"a": b"{", "b": b"\xff\xfe", "c": b"[]"}.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "attempt.json").write_bytes(content)
        (folder / name / "metrics.jsonl").write_text("precious")
    (folder / "notes.txt").write_text("somebody's")
    whole = attempts.AttemptState("d", f"sqlite:///{store}", "runner", "name", "code", tags={"runner.key": "d"})
    whole.status = "FINISHED"
    left = attempts.Attempt(folder / "d", whole)
    left.log({"loss": 1.0}, 1, 3)
    left.flush()
    left.save()
    with left.spool.open("a") as spool:
        spool.write('{"t": 1, "s"\n{"t": 2, "s": 3, "n": 3, "v": {"loss": 0.5}}\n{"half')
    result = cli(*toy)
    assert result.status == 0
    assert result.err.count("set aside") == 3
    assert "recorded an earlier run as FINISHED: name" in result.err
    assert "set aside" not in cli(*toy).err
    assert sorted(path.read_text() for path in folder.rglob("metrics.jsonl")) == ["precious"] * 3
    assert (folder / "notes.txt").exists()
    record = Records(f"sqlite:///{store}", "runner").finished(["d"])["d"]
    assert record.metrics["loss"] == 0.5


def test_artefacts_that_cannot_be_stored_keep_the_run_for_later(cli: Cli, toy: list[str], store: Path) -> None:
    (store.parent / "artifacts").write_text("a file where a folder should be")
    result = cli(*toy)
    assert result.status == 0
    assert "recorded by the next command" in result.err
    (store.parent / "artifacts").unlink()
    assert "recorded an earlier run as FINISHED" in cli(*toy).err


def test_two_commands_record_what_is_left_only_once(
    cli: Cli, toy: list[str], store: Path, child: Callable[..., object]
) -> None:
    place = f"tracking.uri='sqlite:///{store}?timeout=0.2'"
    with lock(store, "IMMEDIATE"):
        for seed in range(3):
            assert cli(*toy, place, f"seed={seed}").status == 0
    processes = [child(*toy, f"seed={seed}", wait=False) for seed in (10, 10, 11)]
    for process in processes:
        process.join()  # type: ignore[attr-defined]
    assert [process.exitcode for process in processes] == [0, 0, 0]  # type: ignore[attr-defined]
    records = Records(f"sqlite:///{store}", "runner").all()
    assert len(records) == 5
    assert {record.status for record in records} == {"FINISHED"}
    assert not list((store.parent / "attempts").glob("*"))


def test_recovering_while_another_finishes_the_same_attempt_leaves_it_alone(store: Path) -> None:
    state = attempts.AttemptState("k", f"sqlite:///{store}", "runner", "name", "code")
    attempts.Attempt(store.parent / "attempts" / "k", state).save()
    found: list[object] = []
    with attempts.locked(str(store.parent), state.uri, "k"):
        other = threading.Thread(target=lambda: found.extend(attempts.pending(str(store.parent))))
        other.start()
        other.join()
    assert found == []
    assert len(list(attempts.pending(str(store.parent)))) == 1
