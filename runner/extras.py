"""Optional parts, and the one line that installs each."""

from __future__ import annotations

from importlib.util import find_spec

from runner.errors import BadInput

LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "pip install 'forward-runner[joblib]'"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "pip install 'forward-runner[slurm]'"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "pip install 'forward-runner[slurm]'"),
}
"""Hydra launchers that are not part of Hydra: name -> (module, how to install it)."""
CLUSTERS = {
    "joblib": LAUNCHERS["joblib"],
    "slurm": LAUNCHERS["submitit_slurm"],
    "ray": ("ray", "pip install 'forward-runner[ray]'"),
}
"""Choices of ``+cluster=``, likewise."""
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


def demand_cluster(name: str) -> None:
    """Refuse a cluster whose optional part isn't installed; one of the user's own knows best itself.

    Raises:
        BadInput: it isn't; with the line that installs it.
    """
    module, install = CLUSTERS.get(name, ("runner", ""))
    if not installed(module):
        raise BadInput(f"+cluster={name} is an optional part: {install}")
