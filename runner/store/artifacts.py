"""The files that a run left in the store: their names and sizes, and their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from runner.store.records import Record
from runner.store.writer import artifact


@dataclass(frozen=True)
class File:
    """One artefact of a run."""

    name: str
    """Path below the run's artefacts, with forward slashes."""
    size: int
    """Bytes."""


class Artifacts:
    """The artefacts of one run; those on this machine's disk are read without MLflow."""

    def __init__(self, uri: str, record: Record) -> None:
        self._uri = uri
        self._record = record
        self._folder = _local(record.artifact_uri)

    def files(self) -> list[File]:
        """All files, by name.

        Raises:
            StoreUnavailable: the store can't be read.
        """
        if self._folder is None:
            return sorted(self._listed(""), key=lambda file: file.name)
        paths = (path for path in self._folder.rglob("*") if path.is_file() and not path.is_symlink())
        return sorted(
            (File(path.relative_to(self._folder).as_posix(), path.stat().st_size) for path in paths),
            key=lambda file: file.name,
        )

    def read(self, name: str) -> bytes:
        """The content of one of ``files``.

        Raises:
            StoreUnavailable: the store can't be read.
        """
        if self._folder is not None:
            return (self._folder / name).read_bytes()
        with TemporaryDirectory() as folder:
            return artifact(self._uri, self._record.run_id, name, Path(folder)).read_bytes()

    def _listed(self, folder: str) -> Iterator[File]:
        from runner.store.client import connect, unavailable

        with unavailable(self._uri):
            for entry in connect(self._uri).list_artifacts(self._record.run_id, folder or None):
                if entry.is_dir:
                    yield from self._listed(entry.path)
                else:
                    yield File(entry.path, entry.file_size or 0)


def _local(uri: str) -> Path | None:
    """The folder of a ``file:`` URI or a plain path, None for any other."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(uri) if uri and not parts.scheme else None
