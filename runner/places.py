"""Where things lie on disk."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Folder of everything that can be fetched or computed again: data, derived tensors, the empty store.

    ``RUNNER_DATA`` if set, else the user's cache folder. It is not created here.
    """
    chosen = os.environ.get("RUNNER_DATA")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("forward-runner")


def mirror_dir() -> Path | None:
    """Folder of a local mirror of the data files (``RUNNER_DATA_MIRROR``), or None where it is not set."""
    chosen = os.environ.get("RUNNER_DATA_MIRROR")
    return Path(chosen).expanduser() if chosen else None
