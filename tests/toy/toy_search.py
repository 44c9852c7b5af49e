"""A method whose validation is a formula of its arguments: what a search finds is known beforehand."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from runner.contracts import Method, NodeClassification
from runner.run import Run
from runner.types import NonNegativeFloat, PositiveInt


@dataclass(kw_only=True)
class Slope(Method[NodeClassification]):
    """val_acc = 1 - (x - 0.3)^2 - y / 100 at the end, in proportion to the epochs before; a cost of x^2 + y."""

    x: float
    y: int
    epochs: PositiveInt
    epoch_seconds: NonNegativeFloat
    kind: Literal["plain", "broken"]

    def build(self, task: NodeClassification, run: Run) -> None:
        self.model = nn.Linear(1, 1)

    def fit(self, task: NodeClassification, run: Run) -> None:
        run.track(model=self.model)
        for epoch in run.epochs(self.epochs):
            run.log(val_acc=self._quality() * epoch / self.epochs)
            time.sleep(self.epoch_seconds)
        if self.kind == "broken" and not os.environ.get("TOY_MENDED"):
            raise ValueError("asked for")
        if begun := os.environ.get("TOY_BEGUN"):  # counts the runs that were computed to their end
            with Path(begun).open("a") as file:
                file.write(f"{self.x} {self.y}\n")

    def _quality(self) -> float:
        return 1 - (self.x - 0.3) ** 2 - self.y / 100

    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        return {"val_acc": self._quality(), "test_acc": self._quality() - 0.1, "cost": self.x**2 + self.y}
