"""A network as it is, so that the hardware can say what a step of back-propagation costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.contracts import Method, Workload
from runner.errors import BadInput
from runner.types import PositiveFloat

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class HardwareCost(Method[Workload]):
    """Trains nothing. A run's metrics are its hardware's (``TorchDevice.cost``)."""

    published_macs_per_cycle: PositiveFloat | None
    published_milliseconds: PositiveFloat | None

    def build(self, task: Workload, run: Run) -> None:
        """The chosen network.

        Raises:
            BadInput: one published figure without the other.
        """
        if (self.published_macs_per_cycle is None) != (self.published_milliseconds is None):
            raise BadInput("method.published_macs_per_cycle and method.published_milliseconds go together")
        self.model = run.model(task.input_shape[0], task.num_classes)

    def fit(self, task: Workload, run: Run) -> None:
        """Nothing to do."""

    def evaluate(self, task: Workload, run: Run) -> dict[str, float]:
        """``macs_per_mhz``, where figures were published: MACs of a step that they imply at a clock of 1 MHz.

        MACs = MAC/cycle * f * t, so that the MACs of a known network divided by it are the implied clock in MHz.
        """
        if self.published_macs_per_cycle is None or self.published_milliseconds is None:
            return {}
        return {"macs_per_mhz": self.published_macs_per_cycle * self.published_milliseconds * 1e3}
