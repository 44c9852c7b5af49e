"""A measured paper as text: for the terminal, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.tables.measured import FAILS, HOLDS, Measured, Paired, Value, Verdict

NONE = "–"
MINUTE = 60


@dataclass(frozen=True)
class Heading:
    """What was measured, where, when: stands above every table."""

    title: str
    facts: list[tuple[str, str]]


def heading(measured: Measured) -> Heading:
    """Title and facts."""
    paper, records = measured.expanded.paper, measured.records
    tags = [record.tags for record in records]
    seconds = sum((record.end_ms or record.start_ms) - record.start_ms for record in records) / 1000
    stale = sum(value.stale for value in measured.values.values())
    scale = measured.expanded.scale
    facts = [
        ("scale", scale if scale == "full" else f"{scale} (not the setting of the paper)"),
        ("runs", f"{len(records)}, {seconds / MINUTE:.1f} minutes in all"),
        ("replicates", f"{paper.replicates}; what varies: {paper.varies}"),
        ("machine", _all(tags, "runner.machine")),
        ("commit", _all(tags, "mlflow.source.git.commit", 10)),
        ("measured", _when([record.start_ms for record in records])),
    ]
    if stale:
        facts.append(("stale", f"{stale} cells: the code has changed since they were measured"))
    return Heading(paper.title, facts)


def _all(tags: list[dict[str, str]], name: str, length: int = 200) -> str:
    return ", ".join(sorted({tag[name][:length] for tag in tags if name in tag})) or NONE


def _when(starts: list[int]) -> str:
    days = sorted({time.strftime("%Y-%m-%d", time.localtime(start / 1000)) for start in starts})
    return NONE if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def figure(mean: float | None, std: float | None, digits: int) -> str:
    """``mean ± std``."""
    if mean is None:
        return NONE
    return f"{mean:.{digits}f}" if std is None else f"{mean:.{digits}f} ± {std:.{digits}f}"


def ours(value: Value, digits: int) -> str:
    """Ours, with n where it is not that of the paper's tables."""
    return figure(value.mean, value.std, digits)


def published(value: Value, digits: int) -> str:
    """The published figure; in brackets where it is of another dataset or quantity."""
    content = value.cell.published
    if content is None:
        return ""
    text = figure(float(content["mean"]), content.get("std"), digits)
    return text if content.get("comparable", True) else f"({text})"


def difference(value: Value, digits: int) -> str:
    """Ours minus published."""
    return "" if value.difference is None else f"{value.difference:+.{digits}f}"


Row = list[str]


def table_rows(
    measured: Measured, name: str, beside: Mapping[tuple[str, str, str], str] | None = None
) -> tuple[Row, list[Row]]:
    """Headings and rows: for each column what was published (if anything was), ours, the difference, n.

    ``beside``: text that follows ours, by cell.
    """
    table = measured.expanded.paper.tables[name]
    shown = [column.label for column in table.columns]
    public = {label for columns in table.published.values() for label in columns}
    headings = [""]
    for label in shown:
        headings += [f"{label}, published", f"{label}, ours", "diff."] if label in public else [label]
    rows = []
    counts = []
    for row in measured.expanded.rows(name):
        line, n = [row], []
        for label in shown:
            value = measured.values.get((name, row, label))
            cells = (
                ["", "", ""]
                if value is None
                else [
                    published(value, table.digits),
                    ours(value, table.digits) + (f" {beside[name, row, label]}" if beside else ""),
                    difference(value, table.digits),
                ]
            )
            line += cells if label in public else cells[1:2]
            n += [value.n] if value is not None else []
        rows.append(line)
        counts.append(str(n[0]) if len(set(n)) == 1 else f"{min(n)}–{max(n)}" if n else "0")
    return [*headings, "n"], [[*row, count] for row, count in zip(rows, counts, strict=True)]


def notes(measured: Measured, name: str) -> list[str]:
    """What a reader of the table must know."""
    table = measured.expanded.paper.tables[name]
    found = [table.note] if table.note else []
    if table.source:
        found.append(f"Published: {measured.expanded.paper.sources.get(table.source, table.source)}.")
    reasons = {
        str(content["why"]): None
        for columns in table.published.values()
        for content in columns.values()
        if not content.get("comparable", True) and "why" in content
    }
    found += [f"In brackets: {reason}." for reason in reasons]
    return found


CLAIM_HEADINGS = ["claim", "verdict", "figures", "paired difference"]


def claim_rows(measured: Measured) -> list[Row]:
    """A row a claim, the failing ones first."""
    order = {FAILS: 0, HOLDS: 1}
    verdicts = sorted(measured.verdicts, key=lambda verdict: order.get(verdict.verdict, 2))
    return [[verdict.text, verdict.verdict, _means(verdict), _paired(verdict.paired)] for verdict in verdicts]


