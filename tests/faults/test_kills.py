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
from tests.faults.conftest import Background, _own_group
from tests.runner.test_resume import curves, numerics

KILLS = 20
PARTS = [pytest.param(0), *(pytest.param(part, marks=pytest.mark.faults) for part in range(1, 11))]
COMMANDS = {
    "toy": [*TOY_RUN, "method.epochs=12", "method.epoch_seconds=0.01"],
    "toy, each epoch": [*TOY_RUN, "method.epochs=12", "method.epoch_seconds=0.01", "checkpoint.every=0"],
    "forwardgnn, each epoch": ["method=forwardgnn", "method.epochs=12", "checkpoint.every=0"],
    "backprop": ["method=backprop", "method.epochs=25"],
}
STORE_CALLS = (
    *("create_run", "log_batch", "set_tag", "update_run", "log_artifact", "log_artifacts", "set_terminated"),
    *("create_experiment", "get_run"),
)


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
        one_finished(background, line, home, undisturbed[name], f"{name} killed after {moments} s")
        count_fault(f"SIGKILL of {name}", "then one finished run, bit-equal")


def one_finished(background: Background, line: list[str], home: Path, undisturbed: Undisturbed, told: str) -> None:
    """Repeat a killed command: exactly one run, the same bits, and nothing left of its attempts."""
    again = background(line, home)
    again.join()
    assert again.exitcode == 0, told
    found = runs(home)
    assert [record.status for record in found] == ["FINISHED"], told
    assert numerics(found[0]) == undisturbed.numerics, told
    assert curves(f"sqlite:///{home}/mlflow.db", found[0].run_id) == undisturbed.curves, told
    assert list((home / "attempts").iterdir()) == [], told


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


def _killed_at_step(arguments: list[str], environment: dict[str, str], number: int) -> None:
    """Run a command until the n-th of its steps that write is done: calls of the store, files of the attempt."""
    from mlflow.tracking import MlflowClient

    from runner import attempt, loops

    left = iter(range(number, 0, -1))

    def counted(step: Callable[..., object]) -> Callable[..., object]:
        def call(*words: object, **named: object) -> object:
            result = step(*words, **named)
            if next(left) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in STORE_CALLS:
        setattr(MlflowClient, name, counted(getattr(MlflowClient, name)))
    for owner, name in ((attempt, "write_text"), (attempt.Attempt, "flush"), (loops, "save_whole"), (os, "rmdir")):
        setattr(owner, name, counted(getattr(owner, name)))
    _own_group(arguments, environment)


STEPS = range(1, 90)
QUICK = range(2, 90, 9)


@pytest.mark.parametrize("first", [pytest.param(None), *(pytest.param(n, marks=pytest.mark.faults) for n in range(6))])
def test_killed_after_any_step_that_writes_ends_bit_equal(
    first: int | None,
    background: Background,
    small_graph: Path,
    tmp_path: Path,
    count_fault: Callable[[str, str], None],
) -> None:
    """The moments that chance rarely meets: between the store's knowing of something and the attempt's noting it."""
    name = "toy, each epoch"
    undisturbed = left_alone(name, background, small_graph, tmp_path)
    line = command(name, small_graph)
    for number in QUICK if first is None else list(STEPS)[first::6]:
        home = tmp_path / f"step{number}"
        process = background(line, home, _killed_at_step, number)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, number
        one_finished(background, line, home, undisturbed, f"{name} killed after step {number}")
        count_fault("SIGKILL after a write", "then one finished run, bit-equal")
