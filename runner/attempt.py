"""An attempt at a run: a folder that holds all there is of it until the store has it.

Metrics go to an append-only spool, artefacts and snapshots to files; nothing of it waits for the store.
A killed attempt leaves its folder behind, from which the same command resumes; an attempt that ended
while the store was away is recorded by the next command.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from runner.errors import StoreUnavailable
from runner.store import trouble
from runner.store.records import sqlite_path

REMOVED = ".removed-"
"""Begins the names of folders that are being deleted."""
FLUSH_SECONDS = 1.0
"""A SIGKILL loses at most this much of the metrics."""


@dataclass
class AttemptState:
    """What is known of an attempt; kept in ``attempt.json``."""

    key: str
    uri: str
    experiment: str
    name: str
    code: str
    """Fingerprint of the code that began the attempt: only the same code resumes it."""
    supersedes: str | None = None
    """The store's id of the finished run that this one is to replace (``rerun=true``)."""
    status: str = "RUNNING"
    start_ms: int = 0
    end_ms: int | None = None
    run_id: str | None = None
    """The store's id, once the store knows of the attempt."""
    recorded: bool = False
    """Whether the store has all that this attempt will give it, unless it is resumed."""
    uploaded: int = 0
    """Lines of the spool that the store has."""
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    """Final metrics and costs."""


class Attempt:
    """An attempt's folder: ``attempt.json``, ``metrics.jsonl``, ``artifacts/``, ``snapshots/``."""

    def __init__(self, folder: Path, state: AttemptState) -> None:
        self.folder = folder
        self.state = state
        self._unwritten = b""
        self.lines_written = 0
        self.trouble = ""
        """Why the folder doesn't hold all that it should: the disk is full, say. Empty where it does."""
        self._flushed = time.monotonic()
        (folder / "artifacts").mkdir(parents=True, exist_ok=True)
        (folder / "snapshots").mkdir(exist_ok=True)

    @property
    def artifacts(self) -> Path:
        """Folder of files that the store is to keep."""
        return self.folder / "artifacts"

    @property
    def snapshots(self) -> Path:
        """Folder of what a killed run resumes from."""
        return self.folder / "snapshots"

    @property
    def spool(self) -> Path:
        """Metrics, one JSON object a line: ``t`` (ms), ``s`` (step), ``n`` (epochs of the loop), ``v`` (values)."""
        return self.folder / "metrics.jsonl"

    @classmethod
    def load(cls, folder: Path) -> Attempt | None:
        """The attempt in ``folder``, or None where there is none that can be read."""
        state = _state(folder)
        return None if state is None else cls(folder, state)

    def save(self) -> None:
        """Write ``attempt.json``, whole or not at all; ``trouble`` says if that failed, and a run goes on."""
        try:
            write_text(self.folder / "attempt.json", json.dumps(asdict(self.state)))
            self.trouble = ""
        except OSError as error:
            self.trouble = str(error)

    def log(self, values: dict[str, float], step: int, of: int) -> None:
        """Append metrics to the spool; reaches the disk within a second or so."""
        line = {"t": time.time_ns() // 1_000_000, "s": step, "n": of, "v": values}
        self._unwritten += json.dumps(line).encode() + b"\n"
        self.lines_written += 1
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand what was logged to the operating system; what it doesn't take is kept for the next time."""
        self._flushed = time.monotonic()
        if not self._unwritten:
            return
        try:
            with self.spool.open("ab", buffering=0) as spool:
                while self._unwritten:
                    self._unwritten = self._unwritten[spool.write(self._unwritten) :]
        except OSError as error:
            self.trouble = str(error)

    def truncate(self, lines: int) -> None:
        """Keep the first ``lines`` lines of the spool: what a snapshot saw."""
        self.flush()
        kept = self.spool.read_bytes().splitlines(keepends=True)[:lines] if self.spool.exists() else []
        partial = self.spool.with_name(f".{self.spool.name}.partial")
        partial.write_bytes(b"".join(kept))
        os.replace(partial, self.spool)
        self.lines_written = len(kept)

    def history(self) -> list[dict[str, Any]]:
        """All lines of the spool that are whole, those included that the disk didn't take."""
        content = self.spool.read_bytes() if self.spool.exists() else b""
        lines = []
        for line in (content + self._unwritten).split(b"\n")[:-1]:
            try:
                lines.append(json.loads(line))
            except ValueError:  # cut off by a power failure, then gone on after
                continue
        return lines

    def remove(self) -> None:
        """Delete the folder; what a process that is killed in the middle leaves is swept by the next command."""
        gone = self.folder.with_name(f"{REMOVED}{self.folder.name}")
        with suppress(OSError):
            self.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def folder_of(home: str, key: str) -> Path:
    """Where the attempt at a key lies."""
    return Path(home) / "attempts" / key


def _state(folder: Path) -> AttemptState | None:
    try:
        return AttemptState(**json.loads((folder / "attempt.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def pending(home: str) -> Iterator[Attempt]:
    """Attempts that no process is working on and that the store doesn't have as they are."""
    for file in sorted((Path(home) / "attempts").glob("[!.]*/attempt.json")):
        state = _state(file.parent)
        if state is None or state.recorded:
            continue
        try:
            with locked(home, state.uri, state.key, timeout=0):
                state = _state(file.parent)  # another process may have recorded it meanwhile
                if state is not None and not state.recorded:
                    yield Attempt(file.parent, state)
        except (Timeout, StoreUnavailable):
            continue


def sweep_removed(home: str) -> None:
    """Delete what is left of attempts that were being removed when their process was killed."""
    for folder in (Path(home) / "attempts").glob(f"{REMOVED}*"):
        shutil.rmtree(folder, ignore_errors=True)


def unreadable(home: str) -> list[Path]:
    """Folders of attempts whose ``attempt.json`` can't be read."""
    return [
        file.parent for file in sorted((Path(home) / "attempts").glob("[!.]*/attempt.json")) if not _state(file.parent)
    ]


def set_aside(folder: Path) -> Path:
    """Move an attempt that can't be read out of the way, files and all; gives its new place."""
    aside = folder.parent / "unreadable" / f"{folder.name}-{time.time_ns() // 1_000_000}"
    aside.parent.mkdir(exist_ok=True)
    return folder.rename(aside)


@contextmanager
def locked(home: str, uri: str, key: str, timeout: float = -1) -> Iterator[None]:
    """Hold the lock of a key: on one host, or one shared folder, a run is made once.

    The lock lies beside a SQLite store, else in ``home``. It falls with its process.

    Raises:
        filelock.Timeout: another process holds it after ``timeout`` seconds (negative: wait for ever).
        StoreUnavailable: the folder can't be written.
    """
    database = sqlite_path(uri)
    folder = (database.parent if database else Path(home)) / "locks"
    lock = FileLock(folder / f"{key}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout)
    except Timeout:
        raise
    except OSError as error:
        raise trouble.unavailable(uri, error) from error
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Replace a file's content, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
