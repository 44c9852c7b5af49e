"""Asking the store which runs there are. The store is the truth: there is no second index.

A ``sqlite:`` store is read with the standard library, read-only, one query for any number of runs; an
unknown schema and any other store are read through MLflow's client.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from runner.errors import BadInput, StoreUnavailable

KEY_TAG = "runner.key"
KIND_TAG = "runner.kind"
SUPERSEDED_TAG = "runner.superseded"
SQLITE = "sqlite:///"

History = dict[str, list[tuple[int, float]]]
"""Steps and values of each metric of a run, by step."""


@dataclass(frozen=True)
class Record:
    """One run as the store has it."""

    run_id: str
    status: str
    """RUNNING, FINISHED, FAILED or KILLED."""
    start_ms: int
    end_ms: int | None
    artifact_uri: str
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    """Last value of each metric."""

    @property
    def key(self) -> str | None:
        """The run's key, if this tool made the run."""
        return self.tags.get(KEY_TAG)


def uri_of(config: dict[str, Any]) -> str:
    """The tracking URI of a config: ``tracking.uri``, or SQLite in ``home``."""
    return config["tracking"]["uri"] or f"{SQLITE}{Path(config['home']).absolute()}/mlflow.db"


def sqlite_path(uri: str) -> Path | None:
    """The file of a ``sqlite:`` URI, None for any other store."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else None


class Records:
    """Reads one experiment of one store."""

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = uri
        self.experiment = experiment

    def finished(self, keys: Sequence[str] | None = None) -> dict[str, Record]:
        """The finished run of each key (of all keys if None), the earliest to finish where there are several.

        Raises:
            StoreUnavailable: the store can't be read.
        """
        wanted = None if keys is None else set(keys)
        chosen: dict[str, Record] = {}
        for record in self._read(status="FINISHED"):
            key = record.key
            if key is None or (wanted is not None and key not in wanted) or SUPERSEDED_TAG in record.tags:
                continue
            if key not in chosen or (record.end_ms or 0) < (chosen[key].end_ms or 0):
                chosen[key] = record
        return chosen

    def all(self) -> list[Record]:
        """All runs, sweeps' parents included, newest first."""
        return sorted(self._read(), key=lambda record: -record.start_ms)

    def one(self, run_id: str) -> Record:
        """The run whose id begins with ``run_id``.

        Raises:
            BadInput: there is none, or several.
        """
        matching = list(self._read(run_id=run_id))
        if not matching:
            raise BadInput(f"no run '{run_id}' in {self.uri} (`runner list runs` shows all)")
        if len(matching) > 1:
            raise BadInput(f"'{run_id}' begins {len(matching)} runs' ids; give more of it")
        return matching[0]

    def histories(self, records: Sequence[Record]) -> Iterator[tuple[str, History]]:
        """Run id and history of each run that has one, with one query (an MLflow server: one a metric).

        Raises:
            StoreUnavailable: the store can't be read.
        """
        path = sqlite_path(self.uri)
        if path is None:
            return self._histories_client(records)
        return self._histories_sqlite(path, records) if path.exists() else iter(())

    def _histories_sqlite(self, path: Path, records: Sequence[Record]) -> Iterator[tuple[str, History]]:
        wanted = {record.run_id for record in records}
        query = (
            "SELECT m.run_uuid, m.key, m.step, m.value, m.is_nan FROM metrics m JOIN runs r USING (run_uuid) "
            "JOIN experiments e USING (experiment_id) WHERE e.name = ? AND r.lifecycle_stage = 'active' "
            "ORDER BY m.run_uuid, m.key, m.step"
        )
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as database:
                for run_id, rows in groupby(database.execute(query, [self.experiment]), itemgetter(0)):
                    if run_id in wanted:
                        yield (
                            run_id,
                            {
                                name: [(step, math.nan if is_nan else value) for _, _, step, value, is_nan in points]
                                for name, points in groupby(rows, itemgetter(1))
                            },
                        )
        except sqlite3.DatabaseError as error:
            if "no such" not in str(error):
                raise StoreUnavailable(f"{self.uri} can't be read: {error}") from error
            yield from self._histories_client(records)

    def _histories_client(self, records: Sequence[Record]) -> Iterator[tuple[str, History]]:
        from runner.store.client import connect, unavailable

        with unavailable(self.uri):
            client = connect(self.uri)
            for record in records:
                points = {name: client.get_metric_history(record.run_id, name) for name in record.metrics}
                yield (
                    record.run_id,
                    {name: sorted((point.step, point.value) for point in found) for name, found in points.items()},
                )

    def _read(self, status: str | None = None, run_id: str = "") -> Iterator[Record]:
        path = sqlite_path(self.uri)
        if path is None:
            return self._read_client(status, run_id)
        if not path.exists():
            return iter(())
        try:
            return iter(self._read_sqlite(path, status, run_id))
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):
                raise StoreUnavailable(f"{self.uri} can't be read: {error}") from error
            return self._read_client(status, run_id)
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(f"{self.uri} can't be read: {error}") from error

    def _read_sqlite(self, path: Path, status: str | None, run_id: str) -> Iterable[Record]:
        condition = "e.name = ? AND r.lifecycle_stage = 'active' AND r.run_uuid LIKE ?"
        values = [self.experiment, f"{run_id}%"]
        if status:
            condition += " AND r.status = ?"
            values.append(status)
        source = f"FROM runs r JOIN experiments e USING (experiment_id) WHERE {condition}"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30, isolation_level=None)) as database:
            database.execute("BEGIN")  # the three queries see one state, whoever writes meanwhile
            runs = database.execute(
                f"SELECT r.run_uuid, r.status, r.start_time, r.end_time, r.artifact_uri {source}", values
            ).fetchall()
            records = {row[0]: Record(row[0], row[1], row[2] or 0, row[3], row[4] or "") for row in runs}
            chosen = f"(SELECT r.run_uuid {source})"
            for uuid, name, value in database.execute(
                f"SELECT run_uuid, key, value FROM tags WHERE run_uuid IN {chosen}", values
            ):
                records[uuid].tags[name] = value
            for uuid, name, value in database.execute(
                f"SELECT run_uuid, key, value FROM latest_metrics WHERE run_uuid IN {chosen}", values
            ):
                records[uuid].metrics[name] = value
        return records.values()

    def _read_client(self, status: str | None, run_id: str) -> Iterator[Record]:
        from runner.store.client import connect, unavailable

        with unavailable(self.uri):
            client = connect(self.uri)
            experiment = client.get_experiment_by_name(self.experiment)
            token: str | None = None
            while experiment is not None:
                page = client.search_runs(
                    [experiment.experiment_id],
                    f"attributes.status = '{status}'" if status else "",
                    max_results=1000,
                    page_token=token,
                )
                for run in page:
                    if run.info.run_id.startswith(run_id):
                        yield Record(
                            run.info.run_id,
                            run.info.status,
                            run.info.start_time,
                            run.info.end_time,
                            run.info.artifact_uri,
                            dict(run.data.tags),
                            dict(run.data.metrics),
                        )
                token = page.token
                if not token:
                    break
