"""All cores of one machine, through joblib: workers import torch once and make one cell after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.utils import JobReturn

from runner.launchers.engine import Engine
from runner.types import PositiveInt


@dataclass(kw_only=True)
class Cores(Engine):
    """As many workers as there are cores for the threads that a run has pinned; the threads are never changed."""

    workers: PositiveInt | None
    """Processes; null: cores // threads."""

    def launch(
        self, launcher: Any, cells: Sequence[Sequence[str]], first: int, threads: int
    ) -> Sequence[JobReturn | str]:
        """As ``Engine.launch``. A worker that is killed ends all of them: the exception says so."""
        import joblib

        launcher.joblib["n_jobs"] = self.workers or max(1, joblib.cpu_count() // threads)
        return super().launch(launcher, cells, first, threads)
