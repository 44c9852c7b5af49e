"""A toy sweep as a user types it: a process of its own, with a store of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.store.records import KIND_TAG, Record, Records
from tests.conftest import TOY, TOY_RUN, Result

PATIENCE_SECONDS = 300.0
SLOW = ("method.epochs=10", "method.epoch_seconds=0.1", "checkpoint.every=0")
"""A cell that takes two seconds, and can be resumed at each epoch."""


@dataclass(frozen=True)
class Sweeps:
    """Sweeps of one store."""

    home: Path
    cluster: tuple[str, ...]
    """What is typed to go through an engine."""
    environment: Mapping[str, str]

    def begin(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Begin ``runner -m`` with the toy's arguments and these."""
        ours = {"RUNNER_HOME": str(self.home), "RUNNER_INCLUDE_PATH": str(TOY)}
        return subprocess.Popen(
            [sys.executable, "-m", "runner", "-m", *TOY_RUN, *self.cluster, *arguments],
            env={**os.environ, **self.environment, **ours, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> Result:
        """The same, to its end."""
        return ended(self.begin(*arguments, **environment))

    def runs(self) -> list[Record]:
        """The runs of the store, without the sweeps' own."""
        if not (self.home / "mlflow.db").exists():
            return []
        records = Records(f"sqlite:///{self.home}/mlflow.db", "runner").all()
        return [record for record in records if record.tags.get(KIND_TAG) == "train"]

    def finished(self) -> Counter[int]:
        """Number of finished runs by seed."""
        return Counter(int(record.tags["runner.seed"]) for record in self.runs() if record.status == "FINISHED")

    def complete(self, seeds: int) -> bool:
        """Whether each seed has one finished run, no more."""
        return self.finished() == Counter(range(seeds))


def ended(process: subprocess.Popen[str]) -> Result:
    """A process's output, once it has ended."""
    try:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Result(process.returncode, out, err)


def until(true: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is true while a process is under way."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert process.poll() is None, ended(process)
        assert time.monotonic() < deadline
        time.sleep(0.1)
