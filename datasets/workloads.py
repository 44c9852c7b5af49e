"""Workloads: no data, only the sizes that the cost of a network follows from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runner import fingerprint
from runner.contracts import Dataset, Workload
from runner.types import PositiveInt


@dataclass(kw_only=True)
class Sizes(Dataset):
    """A network's input and the number of its outputs."""

    input_shape: list[PositiveInt]
    """Of one sample, channels first."""
    num_classes: PositiveInt

    def load(self, task: str) -> Workload:
        """The task; nothing is fetched."""
        shape, classes = np.array(self.input_shape), np.array(self.num_classes)
        return Workload(
            name="x".join(map(str, self.input_shape)),
            fingerprint=fingerprint.of_arrays(input_shape=shape, num_classes=classes),
            input_shape=tuple(self.input_shape),
            num_classes=self.num_classes,
        )
