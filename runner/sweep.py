"""Sweeps: any Hydra sweeper, any Hydra launcher, and each cell made once.

``OnceLauncher`` stands before the launcher that was chosen. It composes and checks every cell before any
is launched, asks the store once for all of them, and hands on only those that are not finished.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from runner import attempt, compose, extras, jobs, registry, signals, stored, sweep_watch
from runner.errors import BadInput, RunnerError, StoreUnavailable, one_line
from runner.identity import Identity
from runner.jobs import CELLS, PARENT, SEED, Cell
from runner.launchers import engine
from runner.overrides import environment
from runner.store.records import Records, uri_of

SECTION_KEYS = tuple(f"{section}." for section in registry.SECTIONS)


class OnceLauncher(Launcher):
    """Wraps a launcher: finished cells are never submitted, a failed cell is a record, not an exception."""

    def __init__(self, inner: Launcher, behind: engine.Engine, say: sweep_watch.Say) -> None:
        """``behind``: what the wrapped launcher launches on. ``say``: called with each line about the sweep's way."""
        self._inner = inner
        self._engine = behind
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
        number = initial_job_idx
        while missing := [index for index, cell in enumerate(cells) if cell is None]:
            self._say(f"{len(cells) - len(missing)} of {len(cells)} runs exist, making {len(missing)}")
            made = self._make(
                [identities[index] for index in missing], [lines[index] for index in missing], number, len(cells)
            )
            for index, cell in zip(missing, made, strict=True):
                cells[index] = cell
            number += len(missing)
        done = [cell for cell in cells if cell is not None]
        self.cells += done
        return [_returned(cell, initial_job_idx + index) for index, cell in enumerate(done)]

    def _make(
        self, identities: Sequence[Identity], lines: Sequence[list[str]], first: int, total: int
    ) -> list[Cell | None]:
        """Launch cells; None for those that a launcher which broke down had not begun with."""
        self._engine.check()
        since, broken = time.time(), ""
        parents = dict(enumerate(map(self._parent, identities), first))
        batches = seed_batches(dict(enumerate(zip(lines, identities, strict=True), first)))
        launched = [
            [*line, *([f"{PARENT}{parent}"] if (parent := parents[numbers[0]]) else [])] for numbers, line in batches
        ]
        threads = max(identity.config["hardware"].get("threads", 1) for identity in identities)
        by_job: Sequence[JobReturn | str]
        with sweep_watch.watching(dict(enumerate(identities, first)), parents, total, self._say):
            try:
                by_job = self._engine.launch(self._inner, launched, first, threads)
            except RunnerError:
                raise
            except Exception as error:  # a launcher may raise anything: a worker was killed, the disk is full
                broken = one_line(f"the launcher broke down: {type(error).__name__}: {error}")
                by_job = [broken] * len(batches)
        job_of = {number: job for (numbers, _), job in zip(batches, by_job, strict=True) for number in numbers}
        returned = [job_of[number] for number in range(first, first + len(lines))]
        lost = {index: (identities[index], lines[index]) for index, job in enumerate(returned) if isinstance(job, str)}
        kept = dict(zip(lost, existing(*zip(*lost.values(), strict=True)), strict=True)) if lost else {}
        begun = {index for index in lost if kept[index] or _begun(identities[index], since)}
        cells: list[Cell | None] = []
        for index, (job, line, identity) in enumerate(zip(returned, lines, identities, strict=True)):
            if found := kept.get(index):  # it was finished before its job was lost
                cells.append(replace(found, status="finished"))
            elif broken and begun and index not in begun:
                cells.append(None)
            else:
                cells.append(cell_of(job, jobs.repeating(line), identity, first + index))
        return cells

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
                    identities[index],
                    jobs.repeating(lines[index]),
                    "existing",
                    record.run_id,
                    record.metrics,
                    stale=stale,
                )
    return cells


