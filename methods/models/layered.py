"""Networks as lists of stages, whose outputs a learning rule can ask for, and which may stand the other way round.

Letters: B images, C channels, H x W pixels, L stages.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from runner.contracts import Backbone


class Layered(nn.Module):
    """a_0 = x, a_l = stage_l(a_{l-1}), output a_L."""

    @abstractmethod
    def __len__(self) -> int:
        """L."""

    def enter(self, x: Tensor) -> Tensor:
        """a_0, for images [B, C, H, W]."""
        return x

    @abstractmethod
    def stage(self, place: int, below: Tensor) -> Tensor:
        """a_l, for ``place`` = l - 1 and a_{l-1}."""

    def forward(self, x: Tensor) -> Tensor:
        """a_L."""
        return self.trace(x)[-1]

    def trace(self, x: Tensor, *, local: bool = False) -> list[Tensor]:
        """a_0, …, a_L.

        Args:
            x: what the network takes.
            local: no gradient passes from a stage to the one below.
        """
        outputs = [self.enter(x)]
        for place in range(len(self)):
            below = outputs[-1].detach() if local else outputs[-1]
            outputs.append(self.stage(place, below))
        return outputs


class MirroredBackbone(Backbone):
    """An architecture that can be built from its output to its input as well."""

    @abstractmethod
    def network(self, in_channels: int, out_channels: int) -> Layered:
        """All stages."""

    @abstractmethod
    def mirror(self, in_channels: int, out_channels: int) -> Layered:
        """The network of the transposed shapes, from ``out_channels`` back to ``in_channels``, weights of its own.

        Its outputs b_L, …, b_0 have the shapes of a_L, …, a_0 (each image's), and b_0 has no activation.
        """


class ImageBackbone(MirroredBackbone):
    """An architecture whose ``in_channels`` are the C channels of images, not all their pixels."""

    takes_images: ClassVar[bool] = True
