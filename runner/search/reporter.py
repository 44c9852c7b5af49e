"""What a run tells its study while it is under way, and how the study ends it before its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, Trial

from runner.callbacks import Callback, WatchedRun
from runner.errors import Pruned
from runner.search import storage
from runner.types import NonNegativeInt

LOOPS, AGAIN, REASON = "loops", "again", "reason"
"""Attributes of a trial: the step at which each loop of its run began; the trial whose place it takes; why it ended."""


@dataclass(kw_only=True)
class Reporter(Callback):
    """Reports a run's validations to its trial, from whatever process the run is in.

    A step is the run's epoch; a later loop begins after the epochs that the one before could have had.
    """

    place: str
    study: str
    trial: NonNegativeInt
    metric: str
    pruner: Literal["median", "hyperband"]
    startup: NonNegativeInt
    warmup: NonNegativeInt

    def on_run_start(self, run: WatchedRun) -> None:
        """Find the trial; what its predecessor reported, before it was killed, is its own."""
        kept = storage.opened(self.place)
        pruner = storage.pruner(self.pruner, self.startup, self.warmup)
        study = optuna.load_study(study_name=self.study, storage=kept, pruner=pruner)
        known = study.get_trials(deepcopy=False)
        self._trial = Trial(study, known[self.trial]._trial_id)
        self._loops: dict[str, int] = {}
        self._end = 0
        self._reported: set[int] = set()
        before = self._trial.user_attrs.get(AGAIN)
        if before is not None and REASON not in known[before].user_attrs:  # one that failed begins anew
            self._inherit(known[before])

    def _inherit(self, before: FrozenTrial) -> None:
        self._loops = dict(before.user_attrs.get(LOOPS, {}))
        self._trial.set_user_attr(LOOPS, self._loops)
        self._reported = set(before.intermediate_values)
        for step, value in before.intermediate_values.items():
            self._trial.report(value, step)

    def on_epoch(self, run: WatchedRun, loop: str, epoch: int, of: int, metrics: dict[str, float]) -> None:
        """Report a validation.

        Raises:
            Pruned: the study gives the run up.
        """
        if loop not in self._loops:
            self._loops[loop] = self._end
            self._trial.set_user_attr(LOOPS, self._loops)
        step = self._loops[loop] + epoch
        self._end = self._loops[loop] + of
        value = metrics.get(self.metric.removeprefix(f"{loop}/"))
        if value is None or step in self._reported:
            return
        self._trial.report(value, step)
        if self._trial.should_prune():
            raise Pruned(f"at epoch {step}: {self.metric} {value:.4g} is behind the study's other trials")
