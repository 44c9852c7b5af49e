"""Reads one named member of a zip, tar or Debian archive, and nothing else of it.

Nothing is ever unpacked under a name that an archive chose, links are not followed, and no archive makes more
than the given number of bytes out of itself.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from runner.errors import CorruptData, DataUnavailable

_CHUNK = 1 << 20
_AT_ONCE = 64 << 20  # what a sound archive never asks for in one piece
_DEBIAN = b"!<arch>\n"
_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_UNSOUND = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,  # encrypted, or packed in an unknown way
    ValueError,
)


class TooLongError(Exception):
    """A stream went on beyond its limit."""


def chunks(stream: IO[bytes], limit: int) -> Iterator[bytes]:
    """The stream in pieces of a megabyte.

    Raises:
        TooLongError: it holds more than ``limit`` bytes.
    """
    length = 0
    while chunk := stream.read(_CHUNK):
        length += len(chunk)
        if length > limit:
            raise TooLongError
        yield chunk


def members(origin: Path, member: str | None, limit: int) -> Iterator[bytes]:
    """The bytes of ``member`` of the archive ``origin``, or of ``origin`` itself, in pieces of a megabyte.

    Raises:
        CorruptData: not a sound archive, or no file of that name in it, or two.
        TooLongError: more than ``limit`` bytes, the members before and after counted where they must be read.
        DataUnavailable: it is a Debian archive, and this machine has no dpkg.
    """
    if member is None:
        with origin.open("rb") as stream:
            yield from chunks(stream, limit)
        return
    try:
        with origin.open("rb") as stream:
            begin = stream.read(8)
        if begin == _DEBIAN:
            yield from _debian(origin, member, limit)
        elif zipfile.is_zipfile(origin):
            yield from _zip(origin, member, limit)
        else:
            opener = next((opener for magic, opener in _OPENERS.items() if begin.startswith(magic)), None)
            with opener(origin) if opener else origin.open("rb") as stream:
                yield from _tar(stream, origin.name, member, limit)
    except OSError as error:  # bz2 and zipfile raise it for damage too
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _unsound(origin, error) from error
    except _UNSOUND as error:
        raise _unsound(origin, error) from error


def _unsound(origin: Path, error: Exception) -> CorruptData:
    reason = " ".join(str(error).split())[:200]
    return CorruptData(f"{origin.name}: not a sound archive ({reason or type(error).__name__})")


def _zip(origin: Path, member: str, limit: int) -> Iterator[bytes]:
    with zipfile.ZipFile(origin) as archive:
        named = [entry for entry in archive.infolist() if entry.filename == member]
        _demand_one(origin.name, member, len(named))
        if named[0].file_size > limit:
            raise TooLongError
        with archive.open(named[0]) as stream:
            yield from chunks(stream, limit)


def _debian(origin: Path, member: str, limit: int) -> Iterator[bytes]:
    command = ["dpkg-deb", "--fsys-tarfile", str(origin)]
    try:
        unpacking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise DataUnavailable(
            f"{origin.name}: dpkg-deb, which unpacks it, is not on this machine; install dpkg"
        ) from error
    with unpacking:
        assert unpacking.stdout is not None
        try:
            yield from _tar(unpacking.stdout, origin.name, f"./{member.removeprefix('/')}", limit)
        finally:
            unpacking.kill()


def _tar(stream: Any, name: str, member: str, limit: int) -> Iterator[bytes]:
    count = 0
    forward: Any = _Forward(stream, limit)
    with tarfile.open(fileobj=forward, mode="r:") as tar:
        while entry := tar.next():  # to the end, lest the member be there twice
            tar.members.clear()
            if entry.name != member:
                continue
            count += 1
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is None:
                raise CorruptData(f"{name}: {member} is not a file")
            if count == 1:
                yield from chunks(content, limit)
    _demand_one(name, member, count)


def _demand_one(name: str, member: str, count: int) -> None:
    if count == 0:
        raise CorruptData(f"{name}: has no member {member}")
    if count > 1:
        raise CorruptData(f"{name}: has more than one member {member}")


class _Forward:
    """A stream as tarfile wants a file: read once, front to back, so that a small archive can't cost much."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._at = 0

    def tell(self) -> int:
        """Bytes read so far."""
        return self._at

    def seek(self, position: int) -> int:
        """Read on to ``position``."""
        if position < self._at:
            raise tarfile.ReadError("it points back")
        if position > self._limit:
            raise TooLongError
        while self._at < position and self.read(min(_CHUNK, position - self._at)):
            pass
        return self._at

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end."""
        if size > _AT_ONCE:
            raise tarfile.ReadError(f"a header of {size} bytes")
        chunk = self._stream.read(size)
        self._at += len(chunk)
        if self._at > self._limit:
            raise TooLongError
        return chunk
