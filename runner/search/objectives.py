"""What a trial's runs came to, as the study's values."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from runner.errors import BadInput
from runner.jobs import Cell
from runner.store.records import Records

MAXIMIZE = "maximize"


def warning(directions: Mapping[str, str]) -> str:
    """What is to be said against the objectives; empty where there is nothing."""
    tested = [name for name in directions if name.rpartition("/")[2].startswith("test")]
    if not tested:
        return ""
    return f"warning: {', '.join(tested)} is measured on test data: what is chosen by it has no unbiased estimate left"


def of_cells(cells: Sequence[Cell], directions: Mapping[str, str], records: Records) -> list[float]:
    """Mean over the replicates of each objective.

    Raises:
        BadInput: the runs have no such metric.
    """
    return [
        statistics.fmean(_value(cell, name, direction, records) for cell in cells)
        for name, direction in directions.items()
    ]


def validations(cell: Cell, name: str, records: Records) -> list[tuple[int, float]]:
    """What a run that exists logged by an objective's name: epoch and value. Of several loops nothing."""
    loops = [metric for metric in cell.metrics if metric.startswith("epochs/")]
    if cell.run_id is None or len(loops) != 1:
        return []
    whole = f"{loops[0].removeprefix('epochs/')}/{name.rpartition('/')[2]}"
    return records.histories([cell.run_id], [whole])[cell.run_id].get(whole, [])


def _value(cell: Cell, name: str, direction: str, records: Records) -> float:
    """A run's final metric, or the best of what it logged by that name."""
    if name in cell.metrics:
        return cell.metrics[name]
    logged = {} if cell.run_id is None else records.histories([cell.run_id])[cell.run_id]
    found = [metric for metric in logged if metric == name or metric.endswith(f"/{name}")]
    if len(found) == 1:
        values = [value for _, value in logged[found[0]]]
        return max(values) if direction == MAXIMIZE else min(values)
    if found:
        raise BadInput(f"objective '{name}': several loops log it; choose one of {', '.join(found)}")
    there = sorted({*cell.metrics, *logged})
    raise BadInput(f"objective '{name}': {cell.title} has no such metric; it has {', '.join(there)}")
