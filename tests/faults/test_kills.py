"""SIGKILL at any moment, and the same command again: one finished run, with the bits of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.store.records import Record, Records
from tests.conftest import TOY_RUN
from tests.faults.conftest import Background
from tests.runner.test_resume import curves, numerics

KILLS = 20
PARTS = [pytest.param(0), *(pytest.param(part, marks=pytest.mark.faults) for part in range(1, 11))]
COMMANDS = {
    "toy": [*TOY_RUN, "method.epochs=12", "method.epoch_seconds=0.01"],
    "toy, each epoch": [*TOY_RUN, "method.epochs=12", "method.epoch_seconds=0.01", "checkpoint.every=0"],
    "forwardgnn, each epoch": ["method=forwardgnn", "method.epochs=12", "checkpoint.every=0"],
    "backprop": ["method=backprop", "method.epochs=25"],
}


@dataclass(frozen=True)
class Undisturbed:
    """What a command gives when it is left alone."""

    seconds: float
    numerics: dict[str, float]
    curves: dict[str, list[tuple[int, float]]]


def command(name: str, graph: Path) -> list[str]:
    own = [] if name.startswith("toy") else ["dataset=file", f"dataset.path={graph}", "progress=false"]
    return [*COMMANDS[name], *own, "tracking.upload_every=0.1"]


def runs(home: Path) -> list[Record]:
    return Records(f"sqlite:///{home}/mlflow.db", "runner").all()


@pytest.mark.parametrize("part", PARTS)
def test_killed_at_any_moment_ends_bit_equal(
    part: int, background: Background, small_graph: Path, tmp_path: Path, count_fault: Callable[[str, str], None]
) -> None:
    draw = random.Random(part)
    print(f"seed {part}")
    background(["--version"], tmp_path).join()  # the fork server has begun
    undisturbed = {name: left_alone(name, background, small_graph, tmp_path) for name in COMMANDS}
    kills = tries = 0
    while kills < KILLS:
        tries += 1
        name = draw.choice(list(COMMANDS))
        home = tmp_path / f"try{tries}"
        line = command(name, small_graph)
        moments = []
        for _ in range(draw.choice([1, 1, 2, 3])):
            moments.append(draw.uniform(0, undisturbed[name].seconds))
            if killed(background(line, home), moments[-1]):
                kills += 1
                count_fault(f"SIGKILL of {name}", "killed")
        again = background(line, home)
        again.join()
        told = f"{name} killed after {moments} s"
        assert again.exitcode == 0, told
        found = runs(home)
        assert [record.status for record in found] == ["FINISHED"], told
        assert numerics(found[0]) == undisturbed[name].numerics, told
        assert curves(f"sqlite:///{home}/mlflow.db", found[0].run_id) == undisturbed[name].curves, told
        assert list((home / "attempts").iterdir()) == [], told
        count_fault(f"SIGKILL of {name}", "then one finished run, bit-equal")


def left_alone(name: str, background: Background, graph: Path, folder: Path) -> Undisturbed:
    home = folder / name.replace(", ", "-").replace(" ", "-")
    begun = time.monotonic()
    process = background(command(name, graph), home)
    process.join()
    seconds = time.monotonic() - begun
    (record,) = runs(home)
    return Undisturbed(seconds, numerics(record), curves(f"sqlite:///{home}/mlflow.db", record.run_id))


def killed(process: object, after: float) -> bool:
    """Whether there was something left to kill."""
    process.join(after)  # type: ignore[attr-defined]
    if process.exitcode is not None:  # type: ignore[attr-defined]
        return False
    try:
        os.killpg(process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    except ProcessLookupError:  # it is too young to have a group of its own
        process.kill()  # type: ignore[attr-defined]
    process.join()  # type: ignore[attr-defined]
    return process.exitcode == -signal.SIGKILL  # type: ignore[attr-defined]
