"""The end of a sweep: a line for each group of replicates, and how to repeat what failed."""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Sequence

from rich.table import Table

from runner.commands.list import console
from runner.errors import one_line
from runner.jobs import PERCENT, Cell
from runner.stored import STORE_KEYS


def show(cells: Sequence[Cell]) -> int:
    """Print the table and the failures; gives the exit status."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(_without_seed(cell.overrides), []).append(cell)
    metrics = _shown_metrics(cells)
    table = Table(box=None, pad_edge=False)
    for heading in ("cell", "n", *metrics):
        table.add_column(heading, justify="left" if heading == "cell" else "right", overflow="fold")
    for name, group in groups.items():
        done = [cell for cell in group if cell.status in ("existing", "finished")]
        table.add_row(name, f"{len(done)}/{len(group)}", *(_statistic(done, metric) for metric in metrics))
    console().print(table)
    states = ("existing", "finished", "failed", "pruned")
    counts = {status: sum(cell.status == status for cell in cells) for status in states}
    stale = sum(cell.stale for cell in cells)
    print(
        f"{len(cells)} runs: {counts['existing']} existed{f' ({stale} stale)' if stale else ''}, "
        f"{counts['finished']} made, {counts['failed']} failed"
        f"{', {} pruned'.format(counts['pruned']) if counts['pruned'] else ''}"
    )
    for cell in cells:
        if cell.status == "failed":
            print(f"failed: {one_line(cell.reason)}\n  repeat: runner {shlex.join(cell.overrides)}", file=sys.stderr)
    return 1 if counts["failed"] else 0


def _without_seed(overrides: Sequence[str]) -> str:
    return " ".join(line for line in overrides if not line.startswith(("seed=", *STORE_KEYS)))


def _shown_metrics(cells: Sequence[Cell]) -> list[str]:
    names = dict.fromkeys(name for cell in cells for name in cell.metrics)
    hidden = ("_bytes", "_seconds", "parameters")
    return [name for name in names if "/" not in name and not name.endswith(hidden)] + [
        name for name in names if name == "fit_seconds"
    ]


def _statistic(cells: Sequence[Cell], metric: str) -> str:
    values = [cell.metrics[metric] for cell in cells if metric in cell.metrics]
    if not values:
        return "–"
    scale, unit = (100, " %") if metric.endswith(PERCENT) else (1, "")
    mean = scale * statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.4g}{unit}"
    return f"{mean:.4g} ± {scale * statistics.stdev(values):.2g}{unit}"
