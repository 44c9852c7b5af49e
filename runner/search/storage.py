"""Where a study is kept: a journal beside the runs, or any database that Optuna takes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study

from runner import extras
from runner.errors import BadInput
from runner.search.settings import Direction

FOLDER = "studies"
"""In ``home``: journals, and what reports read."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


class SystemLock(JournalFileOpenLock):
    """A lock that the system takes from a process that dies; Optuna's own would be waited for half a minute."""

    def __init__(self, file: str) -> None:
        self._lock = FileLock(file)

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        return True

    def release(self) -> None:
        """Give it back."""
        self._lock.release()


def place_of(home: str, name: str) -> str:
    """The journal of a study, as what ``opened`` takes; an absolute path, because workers may stand elsewhere."""
    return str((Path(home) / FOLDER / f"{name}.log").absolute())


def opened(place: str) -> BaseStorage:
    """A storage by URL or by its journal's path; both are made where they are new.

    Raises:
        BadInput: no such kind of storage, or it can't be reached.
    """
    try:
        if "://" in place:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return optuna.storages.get_storage(place)
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        _mend(Path(place))
        return JournalStorage(JournalFileBackend(place, lock_obj=SystemLock(f"{place}.lock")))
    except Exception as error:  # a database's driver may raise anything
        reason = " ".join(str(error).split())
        raise BadInput(f"sweep.storage={place} can't be used: {type(error).__name__}: {reason}") from error


def _mend(journal: Path) -> None:
    """Take off a last line that a full disk or a power failure cut short: Optuna would refuse all that follows it."""
    with FileLock(f"{journal}.lock"):
        if journal.exists() and (content := journal.read_bytes()) and not content.endswith(b"\n"):
            with journal.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)


def pruner(kind: str, startup: int, warmup: int) -> optuna.pruners.BasePruner:
    """A pruner by its name in the config."""
    if kind == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup)
    if kind == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, warmup))
    return optuna.pruners.NopPruner()


def sampler(kind: str, seed: int, several: bool) -> optuna.samplers.BaseSampler:
    """A sampler by its name in the config. A grid's trials are enqueued, so that nothing is left to draw.

    Raises:
        BadInput: cmaes without its package, or for several objectives.
    """
    if kind == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    if kind == "nsgaii":
        return optuna.samplers.NSGAIISampler(seed=seed)
    if kind == "cmaes":
        if several:
            raise BadInput("sweep.sampler=cmaes is for one objective; tpe, nsgaii and random are for several too")
        if not extras.installed("cmaes"):
            raise BadInput("sweep.sampler=cmaes needs the package cmaes: pip install cmaes")
        return optuna.samplers.CmaEsSampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def study_of(
    storage: BaseStorage,
    name: str,
    directions: Mapping[str, Direction],
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner,
) -> Study:
    """The study of this name, made where it is new.

    Raises:
        BadInput: it is there, with other objectives.
    """
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        sampler=sampler,
        pruner=pruner,
        directions=list(directions.values()),
        load_if_exists=True,
    )
    found: Any = [direction.name.lower() for direction in study.directions]
    if found != list(directions.values()):
        raise BadInput(f"study '{name}' is there, with other objectives; sweep.study=… names another")
    return study
