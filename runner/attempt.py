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
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from runner.store.records import sqlite_path

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
        self._spool: TextIO | None = None
        self._lines: list[str] = []
        self.lines_written = 0
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
        try:
            state = AttemptState(**json.loads((folder / "attempt.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return cls(folder, state)

    def save(self) -> None:
        """Write ``attempt.json``, whole or not at all."""
        write_text(self.folder / "attempt.json", json.dumps(asdict(self.state)))

    def log(self, values: dict[str, float], step: int, of: int) -> None:
        """Append metrics to the spool; reaches the disk within a second or so."""
        line = {"t": time.time_ns() // 1_000_000, "s": step, "n": of, "v": values}
        self._lines.append(json.dumps(line))
        self.lines_written += 1
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand what was logged to the operating system."""
        if self._spool is None:
            self._spool = self.spool.open("a", encoding="utf-8")
        if self._lines:
            self._spool.write("\n".join(self._lines) + "\n")
            self._spool.flush()
            self._lines.clear()
        self._flushed = time.monotonic()

    def truncate(self, lines: int) -> None:
        """Keep the first ``lines`` lines of the spool: what a snapshot saw."""
        self.close()
        kept = self.spool.read_text(encoding="utf-8").splitlines(keepends=True)[:lines] if self.spool.exists() else []
        write_text(self.spool, "".join(kept))
        self.lines_written = len(kept)

    def history(self) -> list[dict[str, Any]]:
        """All lines of the spool that are whole."""
        if not self.spool.exists():
            return []
        lines = self.spool.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Flush and close the spool."""
        if self._lines:
            self.flush()
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def remove(self) -> None:
        """Delete the folder."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def folder_of(home: str, key: str) -> Path:
    """Where the attempt at a key lies."""
    return Path(home) / "attempts" / key


def pending(home: str) -> Iterator[Attempt]:
    """Attempts that no process is working on and that the store doesn't have as they are."""
    for file in sorted((Path(home) / "attempts").glob("*/attempt.json")):
        attempt = Attempt.load(file.parent)
        if attempt is None or attempt.state.recorded:
            continue
        try:
            with locked(home, attempt.state.uri, attempt.state.key, timeout=0):
                attempt = Attempt.load(file.parent)
                if attempt is not None and not attempt.state.recorded:
                    yield attempt
        except Timeout:
            continue


@contextmanager
def locked(home: str, uri: str, key: str, timeout: float = -1) -> Iterator[None]:
    """Hold the lock of a key: on one host, or one shared folder, a run is made once.

    The lock lies beside a SQLite store, else in ``home``. It falls with its process.

    Raises:
        filelock.Timeout: another process holds it after ``timeout`` seconds (negative: wait for ever).
    """
    database = sqlite_path(uri)
    folder = (database.parent if database else Path(home)) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock", timeout=timeout):
        yield


def write_text(path: Path, text: str) -> None:
    """Replace a file's content, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
