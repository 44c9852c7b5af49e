"""``runner table paper=…``: a paper's tables from the store: published, ours, difference, verdicts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from runner.commands.list import console
from runner.commands.paper_options import PaperOptions, describe
from runner.tables import render
from runner.tables.curves import sparklines
from runner.tables.measured import FAILS, HOLDS, Measured, measure

OWN = {
    "write": "folder for <paper>.md, .tex, .csv and .json; a file name with one of these endings writes that alone",
    "format": "print md, tex, csv or json instead of the terminal's tables",
}
UNBOUNDED = 10_000
"""Characters: wider than any table."""
STYLES = {HOLDS: "green", FAILS: "bold red"}


def main(arguments: list[str]) -> int:
    """Print or write a paper's tables."""
    if describe("table", "a paper's tables: published, ours, difference, verdicts", OWN, arguments):
        return 0
    options = PaperOptions.parse("table", arguments, OWN)
    measured = measure(options.expanded, options.overrides)
    if chosen := options.own.get("format"):
        options.demand("format", chosen, render.FORMATS)
        sys.stdout.write(render.FORMATS[chosen](measured))
    elif target := options.own.get("write"):
        _write(measured, options, Path(target))
    else:
        _print(measured, console())
    return 0


def _write(measured: Measured, options: PaperOptions, target: Path) -> None:
    ending = target.suffix.removeprefix(".")
    files = (
        {ending: target} if ending else {kind: target / f"{measured.expanded.name}.{kind}" for kind in render.FORMATS}
    )
    for kind, file in files.items():
        options.demand("write", kind, render.FORMATS)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(render.FORMATS[kind](measured), encoding="utf-8")
        print(file)


def _print(measured: Measured, to: Console) -> None:
    head = render.heading(measured)
    to.print(f"[bold]{head.title}[/bold]")
    for name, fact in head.facts:
        to.print(f"  {name}: {fact}", highlight=False)
    if measured.verdicts:
        claims = Table(*render.CLAIM_HEADINGS, title="Claims", title_justify="left", box=None, pad_edge=False)
        for row in render.claim_rows(measured):
            claims.add_row(*row, style=STYLES.get(row[1], "dim"))
        to.print(claims)
        for line in render.tried(measured):
            to.print(f"  {line}", highlight=False)
    curves = sparklines(measured) if to.is_terminal and to.encoding.startswith("utf") else {}
    for name in measured.expanded.paper.tables:
        notes = render.notes(measured, name)
        drawn = _table(measured, name)
        if any(curve.strip() for place, curve in curves.items() if place[0] == name):
            with_curves = _table(measured, name, curves)
            if to.measure(with_curves, options=to.options.update(width=UNBOUNDED)).maximum <= to.width:
                drawn = with_curves
                notes.append("Curves: validation over the epochs, mean over the seeds, each on a scale of its own.")
        to.print(drawn)
        for line in notes:
            to.print(f"  {line}", style="dim", highlight=False)


def _table(measured: Measured, name: str, curves: Mapping[tuple[str, str, str], str] | None = None) -> Table:
    headings, rows = render.table_rows(measured, name, curves)
    shown = Table(title=measured.expanded.paper.tables[name].title, title_justify="left", box=None, pad_edge=False)
    for number, text in enumerate(headings):
        shown.add_column(text, justify="right" if number else "left", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    return shown
