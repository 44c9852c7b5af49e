"""Sweeps: any Hydra sweeper, any Hydra launcher, and each cell made once.

``OnceLauncher`` stands before the launcher that was chosen. It composes and checks every cell before any
is launched, asks the store once for all of them, and hands on only those that are not finished.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from runner import compose, jobs, registry, signals, stored, sweep_watch
from runner.errors import StoreUnavailable
from runner.identity import Identity
from runner.jobs import CELLS, PARENT, SEED, Cell
from runner.overrides import environment
from runner.store.records import Records, uri_of

SECTION_KEYS = tuple(f"{section}." for section in registry.SECTIONS)


class OnceLauncher(Launcher):
    """Wraps a launcher: finished cells are never submitted, a failed cell is a record, not an exception."""

    def __init__(self, inner: Launcher, say: sweep_watch.Say) -> None:
        """``say``: called with each line about the sweep's way."""
        self._inner = inner
        self._say = say
        self._composer = compose.SweepComposer()
        self._parents: dict[tuple[str, str], str] = {}
        self.cells: list[Cell] = []
        """All cells of the sweep so far, in order."""

    def setup(self, *, hydra_context: HydraContext, task_function: Any, config: DictConfig) -> None:
        """The wrapped launcher was set up by its sweeper."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Make a batch of cells exist."""
        lines = [stored.expanded(overrides) for overrides in job_overrides]
        identities = [stored.identify_run(self._composer(overrides)) for overrides in lines]
        cells = existing(identities, lines)
        missing = [index for index, cell in enumerate(cells) if cell is None]
        if missing:
            self._say(f"{len(cells) - len(missing)} of {len(cells)} runs exist, making {len(missing)}")
            numbered = dict(enumerate(missing, initial_job_idx))
            waiting = {number: identities[index] for number, index in numbered.items()}
            parents = {number: self._parent(identity) for number, identity in waiting.items()}
            batches = seed_batches({number: (lines[index], identities[index]) for number, index in numbered.items()})
            launched = [
                [*line, *([f"{PARENT}{parents[numbers[0]]}"] if parents[numbers[0]] else [])]
                for numbers, line in batches
            ]
            with sweep_watch.watching(waiting, parents, len(cells), self._say):
                returned = self._inner.launch(launched, initial_job_idx=initial_job_idx)
            for (numbers, _), job in zip(batches, returned, strict=True):
                for number in numbers:
                    index = numbered[number]
                    cells[index] = cell_of(job, lines[index], identities[index], number)
        done = [cell for cell in cells if cell is not None]
        self.cells += done
        return [_returned(cell, initial_job_idx + index) for index, cell in enumerate(done)]

    def close(self, killed: bool) -> None:
        """Close the sweep's parent runs, with their lists of cells."""
        from runner.store import writer

        for uri, parent in ((place[0], parent) for place, parent in self._parents.items() if parent):
            cells = {"cells": [cell.as_dict() for cell in self.cells]}
            failed = any(cell.status == "failed" for cell in self.cells)
            try:
                writer.end_sweep(uri, parent, cells, "KILLED" if killed else "FAILED" if failed else "FINISHED")
            except StoreUnavailable as error:  # the cells count, not their list
                self._say(f"the sweep's own record stays open: {error}")

    def _parent(self, identity: Identity) -> str:
        """The id of the sweep's own run; the empty string where the store can't be written now."""
        config = identity.config
        place = (uri_of(config), config["tracking"]["experiment"])
        if place not in self._parents:
            from runner.store import writer

            writer.check(place[0])
            try:
                self._parents[place] = writer.sweep_parent(*place)
            except StoreUnavailable as error:
                self._say(f"runner: {error}; the sweep goes on without a record of its own")
                self._parents[place] = ""
        return self._parents[place]


def existing(identities: Sequence[Identity], lines: Sequence[list[str]]) -> list[Cell | None]:
    """For each identity the cell of its finished run, or None; one query a store."""
    cells: list[Cell | None] = [None] * len(identities)
    stores: dict[tuple[str, str], list[int]] = {}
    for index, identity in enumerate(identities):
        if not identity.config["rerun"]:
            place = (uri_of(identity.config), identity.config["tracking"]["experiment"])
            stores.setdefault(place, []).append(index)
    for (uri, experiment), indices in stores.items():
        found = Records(uri, experiment).finished([identities[index].key for index in indices])
        for index in indices:
            if record := found.get(identities[index].key):
                stale = stored.is_stale(record, identities[index].config)
                cells[index] = Cell.of(
                    identities[index], lines[index], "existing", record.run_id, record.metrics, stale=stale
                )
    return cells


