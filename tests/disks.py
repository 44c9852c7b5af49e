"""Disks that are small, full or read-only, for as long as a test takes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounting needs root")


@contextmanager
def mounted(place: Path, *how: str) -> Iterator[None]:
    """Mount something on a folder, which is made, or on a file; ``how``: what ``mount`` is told."""
    if not place.is_file():
        place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *how, str(place)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount isn't allowed here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill the disk of a folder but for ``leave`` bytes; gives the file that does it."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 4096)
        except OSError:
            pass
        filler.truncate(max(0, filler.tell() - leave))
    return file
