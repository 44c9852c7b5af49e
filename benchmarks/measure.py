"""How things are timed here: interleaved, repeated, the median."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure."""

    what: str
    ours: float
    unit: str
    reference: float | None = None
    """The plain reference, in the same unit; None: the figure stands alone."""
    limit: float | None = None
    """Most that the ratio may be; for a figure that stands alone, most that it may be itself."""

    @property
    def value(self) -> float:
        """What the limit is about."""
        return self.ours if self.reference is None else self.ours / self.reference

    @property
    def well(self) -> bool:
        """Whether it is within its limit."""
        return self.limit is None or self.value <= self.limit

    def cells(self) -> list[str]:
        """As text: what, ours, reference, ratio, limit."""
        if self.reference is None:
            return [
                self.what,
                f"{self.ours:.4g} {self.unit}",
                "",
                "",
                "" if self.limit is None else f"≤ {self.limit:g}",
            ]
        return [
            self.what,
            f"{self.ours:.4g} {self.unit}",
            f"{self.reference:.4g} {self.unit}",
            f"{self.value:.3f}",
            "" if self.limit is None else f"≤ {self.limit:g}",
        ]


def interleaved(calls: Sequence[Callable[[], float]], rounds: int) -> list[float]:
    """Median of each call's figure over so many rounds, the calls taken in turn; one round before is not counted."""
    figures: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for found, call in zip(figures, calls, strict=True):
            value = call()
            if number:
                found.append(value)
    return [statistics.median(found) for found in figures]


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of a call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def cpu_seconds(command: Sequence[str], folder: str) -> float:
    """User and system seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, capture_output=True, env={**os.environ, "RUNNER_HOME": folder}, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
