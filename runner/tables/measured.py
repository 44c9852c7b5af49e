"""What the store has of a paper's cells, and what its claims come to: from the runs, never by hand."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from runner import stored
from runner.compose import SweepComposer
from runner.identity import Identity
from runner.store.records import Record, Records, uri_of
from runner.tables.paper import Cell, Expanded, Fields, expand, fill

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not measured"
CONFIDENCE = 0.95
RESAMPLES = 10_000
CHOSEN = ("method", "dataset")


@dataclass(frozen=True)
class Run:
    """One run that a cell needs: its command line, its identity, what the store has of it."""

    overrides: tuple[str, ...]
    identity: Identity
    record: Record | None


@dataclass(frozen=True)
class Value:
    """A cell as measured."""

    cell: Cell
    runs: tuple[Run, ...]
    values: dict[int, float]
    """By seed, in the table's unit."""

    @property
    def n(self) -> int:
        """Replicates measured."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """Mean of the replicates."""
        return statistics.fmean(self.values.values()) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation; None below two replicates."""
        return statistics.stdev(self.values.values()) if self.n > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours minus published, where both are the same quantity."""
        published = self.cell.published
        if published is None or not published.get("comparable", True) or self.mean is None:
            return None
        return self.mean - float(published["mean"])

    @property
    def stale(self) -> bool:
        """Whether the code has changed since one of the runs."""
        return any(run.record and stored.is_stale(run.record, run.identity.config) for run in self.runs)


@dataclass(frozen=True)
class Paired:
    """The difference of two cells over common replicates."""

    mean: float
    low: float
    """95 % bootstrap interval of the mean difference."""
    high: float
    p: float
    """Of the paired t-test, two-sided."""
    n: int


@dataclass(frozen=True)
class Verdict:
    """One claim, for one combination of its fields."""

    name: str
    text: str
    verdict: str
    means: dict[str, float | None]
    check: str
    paired: Paired | None
    tried: str


@dataclass(frozen=True)
class Measured:
    """A paper with what the store has of it."""

    expanded: Expanded
    values: dict[tuple[str, str, str], Value]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """All claims."""
        return [
            self._verdict(name, fields)
            for name, claim in self.expanded.paper.claims.items()
            for fields in expand([{**claim.each, "label": ""}])
        ]

    @property
    def records(self) -> list[Record]:
        """All runs behind the tables, once each."""
        found = {run.record.run_id: run.record for value in self.values.values() for run in value.runs if run.record}
        return list(found.values())

    def _verdict(self, name: str, fields: Fields) -> Verdict:
        claim = self.expanded.paper.claims[name]
        cells = {
            key: self.values[claim.table, fill(row, fields), fill(column, fields)]
            for key, (row, column) in claim.cells.items()
        }
        means = {key: value.mean for key, value in cells.items()}
        needed = self.expanded.paper.replicates
        verdict = UNKNOWN
        if all(value.n >= min(needed, 3) for value in cells.values()):
            holds = eval(claim.check, {"__builtins__": {}, "abs": abs, "min": min, "max": max}, means)
            verdict = HOLDS if holds else FAILS
        pair = paired(*(cells[key] for key in claim.paired)) if len(claim.paired) == 2 else None
        tried = claim.tried if verdict == FAILS else ""
        return Verdict(name, fill(claim.text, fields), verdict, means, claim.check, pair, tried)


def paired(one: Value, other: Value) -> Paired | None:
    """Paired t-test and bootstrap interval of ``one - other`` over the seeds that both have; None below three."""
    seeds = sorted(one.values.keys() & other.values.keys())
    if len(seeds) < 3:
        return None
    import numpy as np
    from scipy import stats

    difference = np.array([one.values[seed] - other.values[seed] for seed in seeds])
    if np.ptp(difference) == 0:
        constant = float(difference[0])
        return Paired(constant, constant, constant, 1.0 if constant == 0 else 0.0, len(seeds))
    interval = stats.bootstrap(
        (difference,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method="percentile", rng=0
    ).confidence_interval
    p = float(stats.ttest_1samp(difference, 0.0).pvalue)
    return Paired(float(difference.mean()), float(interval.low), float(interval.high), p, len(seeds))


def needed(
    expanded: Expanded, extra: Sequence[str] = (), tables: Sequence[str] = ()
) -> dict[tuple[str, ...], Identity]:
    """The runs that a paper's tables need, by command line (with seed), each run once.

    Args:
        expanded: the paper.
        extra: overrides for all of them.
        tables: only these; empty: all.

    Raises:
        BadInput: a cell's overrides are wrong.
    """
    cells = [cell for cell in expanded.cells.values() if not tables or cell.table in tables]
    identities = _identities(expanded, cells, extra)
    first = {identity.key: line for line, identity in reversed(identities.items())}
    return {line: identities[line] for line in identities if first[identities[line].key] == line}


def _identities(expanded: Expanded, cells: Iterable[Cell], extra: Sequence[str]) -> dict[tuple[str, ...], Identity]:
    composer = SweepComposer()
    lines = dict.fromkeys(line for cell in cells for line in _lines(expanded, cell, extra))
    return {line: stored.identify_run(composer(line)) for line in lines}


def _lines(expanded: Expanded, cell: Cell, extra: Sequence[str]) -> list[tuple[str, ...]]:
    """A cell's command lines, one a replicate."""
    return [(*cell.overrides, *extra, f"seed={seed}") for seed in range(expanded.paper.replicates)]


