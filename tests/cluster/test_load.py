"""Many writers at once: nobody is refused, and no metric is lost. ``python -m benchmarks load`` measures it."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from benchmarks import load
from runner.store import template
from tests.cluster.servers import Tracking

pytestmark = pytest.mark.cluster


def test_sixteen_processes_write_to_one_sqlite_file() -> None:
    assert load.sqlite(processes=16, epochs=50) > 0


def test_sixty_four_clients_write_to_the_server(server: Tracking) -> None:
    assert load.clients(server.uri, number=64, epochs=50) > 0


def _ensure(path: str, gate: object) -> None:
    gate.wait()  # type: ignore[attr-defined]
    template.ensure(Path(path))
    os._exit(0 if Path(path).stat().st_size else 1)


def test_sixteen_processes_make_one_new_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(16)
    made = [context.Process(target=_ensure, args=(str(tmp_path / "mlflow.db"), gate)) for _ in range(16)]
    for process in made:
        process.start()
    for process in made:
        process.join()
    assert [process.exitcode for process in made] == [0] * 16
