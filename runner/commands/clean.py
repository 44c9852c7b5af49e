"""``runner clean``: remove runs that nobody counts on, and what they left on disk."""

from __future__ import annotations

import shutil

from runner import attempt, stored
from runner.commands import options
from runner.errors import RunnerError
from runner.store.records import DUPLICATE_TAG, SUPERSEDED_TAG, Record


def main(arguments: list[str]) -> int:
    """Delete failed, killed, superseded, duplicate or stale runs (MLflow keeps them as deleted), and their attempts."""
    parser = options.parser("clean", "remove failed, killed, replaced, duplicate or stale runs, with all their files")
    parser.add_argument("--stale", action="store_true", help="also finished runs whose code has changed since")
    parser.add_argument("--yes", action="store_true", help="do it; without it only what would go is shown")
    options.add_store(parser)
    parsed = parser.parse_args(arguments)
    records = options.records(parsed)
    going = [(record, reason) for record in records.all() if (reason := _reason(record, parsed.stale))]
    for record, reason in going:
        print(f"{record.run_id[:8]}  {reason:<11} {record.tags.get('mlflow.runName', '')}")
    if not parsed.yes:
        print(f"{len(going)} runs would be removed; add --yes to do it")
        return 0
    if going:
        from runner.store.client import connect, unavailable

        with unavailable(records.uri):
            client = connect(records.uri)
            for record, _ in going:
                client.delete_run(record.run_id)
    home = stored.store_config(parsed.store)["home"]
    for record, _ in going:
        if record.status == "KILLED" and record.key:
            shutil.rmtree(attempt.folder_of(home, record.key), ignore_errors=True)
    print(f"{len(going)} runs removed (`mlflow gc` frees what MLflow keeps of deleted runs)")
    return 0


def _reason(record: Record, stale: bool) -> str:
    if record.status in ("FAILED", "KILLED"):
        return record.status.lower()
    if SUPERSEDED_TAG in record.tags:
        return "superseded"
    if DUPLICATE_TAG in record.tags:
        return "duplicate"
    if stale and record.status == "FINISHED" and record.key:
        try:
            return "stale" if stored.is_stale(record, stored.identity_of(record).config) else ""
        except RunnerError:
            return "stale"
    return ""
