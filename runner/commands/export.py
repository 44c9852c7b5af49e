"""``runner export FILE``: write runs to a file that another store can import."""

from __future__ import annotations

from pathlib import Path

from runner.commands import options
from runner.errors import BadInput
from runner.store.records import KEY_TAG


def main(arguments: list[str]) -> int:
    """Export all finished runs, or those that are named."""
    parser = options.parser("export", "write runs to a zip file that `runner import` takes in elsewhere")
    parser.add_argument("file", type=Path)
    parser.add_argument("--run", action="append", default=[], metavar="ID", help="only this run (may be repeated)")
    parser.add_argument("--paper", help="only the runs of this paper's tables, at cpu scale")
    options.add_store(parser)
    parsed = parser.parse_args(arguments)
    records = options.records(parsed)
    if parsed.run:
        runs = [records.one(run) for run in parsed.run]
    elif parsed.paper:
        from runner.tables import measured, paper

        runs = measured.measure(paper.load(parsed.paper), parsed.store).records
    else:
        runs = [record for record in records.all() if record.status == "FINISHED" and KEY_TAG in record.tags]
    if not runs:
        raise BadInput(f"no finished runs in {records.uri}")
    from runner.store import transfer

    count = transfer.export(records, runs, parsed.file)
    print(f"{count} runs written to {parsed.file} ({parsed.file.stat().st_size / 1e6:.1f} MB)")
    return 0
