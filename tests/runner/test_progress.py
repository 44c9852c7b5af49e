"""Progress: on a terminal a bar with the time that is left, elsewhere plain lines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import sweep_watch
from runner.compose import compose
from runner.stored import identify_run
from runner.sweep_watch import Told
from tests.conftest import Result

Cli = Callable[..., Result]
ESCAPE = "\x1b["


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich takes whatever it writes to for a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm-256color")


def loud(toy: list[str]) -> list[str]:
    return [word for word in toy if word != "progress=false"]


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_on_a_terminal_draws_one_bar(launcher: str, terminal: None, cli: Cli, toy: list[str]) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    home = f"home={os.environ['RUNNER_HOME']}"
    cli(*loud(toy), home, "seed=0")
    slow = ["method.epoch_seconds=0.05", home, f"hydra/launcher={launcher}"]
    result = cli("-m", *loud(toy), "seed=range(3)", *slow)
    assert result.status == 0, result.err
    assert "0/3" in result.err
    assert "3/3" in result.err
    assert "left" in result.err
    assert ("layer1" in result.err) == (launcher == "basic")  # other processes draw nothing between its lines
    for seed in range(3):
        assert result.err.count(f"#{seed} ") == 1
    assert list((Path(os.environ["RUNNER_HOME"]) / "sweeps").glob("*.jsonl")) == []


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_without_a_terminal_there_are_plain_lines(launcher: str, cli: Cli, toy: list[str]) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    home = f"home={os.environ['RUNNER_HOME']}"
    result = cli("-m", *loud(toy), "seed=range(2)", home, f"hydra/launcher={launcher}")
    lines = result.err.splitlines()
    assert lines[0] == "0 of 2 runs exist, making 2"
    assert sorted(line.partition(" method=")[0] for line in lines[1:]) == ["#0", "#1"]
    assert all(": finished test_acc " in line for line in lines[1:])
    assert ESCAPE not in result.err


def test_progress_false_draws_nothing(terminal: None, cli: Cli, toy: list[str]) -> None:
    assert ESCAPE not in cli("-m", *toy, "seed=range(2)").err
    assert ESCAPE not in cli(*toy, "seed=7").err


def test_a_single_run_draws_its_loops(terminal: None, cli: Cli, toy: list[str]) -> None:
    result = cli(*loud(toy), "method.epoch_seconds=0.15")
    assert "layer2" in result.err
    assert "val_acc" in result.err


def test_the_time_left_comes_from_the_cells_that_ended(toy: list[str], tmp_path: Path) -> None:
    reports: list[tuple[int, int, float | None]] = []
    said: list[str] = []
    cells = {number: identify_run(compose([*toy, f"seed={number}"])) for number in range(4)}
    file = sweep_watch.spool(str(tmp_path), "parent")
    watch = sweep_watch._Watch(cells, 5, {file}, said.append, lambda *report: reports.append(report))

    def poll() -> tuple[int, int, float | None]:
        import threading

        ended = threading.Event()
        ended.set()
        watch.follow(ended)
        return reports[-1]

    assert poll() == (1, 0, None)  # one existed, nothing is known
    sweep_watch.tell(str(tmp_path), "parent", Told(0, "finished", 10.0, "a"))
    done, failed, left = poll()
    assert (done, failed) == (2, 0)
    assert left == pytest.approx(30, abs=1)  # three more, one after the other
    sweep_watch.tell(str(tmp_path), "parent", Told(1, "failed", 10.0, "b"))
    time.sleep(0.01)
    done, failed, left = poll()
    assert (done, failed) == (3, 1)
    assert left == pytest.approx(10, abs=1)  # two ended in the time of one: two more at a time
    with file.open("a") as half:
        half.write('{"number": 2, ')
    assert poll()[0] == 3
    with file.open("a") as rest:
        rest.write('"status": "finished", "seconds": 10.0, "text": "c"}\n')
    assert poll()[0] == 4
    assert said == ["a", "b", "c"]


def test_earlier_runs_tell_the_time_before_any_cell_has_ended(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    cli(*toy)
    cells = {0: identify_run(compose([*toy, "seed=1"])), 1: identify_run(compose([*toy, "seed=2"]))}
    reports: list[tuple[int, int, float | None]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_watch.progress, "sweep", lambda *_: _reporting(reports))
        with sweep_watch.watching(cells, {0: "p", 1: "p"}, 2, str):
            pass
    ((done, failed, left),) = reports
    assert (done, failed) == (0, 0)
    assert left is not None
    assert 0 < left < 60


def _reporting(into: list[tuple[int, int, float | None]]):  # type: ignore[no-untyped-def]
    from contextlib import nullcontext

    return nullcontext(lambda *report: into.append(report))
