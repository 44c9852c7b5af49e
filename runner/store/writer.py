"""Recording attempts in the store, always through MLflow's client."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.attempt import Attempt, AttemptState
from runner.errors import StoreUnavailable
from runner.store.client import connect, ensure, unavailable
from runner.store.records import DUPLICATE_TAG, KEY_TAG, KIND_TAG, SUPERSEDED_TAG, Records, sqlite_path

if TYPE_CHECKING:
    from mlflow.entities import Metric

POINTS = 1000
"""A longer history is thinned to about this many points a metric; the whole curve is an artefact."""
METRIC_BATCH, PARAM_BATCH = 1000, 100
PARAM_CHARACTERS, TAG_CHARACTERS = 6000, 8000
SWEEP = "sweep"
PROCESS_TAG = "runner.process"
"""Host and process of a sweep, by which one that was killed without notice is known."""


def check(uri: str) -> None:
    """Make a new SQLite store, or check that the one that is there can be used by the installed MLflow.

    Raises:
        StoreUnavailable: it can't be made, or is no store of this schema.
    """
    with unavailable(uri):
        ensure(uri)


def begin(attempt: Attempt) -> None:
    """Make the store know of an attempt: a RUNNING run with params and tags. A resumed attempt keeps its run.

    Raises:
        StoreUnavailable: the store can't be written.
    """
    state = attempt.state
    with unavailable(state.uri):
        client = connect(state.uri)
        _forget_lost(attempt)
        if state.run_id is None:
            left = Records(state.uri, state.experiment).begun(state.key, state.start_ms)  # killed before it was noted
            state.run_id = (
                left
                or client.create_run(
                    experiment_id(state.uri, state.experiment),
                    start_time=state.start_ms,
                    run_name=state.name,
                    tags=_tags(state),
                ).info.run_id
            )
            _log_params(state, client.get_run(left).data.params if left else {})
            attempt.save()
        else:
            client.update_run(state.run_id, status="RUNNING")
            for name, value in _tags(state).items():
                client.set_tag(state.run_id, name, value)


def _forget_lost(attempt: Attempt) -> None:
    """A store that was put back from a copy, or made anew, may not know of the run: then it is made again."""
    state = attempt.state
    if state.run_id is not None and not _knows(state.uri, state.run_id):
        state.run_id, state.uploaded = None, 0


def _knows(uri: str, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(connect(uri).get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def upload(attempt: Attempt) -> float:
    """Send the spool's new lines; gives the seconds that it took.

    Raises:
        StoreUnavailable: the store can't be written; what was not sent is sent next time.
    """
    begun = time.perf_counter()
    attempt.flush()
    state = attempt.state
    lines = attempt.history()
    with unavailable(state.uri):
        client = connect(state.uri)
        for batch in batches(_metrics(lines[state.uploaded :]), METRIC_BATCH):
            client.log_batch(state.run_id, metrics=batch)
    state.uploaded = max(state.uploaded, len(lines))  # a resumed attempt writes lines again that the store has
    attempt.save()
    return time.perf_counter() - begun


def end(attempt: Attempt) -> None:
    """Record an attempt that ended (FINISHED, FAILED, KILLED) with all its files; removes what is not needed again.

    Raises:
        StoreUnavailable: the store can't be written; the attempt stays on disk for the next command.
    """
    from mlflow.entities import Metric, RunTag

    state = attempt.state
    with unavailable(state.uri):
        client = connect(state.uri)
        _forget_lost(attempt)
    if state.run_id is None:
        begin(attempt)
    state.metrics["upload_seconds"] = upload(attempt)
    with unavailable(state.uri):
        moment = state.end_ms or time.time_ns() // 1_000_000
        client.log_batch(
            state.run_id,
            metrics=[Metric(name, value, moment, 0) for name, value in state.metrics.items()],
            tags=[RunTag(name, value) for name, value in _tags(state).items()],
        )
        client.log_artifacts(state.run_id, str(attempt.artifacts))
        if attempt.spool.exists():
            client.log_artifact(state.run_id, str(attempt.spool), "history")
        client.set_terminated(state.run_id, status=state.status, end_time=moment)
        if state.status == "FINISHED" and state.supersedes and _knows(state.uri, state.supersedes):
            client.set_tag(state.supersedes, SUPERSEDED_TAG, "true")
        if sqlite_path(state.uri) is None:
            _settle(state)
    if state.status == "KILLED":
        state.recorded = True
        attempt.save()
    else:
        attempt.remove()


def _settle(state: AttemptState) -> None:
    """What a lock beside a SQLite file prevents, and a server can't: leave one run of a key that counts.

    Who ends looks after it has ended, so that of two that overlap the later sees both.
    """
    client = connect(state.uri)
    runs = Records(state.uri, state.experiment).having({KEY_TAG: state.key})
    first, *others = [record.run_id for record in runs if record.counts] or [""]
    for run_id in others:
        client.set_tag(run_id, DUPLICATE_TAG, first)
    for record in runs:  # a request whose answer was lost was sent again, and made this attempt's run twice
        if record.status == "RUNNING" and record.start_ms == state.start_ms and record.run_id != state.run_id:
            client.set_terminated(record.run_id, status="KILLED")


def recover(attempts: Iterable[Attempt]) -> Iterator[tuple[AttemptState, StoreUnavailable | None]]:
    """Record attempts that were left behind; one that still says RUNNING was killed. Gives each, and what failed.

    A store that is away is asked once, and leaves its attempts for the next command.
    """
    away: dict[str, StoreUnavailable] = {}
    for attempt in attempts:
        state = attempt.state
        if state.status == "RUNNING":
            state.status = "KILLED"
            state.tags["runner.reason"] = "killed without notice"
        if state.uri not in away:
            try:
                end(attempt)
            except StoreUnavailable as error:
                away[state.uri] = error
        yield state, away.get(state.uri)


def tag(uri: str, run_id: str, name: str, value: str) -> None:
    """Set one tag of a run.

    Raises:
        StoreUnavailable: the store can't be written.
    """
    with unavailable(uri):
        connect(uri).set_tag(run_id, name, value)


def sweep_parent(uri: str, experiment: str) -> str:
    """Create the parent run of a sweep, and close those whose process is gone; gives its id."""
    name = time.strftime("sweep-%Y%m%d-%H%M%S")
    with unavailable(uri):
        client = connect(uri)
        for record in Records(uri, experiment).having({KIND_TAG: SWEEP}):
            if record.status == "RUNNING" and _is_gone(record.tags):
                client.set_terminated(record.run_id, status="KILLED")
        tags = {KIND_TAG: SWEEP, PROCESS_TAG: f"{platform.node()}:{os.getpid()}"}
        run = client.create_run(experiment_id(uri, experiment), run_name=name, tags=tags)
        return str(run.info.run_id)


def _is_gone(tags: dict[str, str]) -> bool:
    """Whether the process that a run belongs to was one of this host and has ended."""
    host, _, process = tags.get(PROCESS_TAG, "").rpartition(":")
    if host != platform.node():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def end_sweep(uri: str, run_id: str, cells: dict[str, Any], status: str) -> None:
    """Close a sweep's parent with the list of its cells as an artefact."""
    with unavailable(uri):
        client = connect(uri)
        client.log_dict(run_id, cells, "cells.json")
        client.set_terminated(run_id, status=status)


