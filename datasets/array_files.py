"""Reads arrays from files that nothing pins: an ``.npz``, or a ``.pt`` of tensors. Never code, never beyond memory."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from runner.errors import CorruptData

_DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What numpy and torch raise on damaged files."""


def read_npz(path: Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Arrays of an ``.npz``: those of these names, or all.

    Raises:
        CorruptData: the file is damaged, holds objects, lacks a name, or unpacks to more than this machine's memory.
    """
    with _told(path, "an .npz of plain arrays"):
        _demand_sound(path)
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in (stored.files if names is None else names)}


def read_pt(path: Path) -> Any:
    """What ``torch.save`` wrote, if it is tensors and plain containers.

    Raises:
        CorruptData: the file is damaged, holds anything else, or more than this machine's memory.
    """
    with _told(path, "tensors in plain containers"):
        if zipfile.is_zipfile(path):  # else written by torch < 1.6
            _demand_sound(path)
        return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def _told(path: Path, wanted: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise CorruptData(f"{path}: not {wanted} ({reason})") from error


def _demand_sound(path: Path) -> None:
    """Checksums (torch compares none), and the size before anything is unpacked."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if size > memory:
            raise ValueError(f"it unpacks to {size / 1e9:.1f} GB; this machine has {memory / 1e9:.1f} GB")
        if damaged := archive.testzip():
            raise ValueError(f"damaged at {damaged}")
