"""Asking the store which runs there are. The store is the truth: there is no second index.

A ``sqlite:`` store is read with the standard library, read-only, one query for any number of runs; an
unknown schema and any other store are read through MLflow's client.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from runner.errors import BadInput
from runner.store import trouble

KEY_TAG = "runner.key"
KIND_TAG = "runner.kind"
SUPERSEDED_TAG = "runner.superseded"
DUPLICATE_TAG = "runner.duplicate"
"""Of a run that finished after another one of its key (a server has no lock): the id of the one that counts."""
SQLITE = "sqlite:///"

Answer = TypeVar("Answer")
History = dict[str, list[tuple[int, float]]]
"""Of one run: (step, value) by metric, in the order of the steps."""


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

    @property
    def counts(self) -> bool:
        """Whether it is finished, and neither replaced nor made a second time."""
        return self.status == "FINISHED" and self.tags.keys().isdisjoint((SUPERSEDED_TAG, DUPLICATE_TAG))

    @property
    def order(self) -> tuple[int, str]:
        """Of finished runs of one key the first counts; the same one for everybody who looks."""
        return self.end_ms or 0, self.run_id


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
        one = {KEY_TAG: keys[0]} if keys is not None and len(keys) == 1 else {}
        chosen: dict[str, Record] = {}
        for record in self._read("FINISHED", tags=one):
            key = record.key
            if key is None or (wanted is not None and key not in wanted) or not record.counts:
                continue
            if key not in chosen or record.order < chosen[key].order:
                chosen[key] = record
        return chosen

    def begun(self, key: str, start_ms: int) -> str | None:
        """The id of the run that an attempt at ``key`` began at that moment and hasn't ended."""
        running = self._read("RUNNING", tags={KEY_TAG: key})
        return next((record.run_id for record in running if record.start_ms == start_ms), None)

    def having(self, tags: Mapping[str, str]) -> list[Record]:
        """Runs that carry these tags, the earliest to end first."""
        return sorted(self._read(tags=tags), key=lambda record: record.order)

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

    def histories(self, run_ids: Sequence[str], names: Collection[str] | None = None) -> dict[str, History]:
        """What runs logged over their steps, by run id; a run that logged none of it has an empty history.

        Args:
            run_ids: whole ids.
            names: only these metrics (``layer1/val_acc``); None: all.

        Raises:
            StoreUnavailable: the store can't be read.
        """
        return self._ask(
            lambda path: _histories_sqlite(self.uri, path, run_ids, names),
            lambda: self._histories_client(run_ids, names),
            {run_id: {} for run_id in run_ids},
        )

    def _read(self, status: str = "", run_id: str = "", tags: Mapping[str, str] | None = None) -> Iterator[Record]:
        return self._ask(
            lambda path: iter(self._read_sqlite(path, status, run_id, tags or {})),
            lambda: self._read_client(status, run_id, tags or {}),
            iter(()),
        )

    def _ask(self, sqlite: Callable[[Path], Answer], client: Callable[[], Answer], nothing: Answer) -> Answer:
        """The file's own answer, or the client's where the store is no file or its schema is another one."""
        path = sqlite_path(self.uri)
        if path is None:
            return client()
        if trouble.is_new(path):
            return nothing
        try:
            return sqlite(path)
        except sqlite3.Error as error:
            if "no such" in str(error):  # a schema that this query doesn't know
                trouble.demand_schema(self.uri, path)
                return client()
            raise trouble.unavailable(self.uri, error) from error

    def _read_sqlite(self, path: Path, status: str, run_id: str, tags: Mapping[str, str]) -> Iterable[Record]:
        condition = "e.name = ? AND r.lifecycle_stage = 'active' AND r.run_uuid LIKE ?"
        values = [self.experiment, f"{run_id}%"]
        if status:
            condition += " AND r.status = ?"
            values.append(status)
        for tag in tags.items():
            condition += " AND r.run_uuid IN (SELECT t.run_uuid FROM tags t WHERE t.key = ? AND t.value = ?)"
            values += tag
        source = f"FROM runs r JOIN experiments e USING (experiment_id) WHERE {condition}"
        with closing(_open(self.uri, path)) as database:
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

    def _read_client(self, status: str, run_id: str, tags: Mapping[str, str]) -> Iterator[Record]:
        from runner.store.client import connect, unavailable

        conditions = [f"attributes.status = '{status}'"] if status else []
        conditions += [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
        with unavailable(self.uri):
            client = connect(self.uri)
            experiment = client.get_experiment_by_name(self.experiment)
            token: str | None = None
            while experiment is not None:
                page = client.search_runs(
                    [experiment.experiment_id],
                    " AND ".join(conditions),
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

    def _histories_client(self, run_ids: Sequence[str], names: Collection[str] | None) -> dict[str, History]:
        from runner.store.client import connect, unavailable

        found: dict[str, History] = {}
        with unavailable(self.uri):
            client = connect(self.uri)
            for run_id in run_ids:
                logged = client.get_run(run_id).data.metrics
                chosen = [name for name in logged if names is None or name in names]
                metrics = {name: client.get_metric_history(run_id, name) for name in chosen}
                found[run_id] = {
                    name: sorted({point.step: point.value for point in points}.items())
                    for name, points in metrics.items()
                }
        return found


def _open(uri: str, path: Path) -> sqlite3.Connection:
    return trouble.reading(path, trouble.wait_seconds(uri))


def _histories_sqlite(
    uri: str, path: Path, run_ids: Sequence[str], names: Collection[str] | None
) -> dict[str, History]:
    found: dict[str, History] = {run_id: {} for run_id in run_ids}
    condition = "run_uuid IN (SELECT value FROM json_each(?))"
    values = [json.dumps(list(run_ids))]
    if names is not None:
        condition += " AND key IN (SELECT value FROM json_each(?))"
        values.append(json.dumps(list(names)))
    with closing(_open(uri, path)) as database:
        for uuid, name, step, value in database.execute(
            f"SELECT run_uuid, key, step, value FROM metrics WHERE {condition} AND NOT is_nan ORDER BY step, timestamp",
            values,
        ):
            points = found[uuid].setdefault(name, [])
            if points and points[-1][0] == step:  # logged again: the latter counts
                points.pop()
            points.append((step, value))
    return found
