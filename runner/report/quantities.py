"""What a metric's name says: whether it is a cost, and how its value is written."""

from __future__ import annotations

import math
import re

from runner.jobs import PERCENT

COSTS = frozenset(
    ("seconds", "bytes", "memory", "macs", "flops", "cycles", "energy", "joules", "latency", "parameters", "spikes")
)
"""Words of a metric's name that make it a cost."""
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))


def is_cost(name: str) -> bool:
    """Whether a metric counts what a run took: time, memory, operations, energy."""
    return not COSTS.isdisjoint(re.split(r"[_/]", name.lower()))


def is_percent(name: str) -> bool:
    """Whether a metric is a fraction that is written in percent, at whatever depth it was taken."""
    return any(part.endswith(PERCENT) for part in name.split("/"))


def written(name: str, value: float) -> str:
    """A metric's value with its unit.

    >>> written("test_acc", 0.8712), written("peak_memory_bytes", 2.5e6), written("epochs", 142.0)
    ('87.12 %', '2.5 MB', '142')
    """
    if not math.isfinite(value):
        return str(value)
    words = re.split(r"[_/]", name)
    if is_percent(name):
        return f"{100 * value:.2f} %"
    if "bytes" in words:
        return size(value)
    if "seconds" in words:
        return f"{value:.4g} s"
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.5g}"


def size(number: float) -> str:
    """Bytes, in the unit that leaves one to three digits before the point."""
    divisor, unit = next(((divisor, unit) for divisor, unit in UNITS if number >= divisor), UNITS[-1])
    return f"{number / divisor:.4g} {unit}"


def rounded(value: float) -> float | None:
    """Four significant digits, enough for a plot; None for what JSON can't say."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
