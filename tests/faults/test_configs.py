"""Whatever is typed gives a run or a clear line: never a traceback, never a signal."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from runner import registry
from tests.conftest import TOY, Result
from tests.faults.arguments import command_lines
from tests.faults.conftest import Captured

COUNT = 200
PARTS = [pytest.param(0), *(pytest.param(part, marks=pytest.mark.faults) for part in range(1, 11))]
QUIET = [
    HealthCheck.too_slow,
    HealthCheck.function_scoped_fixture,
    HealthCheck.large_base_example,
    HealthCheck.data_too_large,
]


@pytest.fixture
def included(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_INCLUDE_PATH", str(TOY))
    registry.conf_dirs.cache_clear()
    yield
    registry.conf_dirs.cache_clear()


@pytest.mark.parametrize("part", PARTS)
def test_any_command_line_gives_a_run_or_a_clear_line(
    part: int, included: None, captured: Captured, small_graph: Path, count_fault: Callable[[str, str], None]
) -> None:
    @seed(part)
    @settings(max_examples=COUNT, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=QUIET)
    @given(arguments=command_lines(str(small_graph)))
    def each(arguments: list[str]) -> None:
        result = captured(arguments)
        count_fault("command lines", outcome(result))
        assert outcome(result) != "WRONG", told(arguments, result)

    each()


def outcome(result: Result) -> str:
    """What became of a command line; ``WRONG`` is what mustn't be."""
    lines = result.err.splitlines()
    if "Traceback" in result.out + result.err or "runner: unexpected" in result.err:
        return "WRONG"
    if result.status == 0:
        return "exit 0"
    if result.status == 2 and len(lines) == 1 and lines[0].startswith("runner: "):
        return "exit 2, one line"
    if result.status == 1 and "failed" in result.err:
        return "exit 1, failed run"
    if result.status == 1 and len(lines) == 1 and lines[0].startswith("runner: "):
        return "exit 1, one line"
    if result.status == 143 and lines[-1].startswith("runner: interrupted"):
        return "a long run, stopped"
    return "WRONG"


def told(arguments: list[str], result: Result) -> str:
    return f"runner {shlex.join(arguments)[:3000]}\nstatus {result.status}\n{result.out[-500:]}\n{result.err[-1500:]}"
