"""Optional parts, and the one line that installs each."""

from __future__ import annotations

from importlib.util import find_spec

LAUNCHERS = {"joblib": ("hydra_plugins.hydra_joblib_launcher", "pip install 'forward-runner[joblib]'")}
"""Hydra launchers that are not part of Hydra: name -> (module, how to install it)."""


def installed(module: str) -> bool:
    """Whether a module can be imported; it is not."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
