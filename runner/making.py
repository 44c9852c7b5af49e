"""Making what is asked for exist: the way that the commands and the Python interface share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from runner import compose, stored
from runner.errors import RunnerError
from runner.identity import Identity
from runner.jobs import Cell
from runner.store import trouble
from runner.store.records import Records, sqlite_path, uri_of
from runner.sweep_watch import Say

if TYPE_CHECKING:
    from runner.callbacks import Callback


def make_run(identity: Identity, overrides: list[str], say: Say, watching: Sequence[Callback] = ()) -> Cell:
    """Make one run exist, through Hydra, with its callbacks and its job environment; light where it exists.

    Args:
        identity: the run.
        overrides: the command line that repeats it.
        say: called with each line about what earlier commands left.
        watching: callbacks beside those of the config.

    Raises:
        RunnerError: as ``runner.execute.make_exist``; a run that failed is a cell.
    """
    config = identity.config
    look_after_store(config, say)
    records = Records(uri_of(config), config["tracking"]["experiment"])
    if not config["rerun"] and (found := records.finished([identity.key]).get(identity.key)):
        stale = stored.is_stale(found, config)
        return Cell.of(identity, overrides, "existing", found.run_id, found.metrics, stale=stale)
    from runner import jobs

    caught: list[RunnerError] = []

    def task(config: DictConfig) -> Any:
        try:
            return jobs.make(config, watching)
        except RunnerError as error:  # Hydra would print a second line
            caught.append(error)
            return None

    returned = compose.hydra().run(compose.CONFIG_NAME, task, overrides)
    if caught:
        raise caught[0]
    cell: Cell = returned.return_value
    return cell


def make_sweep(overrides: Sequence[str], say: Say, conclude: Say | None = None) -> list[Cell]:
    """Make the cells of a sweep exist, with the sweeper and launcher that are chosen; gives them all.

    Args:
        overrides: Hydra's, with their lists of values.
        say: called with each line about the sweep's way.
        conclude: called with each line about what a search found.

    Raises:
        BadInput: a cell's config is wrong; nothing has been launched.
    """
    from runner.sweep import multirun

    look_after_store(stored.store_config([line for line in overrides if line.startswith(stored.STORE_KEYS)]), say)
    return multirun(overrides, say, conclude)


def look_after_store(config: dict[str, Any], say: Say) -> None:
    """Record what earlier commands left; build a missing store in another process while torch is imported."""
    database = sqlite_path(uri_of(config))
    if database is not None and trouble.is_new(database):
        subprocess.Popen(
            [sys.executable, "-m", "runner.store.template", str(database)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    from runner import attempt

    home = config["home"]
    attempt.sweep_removed(home)
    for folder in attempt.unreadable(home):
        try:
            say(f"an attempt that can't be read is set aside in {attempt.set_aside(folder)}")
        except OSError:  # a folder that can't be written stays as it is; another process may have moved it
            continue
    if any(attempt.pending(home)):
        from runner.store import writer

        failed = []
        for state, error in writer.recover(attempt.pending(home)):
            if error:
                failed.append(error)
            else:
                say(f"recorded an earlier run as {state.status}: {state.name}")
        if failed:
            say(f"{len(failed)} earlier runs still wait to be recorded: {failed[0]}")