def seed_batches(waiting: Mapping[int, tuple[list[str], Identity]]) -> list[tuple[list[int], list[str]]]:
    """The jobs for cells by their number: each job's numbers, and its command line.

    Cells whose lines differ in nothing but the seed share jobs, ``seeds_at_once`` a job.
    """
    alike: dict[tuple[str, ...], list[int]] = {}
    seen: Counter[str] = Counter()
    for number, (line, identity) in waiting.items():
        own = identity.config["seeds_at_once"] == 1 or identity.config["mode"] != "train"
        seen[identity.key] += 1  # a cell that stands twice in a sweep is in no job twice
        shared = [word for word in line if not word.startswith(SEED)]
        alike.setdefault((*shared, str(number if own else -seen[identity.key])), []).append(number)
    jobs = []
    for numbers in alike.values():
        size = waiting[numbers[0]][1].config["seeds_at_once"]
        for begin in range(0, len(numbers), size):
            batch = numbers[begin : begin + size]
            line = list(waiting[batch[0]][0])
            if len(batch) > 1:
                seeds = ",".join(f"{waiting[number][1].config['seed']}:{number}" for number in batch)
                line.append(f"{CELLS}{{{seeds}}}")
            jobs.append((batch, line))
    return jobs


def cell_of(job: JobReturn, line: list[str], identity: Identity, number: int) -> Cell:
    """What a launcher gave back for a cell; a job that died in its worker is a failed cell, or several."""
    if job.status is JobStatus.COMPLETED:
        value = job.return_value
        if isinstance(value, dict):
            return Cell(**(value["cells"][number] if "cells" in value else value))
    reason = "the worker returned nothing"
    if job.status is JobStatus.FAILED:
        try:
            _ = job.return_value
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
    return Cell.of(identity, line, "failed", None, {}, reason=reason)


def _returned(cell: Cell, index: int) -> JobReturn:
    job = JobReturn(overrides=cell.overrides, cfg=OmegaConf.create({}), task_name=f"runner-{index}")
    job.status = JobStatus.COMPLETED
    job.return_value = cell.objective()
    return job


def launch(lines: Sequence[list[str]], for_hydra: Sequence[str], say: sweep_watch.Say) -> list[Cell]:
    """Make a list of cells exist with the launcher that is chosen; gives them all.

    Args:
        lines: the overrides of each cell.
        for_hydra: overrides of Hydra's own keys (``hydra/launcher=joblib``).
        say: called with each line about the sweep's way.

    Raises:
        BadInput: a cell's config is wrong; nothing has been launched.
    """
    app = compose.hydra()
    overrides = [*lines[0], *for_hydra, *environment()]
    try:
        config = app.compose_config(compose.CONFIG_NAME, overrides, RunMode.MULTIRUN)
        config.hydra.mode = RunMode.MULTIRUN
        context = HydraContext(config_loader=app.config_loader, callbacks=Callbacks(config))
        inner = Plugins.instance().instantiate_launcher(config=config, hydra_context=context, task_function=jobs.job)
    except compose.COMPOSING as error:
        raise compose.bad_input(error, overrides) from error
    once = OnceLauncher(inner, say)
    with _closing(once), signals.raised():
        once.launch(lines, initial_job_idx=0)
    return once.cells


@contextmanager
def _closing(once: OnceLauncher) -> Iterator[None]:
    killed = True
    try:
        yield
        killed = False
    finally:
        once.close(killed)


def multirun(overrides: Sequence[str], say: sweep_watch.Say) -> list[Cell]:
    """Run a sweep with the chosen sweeper and launcher; gives all its cells.

    Args:
        overrides: Hydra's, with their lists of values.
        say: called with each line about the sweep's way.

    Raises:
        BadInput: a cell's config is wrong; nothing has been launched.
    """
    app = compose.hydra()
    try:
        # a key of a section may belong to a choice that is swept, so only the cells know whether there is one
        top = [line for line in overrides if not line.lstrip("+~").startswith(SECTION_KEYS)]
        config = app.compose_config(compose.CONFIG_NAME, [*top, *environment()], RunMode.MULTIRUN)
        config.hydra.mode = RunMode.MULTIRUN
        callbacks = Callbacks(config)
        callbacks.on_multirun_start(config=config, config_name=compose.CONFIG_NAME)
        context = HydraContext(config_loader=app.config_loader, callbacks=callbacks)
        sweeper = Plugins.instance().instantiate_sweeper(config=config, hydra_context=context, task_function=jobs.job)
        once = sweeper.launcher = OnceLauncher(sweeper.launcher, say)
        if hasattr(sweeper, "validate_batch_is_legal"):
            sweeper.validate_batch_is_legal = lambda batch: None  # `once` composes and checks every cell, fast
        arguments = [line for line in overrides if line not in config.hydra.overrides.hydra]
    except compose.COMPOSING as error:
        raise compose.bad_input(error, overrides) from error
    with _closing(once), signals.raised():
        try:
            sweeper.sweep(arguments=arguments)
        except compose.ERRORS as error:
            raise compose.bad_input(error, overrides) from error
    callbacks.on_multirun_end(config=config, config_name=compose.CONFIG_NAME)
    return once.cells
