"""What the jobs of a sweep tell its parent, in whatever process they run: a line a cell, in a file that both see."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from runner import progress
from runner.durations import Durations
from runner.identity import Identity
from runner.store.records import Records, uri_of

POLL_SECONDS = 0.2

Say = Callable[[str], object]
"""Takes a line for the user."""


@dataclass(frozen=True)
class Told:
    """A cell has come to its end."""

    number: int
    """Hydra's number of the job."""
    status: str
    """existing | finished | failed."""
    seconds: float
    text: str
    """For people."""


def spool(home: str, parent: str) -> Path:
    """Where the jobs of a sweep, by its parent run's id, tell their ends."""
    return Path(home) / "sweeps" / f"{parent}.jsonl"


def tell(home: str, parent: str, told: Told) -> None:
    """Append a line; it is one write, so that lines of several processes don't mix."""
    file = spool(home, parent)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(told)) + "\n")


def to_stderr(line: str) -> None:
    """Say it on standard error."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def watching(cells: Mapping[int, Identity], parents: Mapping[int, str], total: int, say: Say) -> Iterator[None]:
    """Say what the jobs tell while they are under way; on a terminal, draw a bar with the time that is left.

    Args:
        cells: the runs that are to be made, by the number of their job.
        parents: ids of their sweep's parent runs, likewise; empty where the store could not take one.
        total: cells of the sweep, those that exist included.
        say: called with each line.
    """
    enabled = all(identity.config["progress"] for identity in cells.values())
    with progress.sweep(enabled, total) as report:
        spools = {
            spool(identity.config["home"], parents[number]) for number, identity in cells.items() if parents[number]
        }
        watch = _Watch(cells, total, spools, say, report)
        ended = threading.Event()
        thread = threading.Thread(target=watch.follow, args=[ended], daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            for file in spools:
                file.unlink(missing_ok=True)


class _Watch:
    def __init__(
        self,
        cells: Mapping[int, Identity],
        total: int,
        spools: set[Path],
        say: Say,
        report: progress.Report | None,
    ) -> None:
        self._waiting = dict(cells)
        self._total = total
        self._offsets = dict.fromkeys(spools, 0)
        self._say = say
        self._report = report
        self._times = Durations()
        self._told: list[float] = []
        self._failed = 0
        self._begun = time.monotonic()
        self._end: float | None = None
        if report is not None:
            places = {(uri_of(cell.config), cell.config["tracking"]["experiment"]) for cell in cells.values()}
            self._times = Durations.of(record for place in places for record in Records(*place).finished().values())
            self._expect()

    def follow(self, ended: threading.Event) -> None:
        """Until the sweep has ended, and once after."""
        last = False
        while not last:
            last = ended.wait(POLL_SECONDS)
            for told in self._new():
                self._take(told)
            if self._report is not None:
                left = None if self._end is None else max(0.0, self._end - time.monotonic())
                self._report(self._total - len(self._waiting), self._failed, left)

    def _new(self) -> Iterator[Told]:
        for file, offset in self._offsets.items():
            with contextlib.suppress(FileNotFoundError), file.open("rb") as lines:
                lines.seek(offset)
                whole = lines.read().rpartition(b"\n")[0]
                for line in whole.splitlines():
                    yield Told(**json.loads(line))
                self._offsets[file] += len(whole) + bool(whole)

    def _take(self, told: Told) -> None:
        self._say(told.text)
        if not self._told:  # what the launcher needed before is no measure of the cells
            self._begun = time.monotonic() - told.seconds
        self._failed += told.status == "failed"
        self._told.append(told.seconds)
        identity = self._waiting.pop(told.number, None)
        if identity is not None and told.status == "finished":
            self._times.add(identity.choices, told.seconds)
        self._expect()

    def _expect(self) -> None:
        """When the sweep will have ended: what its waiting cells will take, at as many a time as so far."""
        now, elsewise = time.monotonic(), sum(self._told) / len(self._told) if self._told else None
        at_once = sum(self._told) / (now - self._begun) if self._told else 1.0
        estimates = [self._times.estimate(cell.choices) or elsewise for cell in self._waiting.values()]
        known = [seconds for seconds in estimates if seconds is not None]
        self._end = now + sum(known) / at_once if len(known) == len(estimates) else None