def experiment_id(uri: str, name: str) -> str:
    """The id of an experiment, created where it is new; its artefacts lie beside a SQLite store."""
    from mlflow.exceptions import MlflowException

    client = connect(uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        location = None
        if (database := sqlite_path(uri)) is not None:
            location = (database.parent.absolute() / "artifacts" / name).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _log_params(state: AttemptState, known: Collection[str]) -> None:
    from mlflow.entities import Param

    params = [Param(name, value[:PARAM_CHARACTERS]) for name, value in state.params.items() if name not in known]
    for batch in batches(params, PARAM_BATCH):
        connect(state.uri).log_batch(state.run_id, params=batch)


def _tags(state: AttemptState) -> dict[str, str]:
    return {name: value for name, value in state.tags.items() if len(value) <= TAG_CHARACTERS}


def _metrics(lines: list[dict[str, Any]]) -> Iterator[Metric]:
    from mlflow.entities import Metric

    for line in lines:
        stride = max(1, math.ceil(line["n"] / POINTS))
        if line["s"] % stride == 0 or line["s"] == 1:
            for name, value in line["v"].items():
                yield Metric(name, value, line["t"], line["s"])


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of at most ``size`` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def artifact(uri: str, run_id: str, name: str, folder: Path) -> Path:
    """Download one artefact of a run into ``folder``.

    Raises:
        StoreUnavailable: the store or the artefact can't be read.
    """
    with unavailable(uri):
        return Path(connect(uri).download_artifacts(run_id, name, str(folder)))
