"""What a launcher costs: a sweep's start, and each further cell of it, where a cell computes next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Row
from runner import extras
from tests.cluster import slurm
from tests.conftest import TOY, TOY_RUN

FEW, MANY = 2, 18
"""Cells of two sweeps, whose difference is what further cells cost."""
LAUNCHERS = {
    "basic": (),
    "joblib": ("+cluster=joblib",),
    "ray": ("+cluster=ray",),
    "slurm, a cell a job": ("+cluster=slurm", "cluster.cells_per_job=1"),
    "slurm, 8 cells a job": ("+cluster=slurm", "cluster.cells_per_job=8"),
}


def overhead() -> list[Row]:
    """Two rows a launcher that is installed; Slurm has two nodes of one core, the others this machine's cores."""
    rows = []
    with _slurm() as environment:
        for name, line in LAUNCHERS.items():
            engine = name.partition(",")[0]
            if engine != "basic" and not extras.installed(extras.CLUSTERS[engine][0]):
                print(f"{name}: not installed ({extras.CLUSTERS[engine][1]})", file=sys.stderr)
            elif engine == "slurm" and environment is None:
                print(f"{name}: {slurm.missing()}", file=sys.stderr)
            else:
                few, many = (_sweep(line, cells, environment or {}) for cells in (FEW, MANY))
                rows.append(Row(f"launcher {name}: a sweep of {FEW} trivial cells", few, "s"))
                rows.append(Row(f"launcher {name}: each further cell", (many - few) / (MANY - FEW), "s"))
    return rows


def _sweep(line: tuple[str, ...], cells: int, environment: Mapping[str, str]) -> float:
    """Seconds of a whole command whose store exists and is empty."""
    with TemporaryDirectory() as folder:
        from runner.store import template

        template.ensure(Path(folder) / "mlflow.db")
        command = [sys.executable, "-m", "runner", "-m", *TOY_RUN, "method.epochs=1", f"seed=range({cells})", *line]
        whole = {**os.environ, **environment, "RUNNER_HOME": folder, "RUNNER_INCLUDE_PATH": str(TOY)}
        begun = time.perf_counter()
        subprocess.run(command, env=whole, check=True, capture_output=True)
        return time.perf_counter() - begun


@contextmanager
def _slurm() -> Iterator[Mapping[str, str] | None]:
    """The environment of a Slurm, or None where there is none."""
    if slurm.missing():
        yield None
        return
    with TemporaryDirectory() as folder:
        cluster = slurm.Slurm(Path(folder))
        try:
            cluster.start()
            yield cluster.environment
        finally:
            cluster.stop()
