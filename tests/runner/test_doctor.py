"""``runner doctor``: each thing that can be wrong is called wrong, with a remedy; status 1."""

from __future__ import annotations

import importlib.metadata
import json
import locale
import shutil
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.commands import doctor
from runner.store import template
from tests.conftest import Result

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing is wrong, whatever this one is like."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, 10**12))
    monkeypatch.setattr(doctor, "NEEDED_MEMORY", 0)
    monkeypatch.setattr(locale, "getpreferredencoding", lambda _: "UTF-8")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RUNNER_DATA_MIRROR"):
        monkeypatch.delenv(name, raising=False)


def findings(cli: Cli, *arguments: str) -> tuple[int, list[dict[str, object]]]:
    result = cli("doctor", "--json", *arguments)
    return result.status, json.loads(result.out)


def the_wrong_one(cli: Cli, *arguments: str) -> str:
    """Text and remedy of the only wrong finding."""
    status, found = findings(cli, *arguments)
    assert status == 1
    (wrong,) = (finding for finding in found if finding["wrong"])
    assert wrong["remedy"]
    return f"{wrong['found']} → {wrong['remedy']}"


def test_a_machine_that_is_well(cli: Cli) -> None:
    status, found = findings(cli)
    assert status == 0, found
    text = " ".join(str(finding["found"]) for finding in found)
    for part in ("Python", "torch", "cores", "data cache", "home", "store", "datasets", "clients", "joblib", "source"):
        assert part in text
    assert "all well" in cli("doctor").out


def test_wrong_findings_are_printed_with_their_remedy(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    result = cli("doctor")
    assert result.status == 1
    assert "WRONG OMP_NUM_THREADS=0" in result.out
    assert "→ unset OMP_NUM_THREADS" in result.out


def test_a_package_too_old(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "12.0" if name == "rich" else importlib.metadata.version(name))
    assert "pip install 'rich>=13'" in the_wrong_one(cli)


def test_a_package_that_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "msgspec":
            raise importlib.metadata.PackageNotFoundError(name)
        return importlib.metadata.version(name)

    monkeypatch.setattr(doctor, "version", version)
    assert "msgspec is not installed → pip install 'msgspec>=" in the_wrong_one(cli)


def test_torch_that_does_not_compute(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch, "equal", lambda *_: False)
    assert "wrong on the CPU" in the_wrong_one(cli)


@pytest.mark.parametrize("value", ["0", "many", "4096"])
def test_odd_thread_counts(value: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert f"OMP_NUM_THREADS={value}" in the_wrong_one(cli)


def test_a_containers_quota_counts(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    monkeypatch.setattr(doctor, "CGROUP", tmp_path)
    assert any("quota of 0.5" in str(finding["found"]) for finding in findings(cli)[1])
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert "from 1 to 1" in the_wrong_one(cli)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert doctor._quota() is None


def test_little_memory(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED_MEMORY", 10**18)
    assert "memory" in the_wrong_one(cli)


def test_a_full_disk(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 0))
    wrong = [str(finding["found"]) for finding in findings(cli)[1] if finding["wrong"]]
    assert [name.split(" /")[0] for name in wrong] == ["data cache", "home", "temporary files"]


def test_a_home_that_is_a_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "not writable" in the_wrong_one(cli, f"home={tmp_path}/file")


def test_a_mirror_that_is_not_there(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_DATA_MIRROR", "/nowhere")
    assert "RUNNER_DATA_MIRROR" in the_wrong_one(cli)


def test_a_damaged_store(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow.db").write_bytes(b"no database, and long enough " * 99)
    assert "it is damaged" in the_wrong_one(cli)


def test_a_store_of_an_older_schema(cli: Cli, tmp_path: Path) -> None:
    import sqlite3

    file = tmp_path / "runs" / "mlflow.db"
    template.ensure(file)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'")
    assert f"mlflow db upgrade sqlite:///{file}" in the_wrong_one(cli)


def test_an_unreachable_server(cli: Cli) -> None:
    assert "no server answers there" in the_wrong_one(cli, "tracking.uri=http://127.0.0.1:9")


def test_attempts_that_wait_and_those_that_cannot_be_read(cli: Cli, tmp_path: Path) -> None:
    from runner.attempt import Attempt, AttemptState

    folder = tmp_path / "runs" / "attempts"
    state = AttemptState("k", f"sqlite:///{tmp_path}/runs/mlflow.db", "runner", "name", "code", status="FINISHED")
    Attempt(folder / "k", state).save()
    status, found = findings(cli)
    assert status == 0
    assert any("1 runs wait to be recorded (1 FINISHED)" in str(finding["found"]) for finding in found)
    (folder / "k" / "attempt.json").write_text("{")
    assert "can't be read" in the_wrong_one(cli)


def test_a_wrong_clock(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.time, "gmtime", lambda *_: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0)))
    assert "set the clock" in the_wrong_one(cli)


def test_an_encoding_that_is_not_utf_8(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locale, "getpreferredencoding", lambda _: "ANSI_X3.4-1968")
    assert "LC_ALL=C.UTF-8" in the_wrong_one(cli)
