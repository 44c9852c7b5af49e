"""A study that a command can take up where another one left it: asking, telling, counting."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from runner.attempt import write_text
from runner.errors import BadInput
from runner.identity import digest
from runner.search import storage
from runner.search.reporter import AGAIN, REASON
from runner.search.settings import Search
from runner.search.space import Space

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
RUNS, LINES, ASKED = "runs", "lines", "asked"
"""Attributes: of a trial its runs' ids and its overrides; of a study what it searches."""
FIXED = "fixed_params"
"""Optuna's own attribute of a trial that was enqueued."""
NOT_DECIDING = ("home=", "tracking.", "progress=", "rerun=", "checkpoint.")
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class SearchedStudy:
    """A study and how many of its trials are to be made."""

    def __init__(self, search: Search, space: Space, home: str) -> None:
        """Nothing is opened yet.

        Raises:
            BadInput: a name that can't be, a grid without end.
        """
        self.search, self.space = search, space
        self._asked = {
            "fixed": sorted(line for line in space.fixed if not line.startswith(NOT_DECIDING)),
            "space": {name: axis.text for name, axis in space.axes.items()},
            "objectives": search.directions,
            "seeds": search.seeds,
        }
        self.name = search.study or f"study-{digest(self._asked | search.deciding())[:10]}"
        if not NAME.fullmatch(self.name):
            raise BadInput(f"sweep.study={self.name}: a name is of letters, digits, '.', '_' and '-'")
        self.file = Path(home) / storage.FOLDER / f"{self.name}.json"
        self.place = search.storage or storage.place_of(home, self.name)
        self.trials = search.trials
        self._grid: list[tuple[Any, ...]] | None = None
        if search.sampler == "grid":
            values = space.grid()
            self.trials = min(self.trials, math.prod(map(len, values.values())))
            self._grid = list(itertools.islice(itertools.product(*values.values()), self.trials))
        self._failed = 0

    def open(self) -> None:
        """Open the study; trials that were under way when their command was killed, or failed, come again first.

        Raises:
            BadInput: the study is there and searches something else; the storage can't be used.
        """
        self._study = self._opened()
        for trial in self._lost():
            if trial.state is TrialState.RUNNING:
                self._study.tell(trial.number, state=TrialState.FAIL)
            if params := self._whole(trial):
                self._study.enqueue_trial(params, user_attrs={AGAIN: trial.number})

    def _opened(self) -> Study:
        search = self.search
        several = len(search.directions) > 1
        if several and search.pruner != "none":
            raise BadInput("sweep.pruner goes with one objective; leave it at none, or name one in sweep.objectives")
        sampler = storage.sampler(search.sampler, search.seed, several)
        pruner = storage.pruner(search.pruner, search.startup, search.warmup)
        study = storage.study_of(storage.opened(self.place), self.name, search.directions, sampler, pruner)
        if (before := study.user_attrs.get(ASKED)) is None:
            study.set_user_attr(ASKED, self._asked)
        elif before != self._asked:
            differing = next(key for key in self._asked if before.get(key) != self._asked[key])
            raise BadInput(f"study '{self.name}' is there, with another {differing}: sweep.study=… names another")
        if made := len(study.get_trials(deepcopy=False)):  # the same seed would draw the same trials again
            study.sampler = storage.sampler(search.sampler, search.seed + made, several)
        return study

    def _lost(self) -> list[FrozenTrial]:
        """Trials that ended without a result and that no other one takes the place of."""
        known = self._study.get_trials(deepcopy=False)
        replaced = {trial.user_attrs.get(AGAIN) for trial in known}
        lost = (TrialState.RUNNING, TrialState.FAIL)
        return [trial for trial in known if trial.state in lost and trial.number not in replaced]

    def _whole(self, trial: FrozenTrial) -> dict[str, Any]:
        """A trial's values; none where its command was killed while they were drawn, and so before it had any run."""
        params = trial.system_attrs.get(FIXED, {}) | trial.params
        return params if params.keys() == self.space.axes.keys() else {}

    @property
    def counted(self) -> int:
        """Trials that have come to their end: complete, pruned, or failed in this command."""
        return self._failed + len(self._study.get_trials(deepcopy=False, states=DONE))

    def ask(self) -> list[Trial]:
        """The next trials: as many as there are workers, none where all are made."""
        asked = []
        for _ in range(min(self.search.workers, self.trials - self.counted)):
            if self._grid is not None:
                self._enqueue_next()
            trial = self._study.ask(self.space.distributions())
            trial.set_user_attr(LINES, self.space.lines(trial.params))
            asked.append(trial)
        return asked

    def _enqueue_next(self) -> None:
        """The next combination of the grid, unless a trial waits to come again."""
        assert self._grid is not None
        known = self._study.get_trials(deepcopy=False)
        if any(trial.state is TrialState.WAITING for trial in known):
            return
        number = sum(AGAIN not in trial.user_attrs for trial in known)
        self._study.enqueue_trial(dict(zip(self.space.axes, self._grid[number], strict=True)))

    def tell(self, trial: Trial, runs: Sequence[str | None], values: Sequence[float]) -> None:
        """A trial is complete."""
        trial.set_user_attr(RUNS, list(runs))
        self._study.tell(trial, list(values))

    def tell_ended(self, trial: Trial, runs: Sequence[str | None], state: str, reason: str) -> None:
        """A trial was ``pruned`` or has ``failed``."""
        trial.set_user_attr(RUNS, list(runs))
        trial.set_user_attr(REASON, reason)
        self._failed += state == "failed"
        self._study.tell(trial, state=TrialState.PRUNED if state == "pruned" else TrialState.FAIL)

    def best(self) -> list[FrozenTrial]:
        """The best trial, or all that no other one is better than in everything, by the first objective."""
        if len(self.search.directions) == 1:
            complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            return [self._study.best_trial] if complete else []
        unique = {tuple(trial.values): trial for trial in reversed(self._study.best_trials)}
        return sorted(unique.values(), key=lambda trial: (trial.values, trial.number))

    def states(self) -> dict[str, int]:
        """How many trials are complete, pruned, and have failed without another one in their place."""
        known = [trial for trial in self._study.get_trials(deepcopy=False) if self._whole(trial)]
        replaced = {trial.user_attrs.get(AGAIN) for trial in known}
        ended = [STATES[trial.state] for trial in known if trial.state in STATES and trial.number not in replaced]
        return {state: ended.count(state) for state in STATES.values()}

    def _importances(self) -> dict[str, dict[str, float]]:
        """Share of each key in being among the best (PED-ANOVA, Watanabe et al., IJCAI 2023), by objective."""
        from optuna.importance import get_param_importances  # imports scikit-learn

        found = {}
        for place, (name, direction) in enumerate(self.search.directions.items()):
            sign = -1.0 if direction == "maximize" else 1.0  # the least are the best there
            with warnings.catch_warnings(), contextlib.suppress(ValueError, RuntimeError):  # too few, or all alike
                warnings.simplefilter("ignore")
                shares = get_param_importances(self._study, target=partial(_signed, place, sign))
                found[name] = {key: float(share) for key, share in shares.items() if math.isfinite(share)}
        return found

    def write(self, *, ended: bool) -> None:
        """Write what reports read: plain values, for which nobody needs Optuna; importances once all is made."""
        front = {trial.number for trial in self.best()}
        axes = {name: {"text": axis.text, "log": axis.logarithmic} for name, axis in self.space.axes.items()}
        content = {
            "name": self.name,
            "asked": self._study.user_attrs[ASKED],
            "sampler": self.search.sampler,
            "pruner": self.search.pruner,
            "axes": axes,
            "importances": self._importances() if ended else {},
            "trials": [_plain(trial, front) for trial in self._study.get_trials(deepcopy=False) if self._whole(trial)],
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.file, json.dumps(content))


def _signed(place: int, sign: float, trial: FrozenTrial) -> float:
    return sign * float(trial.values[place])


def _plain(trial: FrozenTrial, front: set[int]) -> Mapping[str, Any]:
    return {
        "number": trial.number,
        "state": STATES.get(trial.state, "open"),
        "best": trial.number in front,
        "params": trial.params,
        "values": trial.values if trial.state is TrialState.COMPLETE else None,
        "intermediate": {str(step): value for step, value in trial.intermediate_values.items()},
        "seconds": trial.duration.total_seconds() if trial.duration else None,
        "runs": trial.user_attrs.get(RUNS, []),
        "reason": trial.user_attrs.get(REASON, ""),
        "lines": trial.user_attrs.get(LINES, []),
        "again": trial.user_attrs.get(AGAIN),
    }
