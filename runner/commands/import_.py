"""``runner import FILE``: take runs from a file, keys intact."""

from __future__ import annotations

from pathlib import Path

from runner.commands import options
from runner.errors import BadInput


def main(arguments: list[str]) -> int:
    """Import every run that the store doesn't have."""
    parser = options.parser("import", "take runs from a file that `runner export` wrote; those that exist are left out")
    parser.add_argument("file", type=Path)
    options.add_store(parser)
    parsed = parser.parse_args(arguments)
    if not parsed.file.is_file():
        raise BadInput(f"no file {parsed.file}")
    from runner.store import transfer

    records = options.records(parsed)
    added, known = transfer.take(parsed.file, records)
    print(f"{added} runs added to {records.uri}, {known} were there already")
    return 0