def measure(expanded: Expanded, extra: Sequence[str] = (), among: Iterable[Record] | None = None) -> Measured:
    """Fill a paper's cells from the store, with one query.

    Args:
        expanded: the paper.
        extra: overrides for all runs.
        among: all runs of the store, if they are known: cells whose method and dataset none of them has are empty,
            and cost no composition.
    """
    made = None if among is None else {tuple(run.tags.get(f"runner.{name}") for name in CHOSEN) for run in among}
    cells = [cell for cell in expanded.cells.values() if made is None or _possible(cell, made)]
    identities = _identities(expanded, cells, extra)
    records: dict[str, Record] = {}
    for uri, experiment in {_store(identity) for identity in identities.values()}:
        keys = [identity.key for identity in identities.values() if _store(identity) == (uri, experiment)]
        records |= Records(uri, experiment).finished(keys)
    values = {}
    for place, cell in expanded.cells.items():
        lines = [line for line in _lines(expanded, cell, extra) if line in identities]
        runs = tuple(Run(line, identities[line], records.get(identities[line].key)) for line in lines)
        values[place] = Value(cell, runs, _figures(cell, runs, expanded.paper.tables[cell.table].factor))
    return Measured(expanded, values)


def _possible(cell: Cell, made: Iterable[tuple[str | None, ...]]) -> bool:
    """Whether one of these combinations is that of the cell, as far as its overrides tell."""
    chosen = dict(line.lstrip("+").split("=", 1) for line in cell.overrides if "=" in line)
    return any(
        all(chosen.get(name, choice) == choice for name, choice in zip(CHOSEN, one, strict=True)) for one in made
    )


def _figures(cell: Cell, runs: Sequence[Run], factor: float) -> dict[int, float]:
    return {
        seed: factor * metric
        for seed, run in enumerate(runs)
        if run.record is not None and (metric := _metric(cell.metric, run.record.metrics)) is not None
    }


def _metric(name: str, metrics: dict[str, Any]) -> float | None:
    """A metric, or the quotient of two (``fit_seconds/train / epochs/train`` with blanks around the stroke)."""
    above, _, below = name.partition(" / ")
    if above not in metrics or (below and not metrics.get(below)):
        return None
    return float(metrics[above]) / float(metrics[below]) if below else float(metrics[above])


def _store(identity: Identity) -> tuple[str, str]:
    return uri_of(identity.config), identity.config["tracking"]["experiment"]
