"""What is wrong with a store, in one line that ends with the next step."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, quote

from runner.errors import StoreUnavailable

BUSY_SECONDS = 120.0
"""How long SQLite's lock is waited for: many processes may write to one file. ``?timeout=…`` in the URI changes it."""
ELSEWHERE = "choose another store with home=… or tracking.uri=…"

_FULL = f"the disk is full: free some space, or {ELSEWHERE}"
_READ_ONLY = f"it can't be written: mend the permissions of the file and its folder, or {ELSEWHERE}"
_DAMAGED = f"it is damaged: put a copy in its place or move it away (the next run makes a new one), or {ELSEWHERE}"
_CAUSES = {
    r"database is locked|database table is locked": "another process holds its lock: end that process, or wait longer "
    "with \"tracking.uri='sqlite:///…?timeout=SECONDS'\"",
    r"disk is full|No space left|quota exceeded|disk I/O error": _FULL,
    r"readonly database|Read-only file system|Permission denied|unable to open database": _READ_ONLY,
    r"malformed|not a database": _DAMAGED,
    r"\b50[0-9]\b.*(?:error|response|Unavailable)": "its server fails: see the server's log",  # also after retries
    r"Connection refused|Max retries exceeded|Failed to resolve|Name or service|timed out|Connection aborted": "no "
    f"server answers there: start it, correct tracking.uri, or {ELSEWHERE}",
}


def wait_seconds(uri: str) -> float:
    """How long the lock of a SQLite store is waited for."""
    try:
        return float(parse_qs(uri.partition("?")[2])["timeout"][0])
    except (KeyError, ValueError):
        return BUSY_SECONDS


def unavailable(uri: str, reason: object) -> StoreUnavailable:
    """The error for a store that fails for a reason that SQLite, MLflow or the system gives."""
    text = " ".join(str(reason).split())
    step = next((step for cause, step in _CAUSES.items() if re.search(cause, text, re.IGNORECASE)), None)
    shown = re.sub(r"\s*\(?\[?(Background on this error|SQL: ).*", "", text)[:200]
    told = f"{step} ({shown})" if step else f"{shown}; {ELSEWHERE}"
    return StoreUnavailable(f"tracking store {uri} can't be used: {told}")


def is_new(path: Path) -> bool:
    """Whether there is no store yet: no file, or an empty one, as SQLite leaves it where nothing was written."""
    try:
        return path.stat().st_size == 0
    except (FileNotFoundError, NotADirectoryError):
        return True


def demand_schema(uri: str, path: Path) -> None:
    """Check that a SQLite file is a store of the installed MLflow's schema.

    Raises:
        StoreUnavailable: it isn't; the message says what it is and what makes it usable.
    """
    try:
        found = revision(path, wait_seconds(uri))
    except (sqlite3.Error, OSError) as error:
        raise unavailable(uri, error) from error
    if wrong := schema_trouble(path, found):
        raise StoreUnavailable(f"tracking store {uri} can't be used: {wrong}")


def schema_trouble(path: Path, found: str | None) -> str:
    """What is wrong with a store of revision ``found``, and the next step; empty where nothing is."""
    if found is None:
        return f"it is a SQLite file, but not an MLflow store; {ELSEWHERE}"
    known, newest = _migrations()
    if found == newest:
        return ""
    if found not in known:
        return f"a newer MLflow made it (schema {found}); pip install --upgrade mlflow, or {ELSEWHERE}"
    return (
        f"an older MLflow made it (schema {found}, the installed one needs {newest}): copy the file, then "
        f"`mlflow db upgrade sqlite:///{path}`, or {ELSEWHERE}"
    )


def revision(path: Path, timeout: float) -> str | None:
    """The schema revision that a SQLite file carries, None where it is no MLflow store.

    Raises:
        sqlite3.Error: it can't be read, or is no SQLite file.
    """
    with closing(reading(path, timeout)) as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"alembic_version", "experiments", "runs"} <= tables:
            return None
        row = database.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None


def reading(path: Path, timeout: float) -> sqlite3.Connection:
    """A connection that reads a SQLite file and never makes or changes it.

    A process that was killed while it wrote leaves a journal behind, and only a connection that may write can undo
    that half of a change: one is opened for it first.
    """
    place = f"file:{quote(str(path))}"
    if path.with_name(f"{path.name}-journal").exists():
        with closing(sqlite3.connect(f"{place}?mode=rw", uri=True, timeout=timeout)) as database:
            database.execute("SELECT 1 FROM sqlite_master").fetchone()
    return sqlite3.connect(f"{place}?mode=ro", uri=True, timeout=timeout, isolation_level=None)


@cache
def _migrations() -> tuple[frozenset[str], str]:
    """All schema revisions that the installed MLflow knows, and the newest; as text, so that nothing is imported."""
    spec = find_spec("mlflow")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "store" / "db_migrations" / "versions"
    texts = [file.read_text(encoding="utf-8") for file in folder.glob("*.py")]
    known = {match for text in texts for match in re.findall(r'^revision = "(\w+)"', text, re.MULTILINE)}
    replaced = {match for text in texts for match in re.findall(r'^down_revision = "(\w+)"', text, re.MULTILINE)}
    return frozenset(known), (known - replaced).pop()
