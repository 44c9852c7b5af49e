"""How long a run will take, from the runs that were made before."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Self

from runner.store.records import Record

PARTS = ("method", "dataset", "model")


class Durations:
    """Seconds that runs took, by (method, dataset, model), by (method, dataset) and by (method)."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Self:
        """Those of finished runs."""
        made = cls()
        for record in records:
            if record.end_ms is not None:
                choices = {part: record.tags.get(f"runner.{part}", "") for part in PARTS}
                made.add(choices, (record.end_ms - record.start_ms) / 1000)
        return made

    def add(self, choices: Mapping[str, str], seconds: float) -> None:
        """Another run's."""
        for place in _places(choices):
            self._seconds[place].append(seconds)

    def estimate(self, choices: Mapping[str, str]) -> float | None:
        """The median of the most alike runs; None where there is none of the method."""
        return next(
            (statistics.median(self._seconds[place]) for place in _places(choices) if place in self._seconds), None
        )


def _places(choices: Mapping[str, str]) -> list[tuple[str, ...]]:
    """From the narrowest to the widest."""
    names = tuple(choices[part] for part in PARTS)
    return [names[:length] for length in range(len(PARTS), 0, -1)]
