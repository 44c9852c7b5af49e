"""``runner diff RUN RUN``: how two runs differ."""

from __future__ import annotations

import json
from typing import Any

from rich.table import Table

from runner.commands import options
from runner.commands.list import console
from runner.identity import differences
from runner.store.records import Record
from runner.stored import DECIDING_TAG


def main(arguments: list[str]) -> int:
    """Print the fields and metrics in which two runs differ."""
    parser = options.parser("diff", "two runs: how config and metrics differ")
    parser.add_argument("one", help="id, or its beginning")
    parser.add_argument("other", help="id, or its beginning")
    options.add_store(parser)
    parsed = parser.parse_args(arguments)
    records = options.records(parsed)
    one, other = records.one(parsed.one), records.one(parsed.other)
    _table("config", differences(_deciding(one), _deciding(other)), one, other)
    _table("metrics", differences(one.metrics, other.metrics), one, other, signed=True)
    return 0


def _deciding(record: Record) -> dict[str, Any]:
    return dict(json.loads(record.tags.get(DECIDING_TAG, "{}")))


def _table(title: str, fields: dict[str, tuple[Any, Any]], one: Record, other: Record, signed: bool = False) -> None:
    if not fields:
        print(f"{title}: the same")
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("", one.run_id[:8], other.run_id[:8], *(["difference"] if signed else [])):
        table.add_column(heading, overflow="fold")
    for name, (this, that) in fields.items():
        row = [name, _text(this), _text(that)]
        if signed:
            row.append(f"{that - this:+.6g}" if this is not None and that is not None else "")
        table.add_row(*row)
    console().print(table)


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
