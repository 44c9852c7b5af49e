"""Learning curves: histories thinned to what a plot can show, and their mean over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.report.quantities import rounded
from runner.store.records import History

POINTS = 100
"""Most points of a curve in a page."""

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Steps and values."""


def thinned(history: History) -> dict[str, Curve]:
    """The curves of a run, evenly thinned with both ends kept; a metric with a single point has none."""
    found = {}
    for name, points in history.items():
        if len(points) > 1:
            kept = _spread(np.asarray(points, dtype=np.float64))
            found[name] = (kept[:, 0], kept[:, 1])
    return found


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(values) <= POINTS:
        return values
    kept: NDArray[np.float64] = values[np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))]
    return kept


def band(curves: Sequence[Curve]) -> dict[str, list[Any]]:
    """Mean and sample standard deviation over seeds, on the steps that any of them has.

    Between its own steps a curve is interpolated, beyond its ends it says nothing: ``n`` counts those that do.

    Returns:
        ``x`` (steps), ``mean``, ``std`` (None where one seed is left), ``n``.
    """
    steps = _spread(np.unique(np.concatenate([x for x, _ in curves])))
    rows = np.stack([np.interp(steps, x, y, left=np.nan, right=np.nan) for x, y in curves])
    there = np.isfinite(rows)
    n = there.sum(0)
    steps, rows, there, n = steps[n > 0], rows[:, n > 0], there[:, n > 0], n[n > 0]
    known = np.where(there, rows, 0.0)
    mean = known.sum(0) / n
    squares = np.where(there, (rows - mean) ** 2, 0.0).sum(0)
    std = np.sqrt(squares / np.maximum(n - 1, 1))
    return {
        "x": [int(step) for step in steps],
        "mean": [rounded(value) for value in mean],
        "std": [rounded(value) if count > 1 else None for value, count in zip(std, n, strict=True)],
        "n": n.tolist(),
    }
