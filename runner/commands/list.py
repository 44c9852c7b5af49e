"""``runner list``: what there is."""

from __future__ import annotations

import os
import time

from rich.console import Console
from rich.table import Table

from runner import registry
from runner.commands import options
from runner.errors import BadInput, nearest
from runner.jobs import PERCENT
from runner.store.records import KIND_TAG, Record

PLURALS = {
    "methods": "method",
    "datasets": "dataset",
    "models": "model",
    "experiments": "experiment",
    "papers": "paper",
}
GROUPS = (*registry.SECTIONS, "experiment", "paper")


def main(arguments: list[str]) -> int:
    """List the choices of a group, or runs."""
    parser = options.parser("list", "methods, datasets, models, hardware, experiments, papers or runs: what there is")
    parser.add_argument(
        "what", nargs="?", default="", help="methods | datasets | models | hardware | experiments | papers | runs"
    )
    parser.add_argument("--limit", type=int, default=50, help="most runs to show (default 50)")
    options.add_store(parser)
    parsed = parser.parse_args(arguments)
    what = PLURALS.get(parsed.what, parsed.what)
    if what == "runs":
        return _runs(options.records(parsed).all(), parsed.limit)
    if what and what not in GROUPS:
        known = [*PLURALS, "hardware", "runs"]
        raise BadInput(f"can't list '{parsed.what}'{nearest(parsed.what, known)}; there are {', '.join(known)}")
    for group in [what] if what else GROUPS:
        _group(group)
    return 0


def _group(group: str) -> None:
    table = Table(title=f"{group}=", title_justify="left", box=None, show_header=False, pad_edge=False)
    for name, path in registry.choices(group).items():
        tasks = ", ".join(registry.read(group, name).get("_tasks_", []))
        comment = path.read_text(encoding="utf-8").partition("\n")[0]
        table.add_row(name, tasks, comment.removeprefix("#").strip() if comment.startswith("#") else "")
    console().print(table)


def _runs(runs: list[Record], limit: int) -> int:
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "status", "method", "dataset", "model", "seed", "result", "when", ""):
        table.add_column(heading, overflow="fold")
    for record in runs[:limit]:
        tags = record.tags
        result = "  ".join(
            f"{name} {100 * value:.2f} %"
            for name, value in record.metrics.items()
            if name.endswith(PERCENT) and "/" not in name
        )
        notes = [tags.get("runner.unofficial", ""), "superseded" if "runner.superseded" in tags else ""]
        if tags.get(KIND_TAG) == "sweep":
            notes.append("sweep")
        table.add_row(
            record.run_id[:8],
            record.status,
            *(tags.get(f"runner.{name}", "") for name in ("method", "dataset", "model", "seed")),
            result,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(record.start_ms / 1000)),
            ", ".join(filter(None, notes)),
        )
    console().print(table)
    if len(runs) > limit:
        print(f"({len(runs) - limit} more: --limit {len(runs)})")
    return 0


def console() -> Console:
    """Standard output; wide where it is not a terminal, so that no line is folded into a pipe.

    ``NO_COLOR`` (not empty) leaves out bold and dim too: nothing but text.
    """
    found = Console(color_system=None if os.environ.get("NO_COLOR") else "auto")
    return found if found.is_terminal else Console(width=200)
