"""``runner doctor``: what this machine has, what is wrong, and what to do."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from runner import attempt, extras
from runner.commands import options
from runner.errors import RunnerError
from runner.places import cache_dir, mirror_dir
from runner.store.records import Records, sqlite_path

PARTS = ("hydra-core", "omegaconf", "torch", "torch-geometric", "mlflow", "scikit-learn", "msgspec")
NEEDED_BYTES = 2_000_000_000

Finding = tuple[bool, str, str]
"""Whether it is well; what was found; what to do if it isn't."""


def main(arguments: list[str]) -> int:
    """Print findings; 1 if something is wrong."""
    parser = options.parser("doctor", "check this machine, and say what to do")
    options.add_store(parser)
    records = options.records(parser.parse_args(arguments))
    wrong = 0
    for well, found, remedy in (*_versions(), *_machine(), *_disk(records), *_store(records), *_extras()):
        print(f"{'ok   ' if well else 'WRONG'} {found}")
        if not well:
            wrong += 1
            print(f"      → {remedy}")
    print("all well" if not wrong else f"{wrong} findings")
    return 1 if wrong else 0


def _versions() -> Iterator[Finding]:
    yield sys.version_info >= (3, 11), f"Python {sys.version.split()[0]}", "Python 3.11 or newer is needed"
    for part in PARTS:
        try:
            yield True, f"{part} {version(part)}", ""
        except PackageNotFoundError:
            yield False, f"{part} is not installed", "pip install forward-runner"


def _machine() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield True, f"{cores} cores for this process; torch would use {torch.get_num_threads()} threads", ""
    devices = torch.cuda.device_count()
    yield True, f"{devices} CUDA devices{'' if devices else ' (hardware=cpu is the default)'}", ""


def _disk(records: Records) -> Iterator[Finding]:
    database = sqlite_path(records.uri)
    places = {"data cache": cache_dir(), "store": database.parent if database else Path.cwd()}
    for name, folder in places.items():
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        variable = "RUNNER_DATA" if name == "data cache" else "home=… or RUNNER_HOME"
        yield (
            free > NEEDED_BYTES,
            f"{name} {folder}: {free / 1e9:.0f} GB free",
            f"free some, or move it with {variable}",
        )
        yield os.access(existing, os.W_OK), f"{name} {existing} is writable", f"move it with {variable}"
    mirror = mirror_dir()
    if mirror is not None:
        yield mirror.is_dir(), f"data mirror {mirror}", "RUNNER_DATA_MIRROR names no folder: correct or unset it"


def _store(records: Records) -> Iterator[Finding]:
    database = sqlite_path(records.uri)
    if database is not None and not database.exists():
        yield True, f"store {records.uri}: none yet, the first run makes it", ""
        return
    try:
        statuses = [record.status for record in records.all()]
    except RunnerError as error:
        yield False, str(error), "check tracking.uri, or that the server is up"
        return
    yield True, f"store {records.uri}: {len(statuses)} runs, {statuses.count('FINISHED')} finished", ""
    if database is not None:
        left = list(attempt.pending(str(database.parent)))
        yield True, f"{len(left)} runs wait to be recorded; the next run does it", ""


def _extras() -> Iterator[Finding]:
    for name, (module, install) in extras.LAUNCHERS.items():
        here = extras.installed(module)
        yield True, f"hydra/launcher={name}: {'installed' if here else f'not installed ({install})'}", ""
