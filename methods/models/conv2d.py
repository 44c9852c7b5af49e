"""One convolution, for the cost of a single layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from runner.contracts import Backbone
from runner.types import NonNegativeInt, PositiveInt


@dataclass(kw_only=True, eq=False)
class Conv2d(Backbone):
    """A square window over an image; its output [B, C', H', W'] is the network's."""

    hidden_channels: PositiveInt
    """C'."""
    window: PositiveInt
    stride: PositiveInt
    padding: NonNegativeInt
    takes_images: ClassVar[bool] = True

    @property
    def num_layers(self) -> int:  # type: ignore[override]
        """One."""
        return 1

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Conv2d:
        """The layer."""
        return nn.Conv2d(in_channels, out_channels, self.window, stride=self.stride, padding=self.padding)

    def network(self, in_channels: int, out_channels: int) -> nn.Conv2d:
        """The layer, with as many channels as the model's YAML says."""
        return self.block(in_channels, self.hidden_channels)
