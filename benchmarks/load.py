"""Many writers at once: metrics a second that a store takes through runner's writer, and that it has them all."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from tempfile import TemporaryDirectory

from benchmarks.measure import Row
from runner.attempt import Attempt, AttemptState, folder_of
from runner.store import writer
from runner.store.records import KEY_TAG, History, Records

EXPERIMENT = "load"
PROCESSES, CLIENTS = 16, 64
EPOCHS, UPLOAD_EVERY = 100, 25
NAMES = ("train/loss", "train/val_acc", "train/norm", "train/lr")


def load() -> list[Row]:
    """Processes that share a SQLite file, and clients of a tracking server on PostgreSQL, each writing a run."""
    from tests.cluster import servers

    rows = [_row(f"load: {PROCESSES} processes write to one SQLite file", sqlite())]
    if reason := servers.missing():
        print(f"  no server: {reason}", file=sys.stderr)
        return rows
    with servers.postgres() as database, servers.tracking(database, workers=4) as server:
        rows.append(_row(f"load: {CLIENTS} clients write to a tracking server on PostgreSQL", clients(server.uri)))
    return rows


def sqlite(processes: int = PROCESSES, epochs: int = EPOCHS) -> float:
    """Metrics a second that ``processes`` processes together write to one file; all of them are there afterwards."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.load", "tests.warm"])
    with TemporaryDirectory() as home, ProcessPoolExecutor(processes, mp_context=context) as pool:
        uri = f"sqlite:///{home}/mlflow.db"
        writer.check(uri)
        list(pool.map(abs, range(processes)))  # all have begun
        moments = pool.map(partial(write, uri, home, epochs), range(processes))
        return _rate(uri, processes, epochs, moments)


def clients(uri: str, number: int = CLIENTS, epochs: int = EPOCHS) -> float:
    """Metrics a second that so many clients together write to the server at ``uri``; all are there afterwards."""
    with TemporaryDirectory() as home, ThreadPoolExecutor(number) as pool:
        return _rate(uri, number, epochs, pool.map(partial(write, uri, home, epochs), range(number)))


def write(uri: str, home: str, epochs: int, number: int) -> tuple[float, float]:
    """What a run asks of its store, from begin to end; gives both moments, in seconds of the monotonic clock."""
    key = f"client{number}"
    state = AttemptState(key, uri, EXPERIMENT, key, "", tags={KEY_TAG: key}, start_ms=time.time_ns() // 1_000_000)
    attempt = Attempt(folder_of(home, key), state)
    begun = time.monotonic()
    writer.begin(attempt)
    curves = history(number, epochs)
    for epoch in range(1, epochs + 1):
        attempt.log({name: points[epoch - 1][1] for name, points in curves.items()}, epoch, epochs)
        if epoch % UPLOAD_EVERY == 0:
            writer.upload(attempt)
    state.status = "FINISHED"
    writer.end(attempt)
    return begun, time.monotonic()


def history(number: int, epochs: int) -> History:
    """What a client logs."""
    return {
        name: [(epoch, number + place / 10 + epoch / 1000) for epoch in range(1, epochs + 1)]
        for place, name in enumerate(NAMES)
    }


def _rate(uri: str, number: int, epochs: int, moments: Iterable[tuple[float, float]]) -> float:
    """Metrics a second, from the first begin to the last end.

    Raises:
        AssertionError: a run or a metric is lost.
    """
    begun, ended = zip(*moments, strict=True)
    records = Records(uri, EXPERIMENT)
    runs = {record.run_id: int((record.key or "").removeprefix("client")) for record in records.finished().values()}
    assert sorted(runs.values()) == list(range(number))
    for run_id, found in records.histories(list(runs), NAMES).items():
        assert found == history(runs[run_id], epochs)
    return number * epochs * len(NAMES) / (max(ended) - min(begun))


def _row(what: str, rate: float) -> Row:
    return Row(what, rate, "metrics/s")
