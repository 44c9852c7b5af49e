"""A sweep that is killed and repeated, and what must be true of it in the end."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from runner.attempt import pending
from runner.store.records import DUPLICATE_TAG, History, Record, Records
from tests.conftest import TOY_RUN
from tests.faults.conftest import Background
from tests.runner.test_resume import numerics

SEEDS = range(4)
EPOCHS = 4
LOOPS = ("layer1", "layer2")
RHYTHM = ["method.epoch_seconds=0.01", "checkpoint.every=0", "tracking.upload_every=0.05"]


@dataclass
class Sweep:
    """A sweep of toys with a home and a store of its own; its callback writes down all that is computed."""

    home: Path
    store: Sequence[str] = ()
    """``tracking.uri=…`` and ``tracking.experiment=…``; none: SQLite in ``home``."""
    more: Sequence[str] = ()
    kills: list[float] = field(default_factory=list)
    """After how many seconds of its command something was killed, for a message."""

    @property
    def tally(self) -> Path:
        return self.home / "tally.jsonl"

    @property
    def command(self) -> list[str]:
        tally = f"+callbacks.tally={{_target_: toy_callbacks.Tally, path: '{self.tally}'}}"
        seeds = f"seed={','.join(map(str, SEEDS))}"
        return ["-m", *TOY_RUN, f"method.epochs={EPOCHS}", *RHYTHM, tally, *self.store, *self.more, seeds]

    @property
    def records(self) -> Records:
        given = dict(line.removeprefix("tracking.").split("=", 1) for line in self.store)
        return Records(given.get("uri", f"sqlite:///{self.home}/mlflow.db"), given.get("experiment", "runner"))

    def runs(self) -> list[Record]:
        """All attempts that the store has, sweeps' own records left out."""
        return [record for record in self.records.all() if record.key]

    def __str__(self) -> str:
        return f"{self.home.name}, killed after {self.kills} s"


@dataclass(frozen=True)
class Reference:
    """The sweep that nobody disturbed."""

    seconds: float
    numerics: dict[str, dict[str, float]]
    """By seed."""
    curves: dict[str, History]


def undisturbed(sweep: Sweep, background: Background) -> Reference:
    """Run it, and keep what it gave."""
    sweep.home.mkdir()
    begun = time.monotonic()
    process = background(sweep.command, sweep.home)
    process.join()
    seconds = time.monotonic() - begun
    assert process.exitcode == 0
    runs = {record.tags["runner.seed"]: record for record in sweep.runs()}
    assert len(runs) == len(SEEDS)
    return Reference(seconds, {seed: numerics(record) for seed, record in runs.items()}, _curves(sweep, runs))


def completed(sweep: Sweep, background: Background, reference: Reference) -> None:
    """Type the same command again: it ends well, and every cell counts once, with the bits of an undisturbed one."""
    process = background(sweep.command, sweep.home)
    process.join()
    assert process.exitcode == 0, sweep
    _each_cell_counts_once(sweep, reference)
    assert list(pending(str(sweep.home))) == [], sweep


def made_once(sweep: Sweep) -> None:
    """On one host or a shared folder: one finished attempt a cell, and nothing of it computed twice."""
    finished = [record.tags["runner.seed"] for record in sweep.runs() if record.status == "FINISHED"]
    assert sorted(finished) == [str(seed) for seed in SEEDS], sweep
    assert list((sweep.home / "attempts").iterdir()) == [], sweep
    told: dict[str, list[list[object]]] = {}
    for line in sweep.tally.read_text().splitlines():
        key, *event = json.loads(line)
        told.setdefault(key, []).append(event)
    for events in told.values():
        processes = [process for process, *_ in events]
        starts = sum(event == "start" for _, event, *_ in events)
        changes = sum(one != other for one, other in pairwise(processes))
        assert changes == starts - 1, f"{sweep}: two processes computed at once: {events}"
        ends = [number for number, (_, event, *rest) in enumerate(events) if (event, rest) == ("end", ["finished"])]
        assert ends in ([], [len(events) - 1]), f"{sweep}: something was computed after the end: {events}"
        epochs = Counter((loop, epoch) for _, event, *rest in events if event == "epoch" for loop, epoch in [rest])
        again = epochs.total() - len(epochs)
        assert again < starts, f"{sweep}: {again} epochs twice, of {starts} beginnings each may repeat one: {events}"


def overlapped(sweep: Sweep) -> int:
    """Over a bare server: attempts that finished after another of their cell, each tagged with the one that counts."""
    counting = {record.key: record.run_id for record in sweep.runs() if record.counts}
    others = [record for record in sweep.runs() if record.status == "FINISHED" and not record.counts]
    assert all(record.tags[DUPLICATE_TAG] == counting[record.key] for record in others), sweep
    return len(others)


def _each_cell_counts_once(sweep: Sweep, reference: Reference) -> None:
    runs = sweep.runs()
    assert "RUNNING" not in {record.status for record in runs}, sweep
    counting = [record for record in runs if record.counts]
    assert sorted(record.tags["runner.seed"] for record in counting) == [str(seed) for seed in SEEDS], sweep
    by_seed = {record.tags["runner.seed"]: record for record in counting}
    assert {seed: numerics(record) for seed, record in by_seed.items()} == reference.numerics, sweep
    assert _curves(sweep, by_seed) == reference.curves, sweep


def _curves(sweep: Sweep, runs: dict[str, Record]) -> dict[str, History]:
    """What was logged in the loops, by seed; costs are another thing."""
    names = [f"{loop}/{metric}" for loop in LOOPS for metric in ("loss", "val_acc")]
    histories = sweep.records.histories([record.run_id for record in runs.values()], names)
    return {seed: histories[record.run_id] for seed, record in runs.items()}
