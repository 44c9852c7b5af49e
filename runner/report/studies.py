"""Studies of searches, from what they wrote beside the runs; Optuna itself is not needed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.report.quantities import written

FOLDER = "studies"


@dataclass(frozen=True)
class TrialView:
    """One trial in a study's table."""

    number: int
    state: str
    best: bool
    params: list[str]
    values: list[str]
    runs: list[str]
    """Ids of those that have a page."""
    reason: str
    command: str


@dataclass(frozen=True)
class StudyView:
    """A study's page."""

    name: str
    page: str
    facts: list[tuple[str, str]]
    axes: list[str]
    objectives: list[str]
    trials: list[TrialView]
    """The best first, then in the order in which they were made."""
    plots: dict[str, Any]

    @property
    def best(self) -> list[TrialView]:
        """The best trial, or the Pareto front."""
        return [trial for trial in self.trials if trial.best]


def read(home: Path, runs: Collection[str]) -> list[StudyView]:
    """The studies of a folder, by name; a file that can't be read is left out.

    Args:
        home: where the runs are kept.
        runs: ids of the runs that have a page.
    """
    found = []
    for file in sorted((home / FOLDER).glob("*.json")):
        try:
            found.append(_view(json.loads(file.read_text(encoding="utf-8")), runs))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
    return found


def _view(study: dict[str, Any], runs: Collection[str]) -> StudyView:
    axes, objectives = list(study["axes"]), study["asked"]["objectives"]
    kept = [trial for trial in study["trials"] if trial["state"] in ("complete", "pruned", "failed")]
    trials = [_trial(trial, axes, list(objectives), study["asked"]["seeds"], runs) for trial in kept]
    counts = [(state, sum(trial.state == state for trial in trials)) for state in ("complete", "pruned", "failed")]
    facts = [
        ("objective" if len(objectives) == 1 else "objectives", ", ".join(f"{k} ({v})" for k, v in objectives.items())),
        ("trials", ", ".join(f"{number} {state}" for state, number in counts if number) or "none"),
        ("sampler", study["sampler"]),
        ("pruner", study["pruner"]),
        *((f"space of {name}", axis["text"]) for name, axis in study["axes"].items()),
    ]
    plots = {
        "series": [],
        "axes": [{"name": name, **axis} for name, axis in study["axes"].items()],
        "objectives": [{"name": name, "direction": direction} for name, direction in objectives.items()],
        "importances": study["importances"],
        "trials": [
            {
                "number": trial["number"],
                "state": trial["state"],
                "best": trial["best"],
                "params": [trial["params"].get(name) for name in axes],
                "values": trial["values"],
                "steps": sorted((int(step), value) for step, value in trial["intermediate"].items()),
            }
            for trial in kept
        ],
    }
    shown = sorted(trials, key=lambda trial: not trial.best)
    return StudyView(study["name"], f"studies/{study['name']}", facts, axes, list(objectives), shown, plots)


def _trial(
    trial: dict[str, Any], axes: list[str], objectives: list[str], seeds: list[int], runs: Collection[str]
) -> TrialView:
    values = trial["values"] or [None] * len(objectives)
    line = [*trial["lines"], *([f"seed={','.join(map(str, seeds))}"] if seeds else [])]
    return TrialView(
        number=int(trial["number"]),
        state=trial["state"],
        best=bool(trial["best"]),
        params=[_param(trial["params"].get(name)) for name in axes],
        values=["–" if value is None else written(name, value) for name, value in zip(objectives, values, strict=True)],
        runs=[run for run in trial["runs"] if run in runs],
        reason=str(trial["reason"]),
        command=f"runner {'-m ' if len(seeds) > 1 else ''}{shlex.join(line)}",
    )


def _param(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "–" if value is None else str(value)
