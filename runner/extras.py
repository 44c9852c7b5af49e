"""Optional parts, and the one line that installs each."""

from __future__ import annotations

from importlib.util import find_spec

LAUNCHERS = {"joblib": ("hydra_plugins.hydra_joblib_launcher", "pip install 'forward-runner[joblib]'")}
"""Hydra launchers that are not part of Hydra: name -> (module, how to install it)."""
SWEEPERS = {"runner.search.sweeper.OptunaSweeper": ("optuna", "pip install 'forward-runner[optuna]'")}
"""Sweepers that need a package: target -> (package, how to install it)."""


def missing_sweeper(target: str) -> str:
    """What to install for a sweeper; empty where it is there."""
    package, install = SWEEPERS.get(target, ("", ""))
    return f"this sweep needs the package {package}: {install}" if package and not installed(package) else ""


def installed(module: str) -> bool:
    """Whether a module can be imported; it is not."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
