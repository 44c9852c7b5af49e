"""What the pages say, arranged: plain values that the templates write down."""

from __future__ import annotations

import json
import re
import shlex
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from runner import stored
from runner.identity import digest
from runner.report import content, curves
from runner.report.content import Content, Group
from runner.report.quantities import is_cost, is_percent, rounded, written
from runner.store.records import Record
from runner.tables import render
from runner.tables.measured import FAILS, HOLDS, UNKNOWN, Measured, Value, Verdict

REASON_TAG = "runner.reason"
UNOFFICIAL_TAG = "runner.unofficial"
VERDICTS = {FAILS: "fails", HOLDS: "holds", UNKNOWN: "unknown"}
"""A verdict's class in the style sheet."""


def file_name(name: str) -> str:
    """A name from the store as a file's name that needs no quoting anywhere; strange ones are hashed."""
    return name if re.fullmatch(r"[A-Za-z0-9][\w-]*", name, re.ASCII) else f"x{digest(name)[:16]}"


def moment(milliseconds: int | None) -> str:
    """Local time."""
    return "–" if not milliseconds else time.strftime("%Y-%m-%d %H:%M", time.localtime(milliseconds / 1000))


def duration(record: Record) -> str:
    """How long a run took."""
    return "–" if record.end_ms is None else f"{(record.end_ms - record.start_ms) / 1000:.1f} s"


def command(record: Record) -> str:
    """The command that repeats a run."""
    return f"runner {shlex.join(stored.overrides_of(record))}"


def figure(name: str, values: Sequence[float]) -> str:
    """``mean ± std`` of a metric over runs."""
    mean = written(name, statistics.fmean(values))
    return mean if len(values) < 2 else f"{mean} ± {written(name, statistics.stdev(values))}"


def headline(metrics: dict[str, float]) -> str:
    """The metric that says what a run came to: its test accuracy or the like, else its first result."""
    results = [name for name in metrics if "/" not in name and not is_cost(name)]
    tested = [name for name in results if is_percent(name)]
    return min(tested, key=lambda name: (not name.startswith("test"), name), default=next(iter(results), ""))


@dataclass(frozen=True)
class CellView:
    """One cell of a paper's table."""

    id: str
    published: str
    ours: str
    difference: str
    summary: str
    """For a screen reader, and the tooltip's first line."""
    metric: str
    seeds: list[tuple[int, str, str]]
    """Seed, figure, run's page."""
    command: str
    stale: bool
    group: str
    """The compare page's name of the cell's runs."""


@dataclass(frozen=True)
class TableView:
    """One table of a paper."""

    name: str
    title: str
    columns: list[tuple[str, bool]]
    """Label, and whether anything was published."""
    rows: list[tuple[str, list[CellView | None]]]
    notes: list[str]


@dataclass(frozen=True)
class PaperView:
    """A paper at one scale."""

    name: str
    scale: str
    page: str
    title: str
    facts: list[tuple[str, str]]
    measured: int
    cells: int
    verdicts: list[tuple[str, Verdict, str, str]]
    """Class, verdict, figures, paired difference; failing ones first."""
    counts: dict[str, int]
    """Number of claims by verdict."""
    tried: list[str]
    tables: list[TableView]
    plots: dict[str, Any]


def paper_view(measured: Measured, read: Content) -> PaperView:
    """All that a paper's page and its entry in the index need."""
    expanded = measured.expanded
    verdicts = sorted(measured.verdicts, key=lambda verdict: list(VERDICTS).index(verdict.verdict))
    order = {id(verdict): position for position, verdict in enumerate(measured.verdicts)}
    texts = {row[0]: row for row in render.claim_rows(measured)}
    verdicts.sort(key=lambda verdict: ((FAILS, HOLDS, UNKNOWN).index(verdict.verdict), order[id(verdict)]))
    head = render.heading(measured)
    tables = [_table(measured, name, number, read) for number, name in enumerate(expanded.paper.tables)]
    return PaperView(
        name=expanded.name,
        scale=expanded.scale,
        page=f"papers/{file_name(f'{expanded.name}-{expanded.scale}')}",
        title=head.title,
        facts=head.facts,
        measured=sum(value.n > 0 for value in measured.values.values()),
        cells=len(measured.values),
        verdicts=[(VERDICTS[v.verdict], v, *_figures(texts[v.text])) for v in verdicts],
        counts={name: sum(v.verdict == name for v in verdicts) for name in VERDICTS},
        tried=render.tried(measured),
        tables=tables,
        plots=paper_plots(measured, read),
    )


def _figures(row: Sequence[str]) -> tuple[str, str]:
    return row[2], row[3]


def _table(measured: Measured, name: str, number: int, read: Content) -> TableView:
    table = measured.expanded.paper.tables[name]
    public = {label for columns in table.published.values() for label in columns}
    rows = []
    for position, row in enumerate(measured.expanded.rows(name)):
        cells = []
        for place, column in enumerate(table.columns):
            value = measured.values.get((name, row, column.label))
            identifier = f"cell-{number}-{position}-{place}"
            cells.append(None if value is None else _cell(value, table.digits, identifier, measured, read))
        rows.append((row, cells))
    columns = [(column.label, column.label in public) for column in table.columns]
    return TableView(name, table.title, columns, rows, render.notes(measured, name))


