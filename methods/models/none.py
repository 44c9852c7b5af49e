"""The choice of no backbone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from runner.contracts import Backbone
from runner.errors import BadInput


@dataclass(kw_only=True, eq=False)
class NoBackbone(Backbone):
    """Stands where a method builds a network of its own; a method that needs a backbone is told so."""

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Module:
        """Refuse.

        Raises:
            BadInput: always.
        """
        raise BadInput("this method needs a backbone: model=… (`runner list models` shows all)")

    def network(self, in_channels: int, out_channels: int) -> nn.Module:
        """Refuse likewise."""
        return self.block(in_channels, out_channels)