def _means(verdict: Verdict) -> str:
    return ", ".join(f"{name} {NONE if mean is None else f'{mean:.5g}'}" for name, mean in verdict.means.items())


def _paired(pair: Paired | None) -> str:
    if pair is None:
        return ""
    return f"{pair.mean:+.2f} [{pair.low:+.2f}, {pair.high:+.2f}], p = {pair.p:.2g}, n = {pair.n}"


def tried(measured: Measured) -> list[str]:
    """What was tried where claims fail."""
    return list(dict.fromkeys(f"{verdict.name}: {verdict.tried}" for verdict in measured.verdicts if verdict.tried))


PAIRED_NOTE = "Paired difference over common replicates: mean [95 % bootstrap interval], p of the paired t-test."


def markdown(measured: Measured) -> str:
    """The whole paper in Markdown."""
    head = heading(measured)
    command = f"runner table paper={measured.expanded.name} scale={measured.expanded.scale}"
    parts = [f"# {head.title}", f"Written by `{command}` from recorded runs; never by hand."]
    parts.append("\n".join(f"- {name}: {fact}" for name, fact in head.facts))
    if measured.verdicts:
        parts += ["## Claims", _markdown_table(CLAIM_HEADINGS, claim_rows(measured)), PAIRED_NOTE]
        if found := tried(measured):
            parts.append("What was tried where a claim fails:\n" + "\n".join(f"- {line}" for line in found))
    for name, table in measured.expanded.paper.tables.items():
        parts += [f"## {table.title}", _markdown_table(*table_rows(measured, name)), *notes(measured, name)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(headings: Row, rows: list[Row]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


LATEX_ESCAPES = str.maketrans(
    {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "±": r"$\pm$", "–": "--", "≥": r"$\ge$", "−": "--"}
)


def latex(measured: Measured) -> str:
    """The tables in LaTeX (booktabs)."""
    parts = ["% \\usepackage{booktabs}"]
    for name, table in measured.expanded.paper.tables.items():
        headings, rows = table_rows(measured, name)
        lines = [" & ".join(cell.translate(LATEX_ESCAPES) for cell in row) + r" \\" for row in rows]
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    rf"\caption{{{table.title.translate(LATEX_ESCAPES)}}}",
                    rf"\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
                    r"\toprule",
                    " & ".join(cell.translate(LATEX_ESCAPES) for cell in headings) + r" \\",
                    r"\midrule",
                    *lines,
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def as_data(measured: Measured) -> dict[str, Any]:
    """Everything as plain values."""
    head = heading(measured)
    return {
        "paper": measured.expanded.name,
        "scale": measured.expanded.scale,
        "title": head.title,
        "facts": dict(head.facts),
        "cells": list(_cells(measured)),
        "claims": [
            {
                "name": verdict.name,
                "text": verdict.text,
                "verdict": verdict.verdict,
                "check": verdict.check,
                "means": verdict.means,
                "paired": None if verdict.paired is None else vars(verdict.paired),
            }
            for verdict in measured.verdicts
        ],
    }


def _cells(measured: Measured) -> Iterator[dict[str, Any]]:
    for value in measured.values.values():
        cell = value.cell
        yield {
            "table": cell.table,
            "row": cell.row,
            "column": cell.column,
            "metric": cell.metric,
            "published": cell.published,
            "mean": value.mean,
            "std": value.std,
            "n": value.n,
            "values": {str(seed): figure for seed, figure in value.values.items()},
            "difference": value.difference,
            "runs": [run.record.run_id for run in value.runs if run.record],
            "command": f"runner {' '.join(cell.overrides)}",
        }


def as_json(measured: Measured) -> str:
    """The same as JSON."""
    return json.dumps(as_data(measured), indent=1, ensure_ascii=False) + "\n"


def cell_rows(measured: Measured) -> list[dict[str, Any]]:
    """A flat dict a cell."""
    names = ["table", "row", "column", "metric", "mean", "std", "n", "difference", "command"]
    return [
        {
            **{name: cell[name] for name in names},
            "published_mean": content.get("mean"),
            "published_std": content.get("std"),
            "comparable": content.get("comparable", True) if content else None,
        }
        for cell in _cells(measured)
        for content in [cell["published"] or {}]
    ]


def as_csv(measured: Measured) -> str:
    """A line a cell."""
    out = io.StringIO()
    rows = cell_rows(measured)
    writer = csv.DictWriter(out, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


FORMATS = {"md": markdown, "tex": latex, "csv": as_csv, "json": as_json}
