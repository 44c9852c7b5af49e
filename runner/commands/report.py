"""``runner report``: a static site of what the store has."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from runner import registry, stored
from runner.commands import options
from runner.errors import BadInput
from runner.progress import Progress
from runner.store.records import sqlite_path

PAPER = "paper="
WORDS = "where to (default: <home>/report), whose tables (default: all papers), which store"


def main(arguments: list[str]) -> int:
    """Write the site, and say where it is."""
    parser = options.parser("report", "a static site of the store: papers, tables, curves, runs, comparisons")
    parser.add_argument("words", nargs="*", metavar="FOLDER | paper=NAME | home=… | tracking.uri=…", help=WORDS)
    parser.add_argument("--open", action="store_true", help="open the first page in a browser")
    parsed = parser.parse_intermixed_args(arguments)
    pairs, folders = options.split_store(parsed.words)
    if len(folders) > 1:
        raise BadInput(f"one folder, please, not {len(folders)} (`runner report --help` shows how)")
    papers = [word.removeprefix(PAPER) for word in pairs if word.startswith(PAPER)]
    store = [word for word in pairs if not word.startswith(PAPER)]
    records = stored.records_of(store)
    for name in papers:
        registry.read("paper", name)
    database = sqlite_path(records.uri)
    if database is not None and not database.exists():
        raise BadInput(f"no store at {database} yet; `runner method=forwardgnn dataset=cora` makes one")
    folder = Path(folders[0]) if folders else stored.home_of(store) / "report"
    from runner.report import content, site

    progress = Progress(enabled=True)
    total = len(records.all())
    with progress.counting("histories", total) as step:
        read = content.read(records, papers or list(registry.choices("paper")), store, step)
    with progress.counting("pages", len(read.runs)) as step:
        first = site.write(read, folder.absolute(), step)
    print(f"{len(read.runs)} runs, {len({found.expanded.name for found in read.papers})} papers: {first}")
    if parsed.open:
        webbrowser.open(first.as_uri())
    return 0
