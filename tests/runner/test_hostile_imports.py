"""``runner import`` of damaged or hostile files: one line, status 2, nothing added, nothing written outside."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from runner.store.records import Records
from tests.conftest import Result
from tests.damage import damaged

Cli = Callable[..., Result]
Count = Callable[[str, str], None]
RUN: dict[str, Any] = {
    "format": 1,
    "name": "toy",
    "status": "FINISHED",
    "start": 1,
    "end": 2,
    "tags": {"runner.key": "k" * 64},
    "params": {"a": "1"},
    "metrics": {"test_acc": [[0.5, 2, 0]]},
}


def exported(*extra: tuple[str | zipfile.ZipInfo, bytes], **changes: Any) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("r1/run.json", json.dumps({**RUN, **changes}))
        archive.writestr("r1/artifacts/note.txt", "a note " * 50)
        for name, content in extra:
            archive.writestr(name, content)
    return made.getvalue()


def bomb() -> bytes:
    """A member that says it is longer than so small a file may hold."""
    made = io.BytesIO(exported())
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("r1/artifacts/zeros", b"0")
        archive.infolist()[-1].file_size = 1100 << 20
    return made.getvalue()


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("r1/artifacts/link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


DEEP = b"[" * 200_000
HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a zip file"),
    "noise": (b"noise" * 99, "not a zip file"),
    "climbing": (exported(("r1/artifacts/../../../../climbed", b"evil")), "leads out of the run"),
    "climbing run": (exported(("../run.json", json.dumps(RUN).encode())), "leads out of the run"),
    "absolute": (exported(("/tmp/absolute", b"evil")), "leads out of the run"),
    "no run": (exported(("r2/artifacts/x", b"x")), "r2/run.json"),
    "deep json": (exported(("r2/run.json", DEEP)), "RecursionError"),
    "no dict": (exported(("r2/run.json", b"[]")), "object"),
    "other format": (exported(format=99), "format 99"),
    "wrong types": (exported(tags=[1]), "tags"),
    "wrong metrics": (exported(metrics={"test_acc": [["high", 2, 0]]}), "metrics"),
    "wrong status": (exported(status="GLORIOUS"), "status"),
    "file and folder": (exported(("r1/artifacts/note.txt/inner", b"x")), "note.txt"),
    "bomb": (bomb(), "unpacks to 1.2 GB"),
}


def added(tmp_path: Path) -> int:
    return len(Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").all())


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_file_is_refused(kind: str, cli: Cli, tmp_path: Path, count_fault: Count) -> None:
    content, reason = HOSTILE[kind]
    (tmp_path / "runs.zip").write_bytes(content)
    result = cli("import", str(tmp_path / "runs.zip"))
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert result.err.startswith(f"runner: {tmp_path}/runs.zip: not a file of exported runs")
    assert reason in result.err
    assert added(tmp_path) == 0
    assert not list(tmp_path.parent.rglob("climbed"))
    assert not Path("/tmp/absolute").exists()
    count_fault(f"import {kind}", "refused, nothing added")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_twice_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "runs.zip").write_bytes(exported(("r1/run.json", b"{}")))
    result = cli("import", str(tmp_path / "runs.zip"))
    assert (result.status, "two members of one name" in result.err) == (2, True)


def test_link_becomes_a_plain_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "runs.zip").write_bytes(exported((link(), b"/etc/hostname")))
    assert cli("import", str(tmp_path / "runs.zip")).status == 0
    (made,) = (tmp_path / "runs").rglob("link")
    assert not made.is_symlink()
    assert made.read_text() == "/etc/hostname"


@pytest.mark.faults
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damaged(exported()))
def test_many_damaged_files(cli: Cli, tmp_path: Path, count_fault: Count, fault: tuple[str, bytes]) -> None:
    (tmp_path / "runs.zip").write_bytes(fault[1])
    result = cli("import", str(tmp_path / "runs.zip"))
    assert result.status in (0, 2)
    assert "Traceback" not in result.err
    if result.status == 0:  # the damage was where nothing depends on it
        (note,) = (tmp_path / "runs").rglob("note.txt")
        assert note.read_text() == "a note " * 50
    else:
        assert result.err.count("\n") == 1
    count_fault(f"import {fault[0]}", "refused" if result.status else "still right")
