"""The table of learning rules across hardware: what it leaves empty is refused, and what it names runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runner.tables.paper import load
from tests.conftest import Result

Cli = Callable[..., Result]
TABLE = load("cross_learning_rules")
HARDWARE = {"synapse_crossbar": ["hardware=synapse_crossbar", "hardware.rule=stochastic"], "pulp_8core, binary16": []}
EMPTY = [
    (row, column.label)
    for row in TABLE.rows("accuracy")
    for column in TABLE.paper.tables["accuracy"].columns
    if ("accuracy", row, column.label) not in TABLE.cells
]


def test_the_binary_rules_stay_off_the_crossbar() -> None:
    assert sorted(EMPTY) == [("BiPer", "synapse_crossbar"), ("sign, STE", "synapse_crossbar")]


@pytest.mark.parametrize(("row", "hardware"), EMPTY)
def test_what_the_table_leaves_empty_is_refused_with_the_reason(row: str, hardware: str, cli: Cli) -> None:
    line = [item for item in TABLE.cells["accuracy", row, "cpu"].overrides if not item.startswith("hardware")]
    result = cli(*line, *HARDWARE[hardware], "limit=1", "progress=false")
    assert result.status == 2
    assert "computes with a function of them" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("method", ["bidirectional", "han"])
@pytest.mark.parametrize(
    ("hardware", "told"), [("synapse_crossbar", "no linear layer"), ("pulp_8core", "Adam's eps=1e-08 is 0")]
)
def test_shared_weights_and_adam_are_refused(method: str, hardware: str, told: str, cli: Cli) -> None:
    result = cli(f"method={method}", "dataset=digits", f"hardware={hardware}", "limit=1", "progress=false")
    assert result.status == 2
    assert told in result.err


def test_all_rules_have_one_setting_on_all_hardware() -> None:
    for row in TABLE.rows("accuracy"):
        lines = {
            tuple(item for item in cell.overrides if not item.startswith("hardware"))
            for cell in TABLE.cells.values()
            if cell.row == row
        }
        assert len(lines) == 1
