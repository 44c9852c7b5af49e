"""Validation curves of a paper's cells, small enough for a line of text."""

from __future__ import annotations

import itertools
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from runner.store.records import History, Records, uri_of
from runner.tables.measured import Measured

MARKS = "▁▂▃▄▅▆▇█"
WIDTH = 10
VALIDATION = "val_"
Place = tuple[str, str, str]


def sparklines(measured: Measured) -> dict[Place, str]:
    """For each cell its validation curve, mean over the seeds, from its least to its greatest value; else blanks.

    Raises:
        StoreUnavailable: a store can't be read.
    """
    histories = _histories(measured)
    found = {}
    for place, value in measured.values.items():
        runs = [run.record.run_id for run in value.runs if run.record is not None]
        found[place] = sparkline(mean_curve([histories[run_id] for run_id in runs if run_id in histories]))
    return found


def _histories(measured: Measured) -> dict[str, History]:
    """Of the runs behind the tables, what they logged in validations; one query a store."""
    stores: dict[tuple[str, str], set[str]] = defaultdict(set)
    names: set[str] = set()
    for value in measured.values.values():
        for run in value.runs:
            if run.record is not None:
                config = run.identity.config
                stores[uri_of(config), config["tracking"]["experiment"]].add(run.record.run_id)
                names |= {name for name in run.record.metrics if _metric(name).startswith(VALIDATION) and "/" in name}
    found: dict[str, History] = {}
    if names:
        for (uri, experiment), run_ids in stores.items():
            found |= Records(uri, experiment).histories(sorted(run_ids), names)
    return found


def mean_curve(histories: Sequence[History]) -> list[float]:
    """The mean over runs, epoch by epoch, loops one after the other; a run that ended early counts while it lasts.

    Where runs validate by several metrics, it is the one that the alphabet has first.
    """
    metrics = {_metric(name) for history in histories for name in history if _metric(name).startswith(VALIDATION)}
    if not metrics:
        return []
    chosen = min(metrics)
    points: dict[tuple[tuple[object, ...], int], list[float]] = defaultdict(list)
    for history in histories:
        for name, series in history.items():
            if _metric(name) == chosen:
                for step, value in series:
                    points[_natural(name), step].append(value)
    return [statistics.fmean(values) for _, values in sorted(points.items())]


def sparkline(curve: Sequence[float], width: int = WIDTH) -> str:
    """A curve in ``width`` marks: the means of its parts, from its least to its greatest; blanks without a curve."""
    if not curve:
        return " " * width
    parts = [statistics.fmean(part) for part in _parts(curve, width)]
    low, high = min(parts), max(parts)
    scale = (len(MARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(MARKS[round((part - low) * scale)] for part in parts).ljust(width)


def _parts(curve: Sequence[float], width: int) -> Iterable[Sequence[float]]:
    count = min(width, len(curve))
    ends = [len(curve) * number // count for number in range(count + 1)]
    return (curve[begin:end] for begin, end in itertools.pairwise(ends))


def _metric(name: str) -> str:
    """Without the loop."""
    return name.rpartition("/")[2]


def _natural(name: str) -> tuple[object, ...]:
    """Sorts ``layer2`` before ``layer10``."""
    return tuple((int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name))
