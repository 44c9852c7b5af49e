"""A paper's tables in a terminal: curves where they fit, colours for verdicts; elsewhere nothing but text."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.store.records import Records
from runner.tables import curves
from runner.tables.curves import MARKS
from runner.tables.measured import measure
from runner.tables.paper import load
from tests.conftest import Result

Cli = Callable[..., Result]
ESCAPE = "\x1b["
GREEN, RED = "\x1b[32m", "\x1b[1;31m"


def curves_of(text: str) -> list[str]:
    return re.findall(f"[{MARKS}]+", text)


def test_what_fits_is_drawn_in_a_terminal_and_only_there(
    cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("reproduce", "paper=toy", "progress=false").status == 0
    piped = cli("table", "paper=toy").out
    assert ESCAPE not in piped
    assert curves_of(piped) == []

    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("COLUMNS", "160")):
        monkeypatch.setenv(name, value)
    drawn = cli("table", "paper=toy").out
    assert GREEN in drawn
    assert RED in drawn
    assert len(curves_of(drawn)) == 5  # a cell each, that which no column asks for left out
    assert "Curves: validation" in drawn
    assert all(len(re.sub(r"\x1b\[[\d;]*m", "", line)) <= 160 for line in drawn.splitlines())

    monkeypatch.setenv("COLUMNS", "60")
    narrow = cli("table", "paper=toy").out
    assert curves_of(narrow) == []
    assert "Curves" not in narrow
    assert all(len(re.sub(r"\x1b\[[\d;]*m", "", line)) <= 60 for line in narrow.splitlines())

    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = cli("table", "paper=toy").out
    assert ESCAPE not in plain
    assert len(curves_of(plain)) == 5
    assert ESCAPE not in cli("table", "paper=toy", "format=md").out
    check_curves_are_what_was_logged()


def check_curves_are_what_was_logged() -> None:
    measured = measure(load("toy"))
    value = measured.values["acc", "lr 0.05", "long"]
    ids = [run.record.run_id for run in value.runs if run.record]
    histories = Records(f"sqlite:///{os.environ['RUNNER_HOME']}/mlflow.db", "runner").histories(ids)
    expected = [
        statistics.fmean(dict(history[f"{loop}/val_acc"])[step] for history in histories.values())
        for loop in ("layer1", "layer2")
        for step in (2, 4)
    ]
    assert curves.mean_curve(list(histories.values())) == pytest.approx(expected)
    assert curves.sparklines(measured)["acc", "lr 0.05", "long"] == curves.sparkline(expected)


def test_nothing_is_drawn_where_nothing_was_measured(cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    result = cli("table", "paper=toy")
    assert result.status == 0
    assert curves_of(result.out) == []
    assert "Curves" not in result.out


def test_a_sparkline_rises_as_its_curve() -> None:
    assert curves.sparkline(list(range(8)), 8) == MARKS
    assert curves.sparkline([3.0, 3.0], 4) == "▁▁  "
    assert curves.sparkline([0.0, 0.0, 1.0, 1.0], 2) == "▁█"
    assert curves.sparkline([], 3) == "   "


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.integers(1, 20))
def test_a_sparkline_has_its_width_and_its_extremes(curve: list[float], width: int) -> None:
    line = curves.sparkline(curve, width)
    assert len(line) == width
    assert len(line.rstrip()) == min(width, len(curve))
    assert MARKS[0] in line
    assert set(line) <= {*MARKS, " "}


def test_loops_follow_one_another_and_runs_count_while_they_last() -> None:
    long = {"layer2/val_acc": [(1, 0.4), (2, 0.6)], "layer10/val_acc": [(1, 1.0)], "layer2/loss": [(1, 9.0)]}
    short = {"layer2/val_acc": [(1, 0.2)], "layer2/val_loss": [(1, 7.0)]}
    assert curves.mean_curve([long, short]) == pytest.approx([0.3, 0.6, 1.0])
    assert curves.mean_curve([]) == []
