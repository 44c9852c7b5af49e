"""What a run is recorded with: machine, versions, source code."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any


@cache
def describe() -> dict[str, Any]:
    """Machine, Python, packages and the commit of this tool's source tree."""
    return {
        "machine": machine(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "git": commit(),
        "packages": dict(sorted((item.metadata["Name"], item.version) for item in distributions())),
    }


@cache
def machine() -> str:
    """Processor and number of cores, in one line."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores"


@cache
def commit() -> dict[str, Any]:
    """Commit and dirtiness of the source tree that the package lies in; empty where it is no git checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        head = _git(root, "rev-parse", "HEAD")
        return {"commit": head, "dirty": bool(_git(root, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(root: Path, *arguments: str) -> str:
    if not (root / ".git").exists():
        raise FileNotFoundError(root)
    call = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20)
    return call.stdout.strip()
