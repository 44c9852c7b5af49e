"""Command lines that were once not told in one line; each found by ``test_configs``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import LONGEST, one_line
from tests.conftest import TOY_RUN, Result
from tests.faults.conftest import Captured

LONG = "9" * 5000


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["+experiment=1"], "must be a string or a list"),
        (["+experiment=null"], ""),
        (["model=[1]"], ""),
        (["model._target_=0"], "model._target_=0: expected str"),
        (["model._target_=os.system"], "module 'os' can't be found"),
        (["method._target_=[]"], "method._target_=[]: expected str"),
        (["a." * 500 + "a=1"], ""),
        (["tracking='0.5'"], "tracking='0.5': expected object"),
        (["-m", "seed=0,1", "tracking='0.5'"], "tracking='0.5': expected object"),
        (["-m", "seed=0,1", "tracking.uri=[1]"], "tracking.uri=[1]: expected str"),
        (["method.lr=${add:a,1}"], ""),
        (["method.lr=${method}"], ""),
        (["method.lr='a\nb\x1b[31m'"], "method.lr='a\\nb\\x1b[31m'"),
        (["nope\n=1"], ""),
        ([f"method.epochs={LONG}"], ""),
        (["method.teacher"], ""),
    ],
)
def test_odd_overrides(more: list[str], told: str, cli: Callable[..., Result], toy: list[str]) -> None:
    check(cli(*toy, *more), told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["no\nsuch\ncommand"], "no command 'no such command'"),
        (["\x1b[31m"], "no command '\\x1b[31m'"),
        (["list", "runs", "tracking.uri={"], ""),
        (["list", "runs", "tracking.uri=[1]"], "tracking.uri=[1]: expected str"),
        (["list", "runs", "tracking.experiment=${nope}"], ""),
        (["list", "runs", "tracking.nope=1"], "unknown key 'tracking.nope'"),
        (["list", "runs", f"home=a{LONG}"], "File name too long"),
        (["import", LONG], ""),
        (["show", LONG], "no run '999"),
    ],
)
def test_odd_arguments(arguments: list[str], told: str, cli: Callable[..., Result]) -> None:
    check(cli(*arguments), told)


@pytest.mark.parametrize(
    ("more", "status"),
    [
        (["dataset.nodes=1000000000000"], 1),
        (["method.epoch_seconds=1.0e+300"], 1),
        (["hardware.threads=1000000000"], 2),
        (["method=backprop", "dataset=file", "model=gcn", "model.hidden_channels=1000000000"], 1),
    ],
)
def test_sizes_that_no_machine_has(more: list[str], status: int, captured: Captured, small_graph: Path) -> None:
    graph = [f"dataset.path={small_graph}"] if "dataset=file" in more else []
    chosen = [line for line in TOY_RUN if line.partition("=")[0] not in {given.partition("=")[0] for given in more}]
    result = captured([*chosen, *more, *graph])
    assert result.status == status, result.err
    assert result.err.startswith("runner: ")
    assert "runner: unexpected" not in result.err
    assert result.err.count("\n") <= 2  # a failed run also says where it is recorded


def check(result: Result, told: str) -> None:
    assert result.status == 2, result.err
    assert result.err.count("\n") == 1
    assert result.err.startswith("runner: ")
    assert "runner: unexpected" not in result.err
    assert told in result.err
    assert len(result.err) < 2 * LONGEST


def test_a_message_is_one_short_line() -> None:
    assert one_line("a\n  b\t\x07") == "a b \\x07"
    assert len(one_line("x" * 10**6)) < 2 * LONGEST
