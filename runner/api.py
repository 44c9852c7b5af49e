"""The runner in Python: ``from runner import run, sweep, table`` does what the command does, by the same way.

Nothing is printed but progress on a terminal or in a notebook. What the command tells in one line is raised
(``runner.errors``): ``BadInput`` for what can't be, ``DataUnavailable``, ``StoreUnavailable`` …; a run that
fails is no exception but a result with its reason.
"""

from __future__ import annotations

import html
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runner import compose, making, overrides, stored
from runner.callbacks import Callback
from runner.errors import BadInput, Interrupted, one_line
from runner.jobs import figures
from runner.tables import render
from runner.tables.measured import Measured, measure
from runner.tables.paper import load

if TYPE_CHECKING:
    import pandas

GIVEN = ("status", "run_id", "key", "stale", "reason")
"""Columns of a sweep's frame between what was asked for and the metrics."""


@dataclass(frozen=True)
class RunResult:
    """What became of a run that was asked for."""

    status: str
    """finished | existing | failed | pruned (ended by a callback)."""
    run_id: str | None
    """The store's id; None where the store has nothing of it."""
    key: str
    """SHA-256 (hex) of what decides the run."""
    title: str
    """``method on dataset``."""
    metrics: dict[str, float] = field(repr=False)
    """Metrics (accuracies are fractions) and costs, by name."""
    reason: str
    """Why it failed, or what else there is to know."""
    stale: bool
    """Whether the code has changed since this (existing) run."""
    config: dict[str, Any] = field(repr=False)
    """All that was chosen."""

    def __str__(self) -> str:
        told = self.reason if self.status == "failed" else figures(self.metrics)
        return f"{self.title}: {self.status}  {told}"


@dataclass(frozen=True, repr=False)
class PaperTable:
    """A paper's tables as the store has them; shows itself in a notebook, and as text by ``print``."""

    measured: Measured
    """What the frames are made of."""

    @cached_property
    def cells(self) -> pandas.DataFrame:
        """A row a cell: table, row, column, metric, mean, std, n, difference, command, published figures."""
        from pandas import DataFrame

        return DataFrame(render.cell_rows(self.measured))

    @cached_property
    def claims(self) -> pandas.DataFrame:
        """A row a claim: name, text, verdict, check, means by name, and the paired difference where it is tested."""
        from pandas import DataFrame

        rows = []
        for claim in render.as_data(self.measured)["claims"]:
            pair = claim.pop("paired") or {}
            rows.append(claim | {f"paired_{name}": value for name, value in pair.items()})
        return DataFrame(rows)

    def __str__(self) -> str:
        return render.markdown(self.measured)

    def __repr__(self) -> str:
        expanded, records = self.measured.expanded, self.measured.records
        return f"<tables of {expanded.name} at scale {expanded.scale}, from {len(records)} runs>"

    def _repr_html_(self) -> str:
        from pandas import DataFrame

        head = render.heading(self.measured)
        facts = "; ".join(f"{name}: {fact}" for name, fact in head.facts)
        parts = [f"<h3>{html.escape(head.title)}</h3>", f"<p>{html.escape(facts)}</p>"]
        shown = [("Claims", render.CLAIM_HEADINGS, render.claim_rows(self.measured))] if self.measured.verdicts else []
        for name, content in self.measured.expanded.paper.tables.items():
            shown.append((content.title, *render.table_rows(self.measured, name)))
        for title, headings, rows in shown:
            frame = DataFrame(rows, columns=headings).to_html(index=False, border=0)
            parts.append(f"<h4>{html.escape(title)}</h4>{frame}")
        return "\n".join(parts)


def run(*arguments: str, callbacks: Sequence[Callback] = (), **keys: Any) -> RunResult:
    """Make one run exist, or find it.

    Args:
        arguments: overrides as on the command line, ``"method=forwardgnn"``.
        callbacks: objects that hear of the run while it is made (``runner.callbacks``).
        keys: overrides by key, ``dataset="cora", seed=3, **{"model.num_layers": 2}``; they come after ``arguments``.

    Returns:
        The run's result. A run that failed has ``status="failed"`` and a ``reason``.

    Raises:
        RunnerError: what the command would tell in one line with exit status 2, or for want of data or store.
    """
    lines = stored.expanded([*_checked(arguments), *overrides.of_keys(keys)])
    identity = stored.identify_run(compose.compose(lines))
    with _interruptible():
        cell = making.make_run(identity, lines, _nothing, callbacks)
    return RunResult(
        cell.status, cell.run_id, cell.key, cell.title, cell.metrics, cell.reason, cell.stale, identity.config
    )


def sweep(*arguments: str, **keys: Any) -> pandas.DataFrame:
    """Make the runs of a sweep exist; failed ones stop no other.

    Args:
        arguments: overrides as after ``runner -m``, ``"seed=range(5)"``, ``"hydra/launcher=joblib"``.
        keys: overrides by key, where a list or range stands for a run each: ``method=["forwardgnn", "backprop"]``.

    Returns:
        A row a cell: its overrides by key, its seed, status, run_id, key, stale, reason, and its metrics.

    Raises:
        RunnerError: as for ``run``; a wrong cell is told before any is made.
    """
    from pandas import DataFrame

    with _interruptible():
        cells = making.make_sweep([*_checked(arguments), *overrides.of_sweep(keys)], _nothing)
    asked = [overrides.as_keys(cell.overrides) | {"seed": cell.seed} for cell in cells]
    columns = dict.fromkeys([*(name for one in asked for name in one), *GIVEN])
    metrics = dict.fromkeys(name for cell in cells for name in cell.metrics)
    rows = [
        {**one, **{name: getattr(cell, name) for name in GIVEN}, **cell.metrics}
        for one, cell in zip(asked, cells, strict=True)
    ]
    return DataFrame(rows, columns=[*columns, *metrics])


def table(paper: str, scale: str = "cpu", **keys: Any) -> PaperTable:
    """A paper's tables from the store: published, ours, differences, verdicts. Makes no run.

    Args:
        paper: its name (``runner list papers``).
        scale: ``cpu``, or ``full`` for the paper's setting.
        keys: overrides for every run: which store (``home="runs"``), ``**{"hardware.threads": 1}``.

    Raises:
        RunnerError: there is no such paper or scale, a wrong override, or the store can't be read.
    """
    return PaperTable(measure(load(paper, scale), overrides.of_keys(keys)))


def _checked(arguments: Sequence[object]) -> list[str]:
    checked = []
    for argument in arguments:
        if not isinstance(argument, str):
            raise BadInput(
                f"{one_line(repr(argument))} is no override: each is an argument of its own, 'method=…', 'seed=0'; "
                "a list of them is unpacked, *overrides"
            )
        if argument.startswith("-") or not ("=" in argument or argument.startswith("~")):
            raise BadInput(f"'{argument}' is no override: key=value is expected")
        checked.append(argument)
    return checked


def _nothing(line: str) -> None:
    """What the command would say on the way."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C is what Python and notebooks know, once the run is recorded as killed."""
    try:
        yield
    except Interrupted as error:
        if error.exit_status == 128 + signal.SIGINT:
            raise KeyboardInterrupt from error
        raise
