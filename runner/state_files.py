"""Files of tensors, snapshots and checkpoints: written whole, read whole, and refused where they are anything else."""

from __future__ import annotations

import errno
import io
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

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
    RuntimeError,
    TypeError,
    ValueError,
)
"""What Python and torch raise on damaged files."""


def save_whole(content: object, file: Path) -> None:
    """``torch.save`` that replaces the file whole or not at all.

    Raises:
        OSError: the disk is full, say; torch itself would not tell it from other errors.
    """
    content_bytes = io.BytesIO()
    torch.save(content, content_bytes)
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_bytes(content_bytes.getbuffer())
        os.replace(partial, file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def load_whole(file: Path, device: torch.device | None = None) -> Any:
    """What :func:`save_whole` wrote: tensors and plain containers, never code.

    Raises:
        CorruptData: the file is truncated, damaged, or holds anything else.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > file.stat().st_size:
                raise CorruptData(f"{file.name}: claims more than it holds")
            if damaged := archive.testzip():  # torch compares no checksums
                raise CorruptData(f"{file.name}: damaged at {damaged}")
        return torch.load(file, weights_only=True, map_location=device)
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):
            raise
        raise CorruptData(f"{file.name}: {_first_line(error)}") from error
    except _DAMAGE as error:
        raise CorruptData(f"{file.name}: {_first_line(error)}") from error


def misfit(module: nn.Module, weights: Any) -> str:
    """Why ``weights`` can't be loaded into ``module``, by names and shapes; the empty string if they can."""
    if not isinstance(weights, dict):
        return f"holds a {type(weights).__name__}, not weights"
    own = module.state_dict()
    if missing := sorted(own.keys() - weights.keys()):
        return f"has no {missing[0]}"
    if unknown := sorted(map(str, weights.keys() - own.keys())):
        return f"has {unknown[0]}, which the network has not"
    for name, value in own.items():
        if not isinstance(value, torch.Tensor) or is_lazy(value):
            continue
        if not isinstance(weights[name], torch.Tensor):
            return f"{name} is no tensor"
        if weights[name].shape != value.shape:
            return f"{name} is {list(weights[name].shape)}, the network's is {list(value.shape)}"
    return ""


def _first_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0][:200]
    return text or type(error).__name__
