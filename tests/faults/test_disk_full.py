"""A disk that is full from some moment on: told, never half a file, and with some space the same command ends well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.store.records import Records
from tests.conftest import TOY_RUN
from tests.disks import fill, mounted, needs_root
from tests.faults.conftest import Background, _captured
from tests.faults.test_kills import STORE_CALLS
from tests.runner.test_resume import numerics

LINE = [*TOY_RUN, "checkpoint.every=0", "tracking.upload_every=0"]
DISK_BYTES = 6 << 20
LEAVE = (0, 4096, 3 * 4096, 16 * 4096)
"""Bytes that are left: nothing, room for a note, for half of what is written, for some of it."""
STEPS = {"checkpoint": 60, "store": 60}
QUICK = 5


def _full_at_step(
    arguments: list[str], environment: dict[str, str], here: str, disk: str, number: int, leave: int
) -> None:
    """Run a command, and fill the disk before the n-th of its steps that write."""
    from mlflow.tracking import MlflowClient

    from runner import attempt, execute, loops

    left = iter(range(number, 0, -1))

    def counted(step: Callable[..., object]) -> Callable[..., object]:
        def call(*words: object, **named: object) -> object:
            if next(left, 0) == 1:
                fill(Path(disk), leave)
            return step(*words, **named)

        return call

    places = [(MlflowClient, name) for name in STORE_CALLS]
    places += [(attempt, "write_text"), (attempt.Attempt, "flush"), (loops, "save_whole"), (execute, "save_whole")]
    for owner, name in places:
        setattr(owner, name, counted(getattr(owner, name)))
    _captured(arguments, environment, here)


@needs_root
@pytest.mark.parametrize("what", STEPS)
@pytest.mark.parametrize("bulk", [False, pytest.param(True, marks=[pytest.mark.faults, pytest.mark.timeout(1200)])])
def test_full_while_writing(
    what: str,
    bulk: bool,
    background: Background,
    tmp_path: Path,
    count_fault: Callable[[str, str], None],
) -> None:
    """The disk of the attempts, snapshots and checkpoint among them, or the disk of the store and its artefacts."""
    (expected,) = made(background, LINE, tmp_path / "undisturbed")
    every = STEPS[what] // QUICK
    for number in range(1, STEPS[what], 1 if bulk else every):
        leave = LEAVE[number // (1 if bulk else every) % len(LEAVE)]
        disk, home, here = (tmp_path / f"{name}{number}" for name in ("disk", "home", "here"))
        here.mkdir()
        store, attempts = (home, disk) if what == "checkpoint" else (disk, home)
        line = [*LINE, f"home={attempts}", f"tracking.uri=sqlite:///{store}/mlflow.db"]
        told = f"{what}: full at step {number}, {leave} bytes left"
        with mounted(disk, "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs"):
            process = background(line, home, _full_at_step, str(here), str(disk), number, leave)
            process.join()
            err = (here / "err").read_text()
            assert process.exitcode in (0, 1), f"{told}: {err}"
            assert "Traceback" not in err, f"{told}: {err}"
            assert "unexpected" not in err, f"{told}: {err}"
            hit = (disk / "filler").exists()
            (disk / "filler").unlink(missing_ok=True)
            assert made(background, line, store) == [expected], told
            assert not any((attempts / "attempts").glob("[!.]*")), told
        if not hit:
            break
        outcome = "finished in spite of it" if process.exitcode == 0 else "told in one line"
        count_fault(f"disk full, {what}", f"{outcome}, then one finished run, bit-equal")


def made(background: Background, line: list[str], store: Path) -> list[dict[str, float]]:
    """Make the run, or complete it; gives the numerics of those that count."""
    process = background(line, store)
    process.join()
    assert process.exitcode == 0
    runs = Records(f"sqlite:///{store}/mlflow.db", "runner").all()
    assert "RUNNING" not in {record.status for record in runs}
    return [numerics(record) for record in runs if record.counts]
