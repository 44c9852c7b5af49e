"""Moving runs between stores: a zip file that holds runs whole, keys intact."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, Literal

import msgspec

from runner.errors import BadInput
from runner.store.client import connect, unavailable
from runner.store.records import KEY_TAG, Record, Records
from runner.store.writer import METRIC_BATCH, PARAM_BATCH, batches, experiment_id

FORMAT = 1
_MOST_JSON = 1 << 30
RESERVED = ("mlflow.user", "mlflow.parentRunId")
"""Tags that mean nothing in another store."""


def export(records: Records, runs: Sequence[Record], file: Path) -> int:
    """Write runs to a zip file, whole or not at all; gives their number.

    Raises:
        StoreUnavailable: the store can't be read.
    """
    partial = file.with_name(f".{file.name}.partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    with unavailable(records.uri):
        client = connect(records.uri)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for record in runs:
                archive.writestr(f"{record.run_id}/run.json", json.dumps(_content(client, record)))
                with TemporaryDirectory() as folder:
                    root = Path(client.download_artifacts(record.run_id, "", folder))
                    for path in sorted(root.rglob("*")):
                        if path.is_file():
                            archive.write(path, f"{record.run_id}/artifacts/{path.relative_to(root).as_posix()}")
    partial.replace(file)
    return len(runs)


def _content(client: Any, record: Record) -> dict[str, Any]:
    run = client.get_run(record.run_id)
    histories = {name: client.get_metric_history(record.run_id, name) for name in run.data.metrics}
    return {
        "format": FORMAT,
        "name": run.info.run_name,
        "status": record.status,
        "start": record.start_ms,
        "end": record.end_ms,
        "tags": {name: value for name, value in run.data.tags.items() if name not in RESERVED},
        "params": dict(run.data.params),
        "metrics": {
            name: [(point.value, point.timestamp, point.step) for point in history]
            for name, history in histories.items()
        },
    }


def take(file: Path, records: Records) -> tuple[int, int]:
    """Add the runs of a file to a store; gives the numbers of those added and of those that it has already.

    The whole file is checked before the first run is added.

    Raises:
        BadInput: the file is not one that ``export`` wrote.
        StoreUnavailable: the store can't be written.
    """
    added = known = 0
    try:
        with zipfile.ZipFile(file) as archive:
            _demand_sound(archive, file.stat().st_size)
            contents = {run_id: _read(archive, run_id) for run_id in _run_ids(archive)}
            for run_id, content in contents.items():
                if _is_known(content, records):
                    known += 1
                    continue
                with TemporaryDirectory() as folder:
                    _unpack(archive, run_id, Path(folder))
                    _record(content, Path(folder), records)
                added += 1
    except (OSError, EOFError, LookupError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"{file}: not a file of exported runs ({type(error).__name__}: {error})") from error
    return added, known


class _Content(msgspec.Struct):
    """A run without its artefacts, as ``_content`` makes it."""

    format: Literal[1]
    name: str
    status: Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
    start: int
    end: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, list[tuple[float, int, int]]]


def _run_ids(archive: zipfile.ZipFile) -> list[str]:
    return sorted({name.partition("/")[0] for name in archive.namelist()})


def _demand_sound(archive: zipfile.ZipFile, size: int) -> None:
    """Names that stay inside, checksums, and no more bytes than the disk takes or the file can honestly hold."""
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise ValueError("it has two members of one name")
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"'{name}' leads out of the run")
    unpacked = sum(entry.file_size for entry in archive.infolist())
    most = min(shutil.disk_usage(gettempdir()).free, (1 << 30) + 100 * size)
    if unpacked > most:
        raise ValueError(f"it unpacks to {unpacked / 1e9:.1f} GB, over the {most / 1e9:.1f} GB that it may have")
    if damaged := archive.testzip():
        raise ValueError(f"damaged at {damaged}")


def _read(archive: zipfile.ZipFile, run_id: str) -> _Content:
    name = f"{run_id}/run.json"
    if archive.getinfo(name).file_size > _MOST_JSON:
        raise ValueError(f"{name} is too long")
    content = json.loads(archive.read(name))
    if isinstance(content, dict) and content.get("format") != FORMAT:
        raise ValueError(f"written by another version, format {content.get('format')}")
    return msgspec.convert(content, _Content)


def _is_known(content: _Content, records: Records) -> bool:
    """Whether the store has a finished run of this key (or, for a run that isn't finished, this very run)."""
    key = content.tags.get(KEY_TAG, "")
    if content.status == "FINISHED":
        return key in records.finished([key])
    return any(record.key == key and record.start_ms == content.start for record in records.all())


def _unpack(archive: zipfile.ZipFile, run_id: str, folder: Path) -> None:
    """The artefacts; links in the archive become plain files."""
    prefix = f"{run_id}/artifacts/"
    for name in archive.namelist():
        if name.startswith(prefix) and not name.endswith("/"):
            target = folder / name.removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)


def _record(content: _Content, artifacts: Path, records: Records) -> None:
    from mlflow.entities import Metric, Param

    with unavailable(records.uri):
        client = connect(records.uri)
        experiment = experiment_id(records.uri, records.experiment)
        run = client.create_run(experiment, content.start, content.tags, content.name)
        run_id = run.info.run_id
        points = [Metric(name, *point) for name, history in content.metrics.items() for point in history]
        for batch in batches(points, METRIC_BATCH):
            client.log_batch(run_id, metrics=batch)
        for batch in batches((Param(*item) for item in content.params.items()), PARAM_BATCH):
            client.log_batch(run_id, params=batch)
        client.log_artifacts(run_id, str(artifacts))
        client.set_terminated(run_id, status=content.status, end_time=content.end)
