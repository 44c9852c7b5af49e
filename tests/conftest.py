"""Shared fixtures: a store of its own for each test, the toy method, and the command line in this process."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# On a fresh machine the first draw builds Hypothesis's tables; on a loaded one a test may take its time.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

TOY = Path(__file__).parent / "toy"
TOY_RUN = ["method=toy", "dataset=toy_data", "model=none", "hardware.threads=1", "progress=false"]


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test records in its own folder and sees no settings of the user's shell."""
    for name in ("RUNNER_TRACEBACK", "RUNNER_INCLUDE_PATH", "TOY_FAULT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RUNNER_HOME", str(tmp_path / "runs"))


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run the command line in this process."""
    from runner import cli as command

    def call(*arguments: str) -> Result:
        capfd.readouterr()
        status = command.status(list(arguments))
        out, err = capfd.readouterr()
        return Result(status, out, err)

    return call


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Arguments that make a toy run."""
    from runner import registry

    monkeypatch.setenv("RUNNER_INCLUDE_PATH", "")
    registry.include(str(TOY))
    yield list(TOY_RUN)
    registry.conf_dirs.cache_clear()


def _in_child(arguments: list[str], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    from runner import cli as command
    from runner import registry

    registry.conf_dirs.cache_clear()
    os._exit(command.status(arguments))


@pytest.fixture(scope="session")
def forkserver() -> multiprocessing.context.ForkServerContext:
    """Processes that begin with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["runner.execute", "tests.warm"])
    return context


@pytest.fixture
def child(forkserver: multiprocessing.context.ForkServerContext) -> Callable[..., int]:
    """Run the command line in a fresh process; gives its exit status, negative for a signal."""

    def call(*arguments: str, wait: bool = True, **environment: str) -> int | multiprocessing.process.BaseProcess:
        whole = {"RUNNER_HOME": os.environ["RUNNER_HOME"], "RUNNER_INCLUDE_PATH": str(TOY), **environment}
        process = forkserver.Process(target=_in_child, args=(list(arguments), whole))
        process.start()
        if not wait:
            return process
        process.join()
        assert process.exitcode is not None
        return process.exitcode

    return call


FAULTS = "faults"
counted: dict[str, Counter[str]] = {}
"""Faults by kind and outcome, summed over all tests and all of xdist's workers."""
seconds: Counter[str] = Counter()


@pytest.fixture
def count_fault(record_property: Callable[[str, object], None]) -> Iterator[Callable[[str, str], None]]:
    """``count_fault(kind, outcome)``: one fault and what became of it; the session's end prints the sums."""
    found: dict[str, dict[str, int]] = {}  # plain: xdist carries nothing else
    begun = time.monotonic()

    def count(kind: str, outcome: str) -> None:
        outcomes = found.setdefault(kind, {})
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    yield count
    record_property(FAULTS, {"counts": found, "seconds": time.monotonic() - begun})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        for faults in (value for name, value in report.user_properties if name == FAULTS):
            for kind, outcomes in faults["counts"].items():
                counted.setdefault(kind, Counter()).update(outcomes)
                seconds[kind] += faults["seconds"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if counted:
        terminalreporter.section("faults")
    for kind, outcomes in sorted(counted.items()):
        told = ", ".join(f"{outcome} {number}" for outcome, number in sorted(outcomes.items()))
        terminalreporter.line(f"{kind:<28} {outcomes.total():>5}  in {seconds[kind]:6.1f} s:  {told}")
