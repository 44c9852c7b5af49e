"""``runner list``: what there is."""

from __future__ import annotations

import os
import time

from rich.console import Console
from rich.table import Table

from runner import registry, stored
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
    "sweeps": "sweep",
}
GROUPS = (*registry.SECTIONS, "experiment", "sweep", "cluster", "paper")
STORE = ("home=", "tracking.")


def main(arguments: list[str]) -> int:
    """List the choices of a group, or runs."""
    parser = options.parser(
        "list", "methods, datasets, models, hardware, experiments, sweeps, papers or runs: what there is"
    )
    parser.add_argument(
        "what",
        nargs="?",
        default="",
        help="methods | datasets | models | hardware | experiments | sweeps | papers | runs",
    )
    parser.add_argument("--limit", type=int, default=50, help="most runs to show (default 50)")
    parser.add_argument(
        "having",
        nargs="*",
        metavar="KEY=VALUE",
        help="for runs: which store (home=…, tracking.uri=…; default: runs/mlflow.db). Else: only choices whose "
        "`_taxonomy_` says so, in columns of what it says (`runner list methods field=directed`); for methods the "
        "models too, because an architecture may be a paper's method",
    )
    parsed = parser.parse_args(arguments)
    what = PLURALS.get(parsed.what, parsed.what)
    if what == "runs":
        return _runs(stored.records_of(parsed.having).all(), parsed.limit)
    if what and what not in GROUPS:
        known = [*PLURALS, "hardware", "runs"]
        raise BadInput(f"can't list '{parsed.what}'{nearest(parsed.what, known)}; there are {', '.join(known)}")
    if what and (having := [text for text in parsed.having if not text.startswith(STORE)]):
        return _taxonomy(["method", "model"] if what == "method" else [what], having)
    for group in [what] if what else GROUPS:
        _group(group)
    return 0


def _taxonomy(groups: list[str], having: list[str]) -> int:
    """The choices of these groups whose taxonomy has all of ``having``, in columns of what it says."""
    wanted = dict(_demand(text) for text in having)
    known = {
        f"{group}={name}": registry.read(group, name).get("_taxonomy_", {})
        for group in groups
        for name in registry.choices(group)
    }
    for key, value in wanted.items():
        if not any(key in taxonomy for taxonomy in known.values()):
            keys = sorted({key for taxonomy in known.values() for key in taxonomy})
            raise BadInput(f"no taxonomy has '{key}'{nearest(key, keys)}; there are {', '.join(keys) or 'none'}")
        values = sorted({taxonomy[key] for taxonomy in known.values() if key in taxonomy})
        if value not in values:
            raise BadInput(f"no choice has {key}={value}{nearest(value, values)}; there are {', '.join(values)}")
    found = {choice: taxonomy for choice, taxonomy in known.items() if wanted.items() <= taxonomy.items()}
    columns = list(dict.fromkeys(key for taxonomy in found.values() for key in taxonomy if key not in wanted))
    table = Table(title=" ".join(having), title_justify="left", box=None, pad_edge=False)
    for heading in ("choice", *columns):
        table.add_column(heading, overflow="fold")
    rows = [(choice, *(taxonomy.get(column, "") for column in columns)) for choice, taxonomy in found.items()]
    for row in sorted(rows, key=lambda row: (row[0].partition("=")[0], *row[1:])):  # what is alike stands together
        table.add_row(*row)
    console().print(table)
    return 0


def _demand(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise BadInput(f"'{text}': choices are picked by KEY=VALUE, for example field=directed")
    return key, value


def _group(group: str) -> None:
    table = Table(title=f"{group}=", title_justify="left", box=None, show_header=False, pad_edge=False)
    for name, path in registry.choices(group).items():
        tasks = ", ".join(registry.read(group, name).get("_tasks_", []))
        lines = path.read_text(encoding="utf-8").splitlines()
        comment = next((line for line in lines if not line.startswith("# @package")), "")
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
        notes = [tags.get("runner.unofficial", "")]
        notes += [note for note in ("superseded", "duplicate") if f"runner.{note}" in tags]
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