def _cell(value: Value, digits: int, identifier: str, measured: Measured, read: Content) -> CellView:
    replicates = measured.expanded.paper.replicates
    seeds = [
        (seed, f"{value.values[seed]:.{digits + 1}f}", file_name(run.record.run_id))
        for seed, run in enumerate(value.runs)
        if run.record is not None and seed in value.values
    ]
    groups = [read.group_of.get(run.record.run_id) for run in value.runs if run.record is not None]
    parts = [f"n = {value.n} of {replicates}"]
    parts += [] if value.mean is None else [f"mean {value.mean:.{digits + 1}f}"]
    parts += [] if value.std is None else [f"std {value.std:.{digits + 1}f}"]
    again = shlex.join([*value.cell.overrides, f"seed=range({replicates})"])
    return CellView(
        id=identifier,
        published=render.published(value, digits),
        ours=render.ours(value, digits),
        difference=render.difference(value, digits),
        summary=", ".join(parts),
        metric=value.cell.metric,
        seeds=seeds,
        command=f"runner -m {again}",
        stale=value.stale,
        group=next((f"group:{group.id}" for group in groups if group is not None), ""),
    )


def paper_plots(measured: Measured, read: Content) -> dict[str, Any]:
    """Learning curves and costs of a paper's cells, for the page's script.

    Returns:
        ``curves``: bands, each once; ``series``: which of them stands for which table, row, column and metric;
        ``points``: for each table the cells' mean and std of each final metric; ``costs`` and ``results``: their names.
    """
    known: dict[tuple[str, ...], dict[str, int]] = {}
    bands: list[dict[str, Any]] = []
    series, points = [], []
    for value in measured.values.values():
        records = [run.record for run in value.runs if run.record is not None]
        if not records:
            continue
        runs = tuple(record.run_id for record in records)
        if runs not in known:
            known[runs] = {}
            for metric, found in _by_metric(records, read).items():
                known[runs][metric] = len(bands)
                bands.append(curves.band(found))
        cell = value.cell
        place = {"table": cell.table, "row": cell.row, "column": cell.column}
        series += [{**place, "metric": metric, "curve": index} for metric, index in known[runs].items()]
        points.append({**place, "values": _summary(records)})
    names = list(dict.fromkeys(name for point in points for name in point["values"]))
    return {
        "tables": {name: table.title for name, table in measured.expanded.paper.tables.items()},
        "curves": bands,
        "series": series,
        "points": points,
        "costs": [name for name in names if is_cost(name)],
        "results": sorted((name for name in names if not is_cost(name)), key=lambda name: not name.startswith("test")),
        "percent": [name for name in names if is_percent(name)],
    }


def _by_metric(records: Sequence[Record], read: Content) -> dict[str, list[curves.Curve]]:
    found: dict[str, list[curves.Curve]] = {}
    for record in records:
        for metric, curve in read.curves.get(record.run_id, {}).items():
            found.setdefault(metric, []).append(curve)
    return found


def _summary(records: Sequence[Record]) -> dict[str, list[float | None]]:
    """Mean, std and n of each final metric that every run has, those of single loops left out."""
    shared = [name for name in records[0].metrics if "/" not in name and all(name in run.metrics for run in records)]
    found: dict[str, list[float | None]] = {}
    for name in shared:
        values = [record.metrics[name] for record in records]
        std = rounded(statistics.stdev(values)) if len(values) > 1 else None
        found[name] = [rounded(statistics.fmean(values)), std, len(values)]
    return found


def run_plots(record: Record, read: Content) -> dict[str, Any]:
    """The curves of one run."""
    found = {name: curves.band([curve]) for name, curve in read.curves.get(record.run_id, {}).items()}
    return {
        "curves": list(found.values()),
        "series": [
            {"table": "", "row": "", "column": "this run", "metric": name, "curve": index}
            for index, name in enumerate(found)
        ],
    }


def flat(config: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted fields of a nested config."""
    if isinstance(config, dict) and config:
        for key, value in config.items():
            yield from flat(value, f"{place}.{key}" if place else str(key))
    else:
        yield place, config


def tree(config: dict[str, Any]) -> list[tuple[str, Any]]:
    """A config as nested pairs; a leaf is text."""
    return [
        (name, tree(value) if isinstance(value, dict) and value else _leaf(value))
        for name, value in sorted(config.items())
    ]


def _leaf(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def group_metrics(group: Group) -> dict[str, list[float]]:
    """Final metrics over the runs of a group."""
    found: dict[str, list[float]] = {}
    for record in group.runs.values():
        for name, value in record.metrics.items():
            found.setdefault(name, []).append(value)
    return found


def comparison(read: Content) -> dict[str, Any]:
    """What the compare page chooses from: groups with config, runs with metrics; names stand once each."""
    metrics = sorted({name for record in read.runs for name in record.metrics})
    configs = {group.id: dict(flat(group.config)) for group in read.groups}
    single = [record for record in read.runs if record.run_id not in read.group_of]
    for record in single:
        configs[record.run_id] = dict(flat(content.without_seed(record)))
    keys = sorted({key for config in configs.values() for key in config})

    def row(config: dict[str, Any]) -> list[str | None]:
        return [_leaf(config[key]) if key in config else None for key in keys]

    def run(record: Record) -> dict[str, Any]:
        values = [record.metrics.get(name) for name in metrics]
        return {
            "id": record.run_id,
            "page": file_name(record.run_id),
            "seed": content.seed_of(record),
            "metrics": [None if value is None or value != value else float(f"{value:.12g}") for value in values],
        }

    groups = [
        {
            "id": group.id,
            "label": group.label,
            "config": row(configs[group.id]),
            "runs": list(map(run, group.runs.values())),
        }
        for group in read.groups
    ]
    alone = [
        {
            "id": record.run_id,
            "label": f"{content.label_of(record)} ({record.status.lower()})",
            "config": row(configs[record.run_id]),
            "runs": [run(record)],
        }
        for record in single
    ]
    return {"metrics": metrics, "keys": keys, "groups": groups, "alone": alone}
