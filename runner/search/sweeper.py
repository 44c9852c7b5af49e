"""Hydra's sweeper that asks Optuna for trials, makes their runs exist through any launcher, and tells Optuna."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, Trial

from runner import compose, overrides, registry, schema, stored
from runner.errors import BadInput, StoreUnavailable
from runner.jobs import PERCENT, Cell
from runner.search import objectives
from runner.search.settings import Search
from runner.search.space import Space
from runner.search.study import LINES, SearchedStudy
from runner.store import writer
from runner.store.records import Records, uri_of
from runner.sweep_watch import Say, to_stderr

if TYPE_CHECKING:
    from runner.sweep import OnceLauncher

STUDY_TAG = "runner.study"
"""Begins the tag of a study's run: ``runner.study.<name>`` is the trial's number."""


class OptunaSweeper(Sweeper):
    """Asks for as many trials as there are workers, launches them, tells what they came to until all are made."""

    def __init__(self) -> None:
        self.say: Say = to_stderr
        self.conclude: Say = to_stderr
        self.launcher: OnceLauncher | Any = None
        self._job = 0

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take the launcher and what was set.

        Raises:
            BadInput: something of ``sweep.…`` is wrong.
        """
        if OmegaConf.select(config, "sweep") is None:
            raise BadInput("hydra/sweeper=optuna has nothing to go by; choose it with +sweep=optuna")
        section: Any = OmegaConf.to_container(config.sweep, resolve=True)
        self.search: Search = registry.build(schema.validate_section("sweep", section))
        self._loader = hydra_context.config_loader
        self._store: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, ["home", "tracking"]), resolve=True)
        self.launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: Sequence[str]) -> None:
        """Search.

        Raises:
            BadInput: there is nothing to search, or a value of the space is impossible; nothing has been launched.
        """
        space = Space.parse(arguments, self.search.space, self._loader)
        if against := objectives.warning(self.search.directions):
            self.say(against)
        self._composer = compose.SweepComposer()
        for lines in space.corners():
            stored.identify_run(self._composer(lines))
        study = SearchedStudy(self.search, space, self._store["home"])
        with _alone(study):
            study.open()
            if study.counted:
                self.say(f"study {study.name}: {study.counted} of {study.trials} trials were made before")
            while asked := study.ask():
                self._make(study, asked)
                study.write(ended=False)
            study.write(ended=True)
        self._tell(study)

    def _make(self, study: SearchedStudy, asked: Sequence[Trial]) -> None:
        """Make the runs of some trials exist and tell the study what they came to."""
        cells: dict[int, list[Cell]] = {trial.number: [] for trial in asked}
        for first, seeds in self._rounds():
            lines: list[list[str]] = []
            whose: list[int] = []
            for trial in asked:
                if not _ended(cells[trial.number]):
                    for seed in seeds:
                        line = [*study.space.lines(trial.params), *([] if seed is None else [f"seed={seed}"])]
                        if impossible := self._impossible(line):
                            cells[trial.number].append(impossible)
                            continue
                        lines.append([*line, *(self._reporter(study, trial) if first else [])])
                        whose.append(trial.number)
            for number, cell in zip(whose, self._launch(lines), strict=True):
                cells[number].append(cell)
        for trial in asked:
            self._take(study, trial, cells[trial.number])

    def _rounds(self) -> list[tuple[bool, list[int | None]]]:
        """Seeds that are launched at once, and whether they report: what a pruner leaves gets the other seeds after."""
        seeds: list[int | None] = [*self.search.seeds] or [None]
        if self.search.pruner == "none":
            return [(False, seeds)]
        return [(True, seeds[:1]), (False, seeds[1:])]

    def _impossible(self, line: list[str]) -> Cell | None:
        """A cell that failed, where the values don't go together; the others go on."""
        try:
            stored.identify_run(self._composer(line))
        except BadInput as error:
            cell = Cell("", line, "", -1, "failed", None, reason=str(error))
            self.launcher.cells.append(cell)
            return cell
        return None

    def _reporter(self, study: SearchedStudy, trial: Trial) -> list[str]:
        section = {
            "_target_": "runner.search.reporter.Reporter",
            "place": study.place,
            "study": study.name,
            "trial": trial.number,
            "metric": next(iter(self.search.directions)),
            "pruner": self.search.pruner,
            "startup": self.search.startup,
            "warmup": self.search.warmup,
        }
        return overrides.of_keys({"+callbacks.study": section})

    def _launch(self, lines: Sequence[Sequence[str]]) -> list[Cell]:
        if not lines:
            return []
        self.launcher.launch(lines, initial_job_idx=self._job)
        self._job += len(lines)
        return list(self.launcher.cells[-len(lines) :])

    def _take(self, study: SearchedStudy, trial: Trial, cells: Sequence[Cell]) -> None:
        runs = [cell.run_id for cell in cells]
        if self.search.pruner != "none" and cells[0].status == "existing":
            for step, value in objectives.validations(cells[0], next(iter(self.search.directions)), self._records):
                trial.report(value, step)  # what it would have reported
        self._tag(study, trial, runs)
        if ended := _ended(cells):
            study.tell_ended(trial, runs, ended.status, ended.reason)
            return
        try:
            values = objectives.of_cells(cells, self.search.directions, self._records)
        except BadInput as error:
            study.tell_ended(trial, runs, "failed", str(error))
            raise
        study.tell(trial, runs, values)
        self.say(f"study {study.name}, trial {trial.number}: {self._figures(values)}")

    @property
    def _records(self) -> Records:
        return Records(uri_of(self._store), self._store["tracking"]["experiment"])

    def _tag(self, study: SearchedStudy, trial: Trial, runs: Sequence[str | None]) -> None:
        for run_id in runs:
            if run_id is not None:
                try:
                    writer.tag(uri_of(self._store), run_id, f"{STUDY_TAG}.{study.name}", str(trial.number))
                except StoreUnavailable as error:  # the study itself knows its runs
                    self.say(f"run {run_id} is not tagged with its study: {error}")

    def _tell(self, study: SearchedStudy) -> None:
        """Say what was found, and how to repeat it."""
        states, best = study.states(), study.best()
        counts = ", ".join(f"{number} {state}" for state, number in states.items())
        self.conclude(f"study {study.name}: {study.counted} of {study.trials} trials: {counts}")
        if len(self.search.directions) > 1 and best:
            told = ", ".join(f"{name} ({direction})" for name, direction in self.search.directions.items())
            self.conclude(f"Pareto front of {told}: {len(best)} trials")
        for trial in best:
            self.conclude(f"best: trial {trial.number}: {self._figures(trial.values)}")
            self.conclude(f"  repeat: runner {shlex.join(self._again(trial))}")

    def _again(self, trial: FrozenTrial) -> list[str]:
        lines, seeds = trial.user_attrs[LINES], self.search.seeds
        if not seeds:
            return list(lines)
        return ["-m", *lines, f"seed={','.join(map(str, seeds))}"] if len(seeds) > 1 else [*lines, f"seed={seeds[0]}"]

    def _figures(self, values: Sequence[float]) -> str:
        return "  ".join(
            f"{name} {100 * value:.2f} %" if name.endswith(PERCENT) else f"{name} {value:.6g}"
            for name, value in zip(self.search.directions, values, strict=True)
        )


def _ended(cells: Sequence[Cell]) -> Cell | None:
    """The first cell that came to nothing."""
    return next((cell for cell in cells if cell.status in ("failed", "pruned")), None)


@contextmanager
def _alone(study: SearchedStudy) -> Iterator[None]:
    """One command at a time works on a study of this folder.

    Raises:
        BadInput: another one does.
    """
    study.file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(study.file.with_suffix(".running"), timeout=0):
            yield
    except Timeout as error:
        raise BadInput(f"study '{study.name}' is being made by another command; wait for it, or stop it") from error