def _begun(identity: Identity, since: float) -> bool:
    """Whether an attempt at a run was made since then, and left unfinished."""
    try:
        left = attempt.folder_of(identity.config["home"], identity.key) / "attempt.json"
        return left.stat().st_mtime >= since
    except OSError:
        return False


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
    first = min(waiting)
    jobs: list[tuple[list[int], list[str]]] = []
    for numbers in alike.values():
        size = waiting[numbers[0]][1].config["seeds_at_once"]
        for begin in range(0, len(numbers), size):
            batch = numbers[begin : begin + size]
            line = list(waiting[batch[0]][0])
            if batch != [first + len(jobs)]:  # of a job of one cell the launcher tells the number
                seeds = ",".join(f"{waiting[number][1].config['seed']}:{number}" for number in batch)
                line.append(f"{CELLS}{{{seeds}}}")
            jobs.append((batch, line))
    return jobs


def cell_of(job: JobReturn | str, line: list[str], identity: Identity, number: int) -> Cell:
    """What a launcher gave back for a cell; a job that died in its worker is a failed cell, or several."""
    if isinstance(job, str):
        return Cell.of(identity, line, "failed", None, {}, reason=job)
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
        for_hydra: overrides about the launcher (``+cluster=slurm``, ``hydra/launcher=joblib``).
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
        behind = engine.of(config)
        inner = Plugins.instance().instantiate_launcher(config=config, hydra_context=context, task_function=jobs.job)
    except compose.COMPOSING as error:
        raise compose.bad_input(error, overrides) from error
    once = OnceLauncher(inner, behind, say)
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


def _sweeper(config: DictConfig, context: HydraContext) -> Any:
    """The chosen sweeper. Hydra builds those of ``hydra_plugins`` alone; one of this house is built as all else is."""
    section: Any = OmegaConf.to_container(config.hydra.sweeper)
    if not str(section["_target_"]).startswith("runner."):
        return Plugins.instance().instantiate_sweeper(config=config, hydra_context=context, task_function=jobs.job)
    if missing := extras.missing_sweeper(section["_target_"]):
        raise BadInput(missing)
    sweeper = registry.build(section)
    sweeper.setup(hydra_context=context, task_function=jobs.job, config=config)
    return sweeper


def multirun(overrides: Sequence[str], say: sweep_watch.Say, conclude: sweep_watch.Say | None = None) -> list[Cell]:
    """Run a sweep with the chosen sweeper and launcher; gives all its cells.

    Args:
        overrides: Hydra's, with their lists of values.
        say: called with each line about the sweep's way.
        conclude: called with each line about what a search found.

    Raises:
        BadInput: a cell's config is wrong; nothing has been launched.
    """
    app = compose.hydra()
    try:
        # a key of a section may belong to a choice that is swept, so only the cells know whether there is one
        about_runs = engine.without(overrides)
        top = [line for line in overrides if not line.lstrip("+~").startswith(SECTION_KEYS)]
        config = app.compose_config(compose.CONFIG_NAME, [*top, *environment()], RunMode.MULTIRUN)
        config.hydra.mode = RunMode.MULTIRUN
        callbacks = Callbacks(config)
        callbacks.on_multirun_start(config=config, config_name=compose.CONFIG_NAME)
        context = HydraContext(config_loader=app.config_loader, callbacks=callbacks)
        for_hydra = list(config.hydra.overrides.hydra)
        behind = engine.of(config)
        sweeper = _sweeper(config, context)
        sweeper.say, sweeper.conclude = say, conclude or say
        once = sweeper.launcher = OnceLauncher(sweeper.launcher, behind, say)
        if hasattr(sweeper, "validate_batch_is_legal"):
            sweeper.validate_batch_is_legal = lambda batch: None  # `once` composes and checks every cell, fast
        arguments = [line for line in about_runs if line not in for_hydra]
    except compose.COMPOSING as error:
        raise compose.bad_input(error, overrides) from error
    with _closing(once), signals.raised():
        try:
            sweeper.sweep(arguments=arguments)
        except compose.ERRORS as error:
            raise compose.bad_input(error, overrides) from error
    callbacks.on_multirun_end(config=config, config_name=compose.CONFIG_NAME)
    return once.cells
