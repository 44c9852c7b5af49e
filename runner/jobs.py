"""What a launcher runs for each cell: one run, in whatever process the launcher chose."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from runner import compose, signals, stored
from runner.callbacks import STUDY
from runner.errors import RunnerError, one_line
from runner.identity import Identity

if TYPE_CHECKING:
    from runner.callbacks import Callback
    from runner.execute import Outcome

SEED, PARENT, CELLS = "seed=", "tracking.parent=", "tracking.cells="
SWEEPS_OWN = (PARENT, CELLS, f"+callbacks.{STUDY}=")
"""Begins the overrides of a job that its sweep added: they are none of the run's."""
PERCENT = ("_acc", "_auc")
"""Endings of metrics that are fractions, shown in percent."""


@dataclass(frozen=True)
class Cell:
    """One cell of a sweep and what became of it; plain values, so that it passes between processes."""

    title: str
    overrides: list[str]
    """The command line that repeats the cell."""
    key: str
    seed: int
    status: str
    """existing | finished | failed | pruned."""
    run_id: str | None
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    stale: bool = False

    @classmethod
    def of(
        cls,
        identity: Identity,
        overrides: list[str],
        status: str,
        run_id: str | None,
        metrics: dict[str, float],
        reason: str = "",
        stale: bool = False,
    ) -> Self:
        """The cell of an identity."""
        seed = identity.config["seed"]
        return cls(identity.title, overrides, identity.key, seed, status, run_id, metrics, reason, stale)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def objective(self) -> float | None:
        """What an optimising sweeper sees: validation accuracy if there is one, else the first metric."""
        return self.metrics.get("val_acc", next(iter(self.metrics.values()), None))


def make(config: DictConfig, watching: Sequence[Callback] = ()) -> Cell:
    """Make the run of a composed config exist, inside a Hydra job; errors other than failed runs are raised."""
    from runner.execute import make_exist

    overrides = repeating(HydraConfig.get().overrides.task)
    identity = stored.identify_run(compose.plain(config, _choices()))
    with signals.raised():
        return _cell(identity, overrides, make_exist(identity, overrides, watching))


def _choices() -> dict[str, str]:
    choices = HydraConfig.get().runtime.choices
    return {str(group): str(name) for group, name in choices.items() if not str(group).startswith("hydra/")}


def _cell(identity: Identity, overrides: list[str], outcome: Outcome) -> Cell:
    return Cell.of(identity, overrides, outcome.status, outcome.run_id, outcome.metrics, outcome.reason, outcome.stale)


def job(config: DictConfig) -> dict[str, Any]:
    """Make one cell of a sweep exist, and tell the sweep; a failure is a cell, not an exception."""
    if config.tracking.cells:
        return job_of_seeds(config)
    task = repeating(HydraConfig.get().overrides.task)
    number, begun = HydraConfig.get().job.num, time.monotonic()
    home, parent = config.home, config.tracking.parent
    try:
        cell = make(config)
    except RunnerError as error:
        cell = Cell("", task, "", config.seed, "failed", None, reason=str(error))
    _tell(home, parent, number, time.monotonic() - begun, cell)
    return asdict(cell)


def job_of_seeds(config: DictConfig) -> dict[str, Any]:
    """Make several cells of a sweep exist that differ in nothing but their seed, and tell the sweep of each.

    Gives ``{"cells": …}`` by number.
    """
    from runner.sweep_watch import to_stderr
    from runner.together import make_together

    begun, home, parent = time.monotonic(), config.home, config.tracking.parent
    numbers = {int(seed): int(number) for seed, number in config.tracking.cells.items()}
    config.tracking.cells = None
    shared = [line for line in repeating(HydraConfig.get().overrides.task) if not line.startswith(SEED)]
    cells: dict[int, dict[str, Any]] = {}
    told = [begun]

    def end(seed: int, cell: Cell) -> None:
        _tell(home, parent, numbers[seed], time.monotonic() - told[-1], cell)
        told.append(time.monotonic())
        cells[numbers[seed]] = asdict(cell)

    lines = {seed: [*shared, f"{SEED}{seed}"] for seed in numbers}
    identities: dict[int, Identity] = {}
    for seed, line in lines.items():
        one = copy.deepcopy(config)
        one.seed = seed
        try:
            identities[seed] = stored.identify_run(compose.plain(one, _choices()))
        except RunnerError as error:
            end(seed, Cell("", line, "", seed, "failed", None, reason=str(error)))

    def ended(seed: int, outcome: Outcome | RunnerError) -> None:
        if isinstance(outcome, RunnerError):
            end(seed, Cell.of(identities[seed], lines[seed], "failed", None, {}, reason=str(outcome)))
        else:
            end(seed, _cell(identities[seed], lines[seed], outcome))

    with signals.raised():
        make_together(identities, lines, to_stderr, ended)
    return {"cells": cells}


def _tell(home: str, parent: str | None, number: int, seconds: float, cell: Cell) -> None:
    from runner.sweep_watch import Told, tell, to_stderr

    ended = cell.status in ("failed", "pruned")
    told = cell.reason if ended else ", ".join(filter(None, (figures(cell.metrics), cell.reason)))
    text = one_line(f"#{number} {' '.join(cell.overrides)}: {cell.status}  {told}")
    if parent is None:  # the sweep has no record of its own, and so nowhere to hear it
        to_stderr(text)
    else:
        tell(home, parent, Told(number, cell.status, seconds, text))


def figures(metrics: dict[str, float]) -> str:
    """The metrics that a line of result shows: accuracies in percent, then the others, no costs but the time."""
    shown = [
        f"{name} {100 * value:.2f} %" if name.endswith(PERCENT) else f"{name} {value:.4g}"
        for name, value in metrics.items()
        if "/" not in name and not name.endswith(("_bytes", "_seconds")) and name != "parameters"
    ]
    if "fit_seconds" in metrics:
        shown.append(f"trained in {metrics['fit_seconds']:.1f} s")
    return "  ".join(shown)


def repeating(overrides: Sequence[str]) -> list[str]:
    """A job's overrides without what its sweep added."""
    return [line for line in overrides if not line.startswith(SWEEPS_OWN)]
