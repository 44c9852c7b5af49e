"""Convolutions with batch norm one after the other: a small one for digits, and VGG19.

Letters: B images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from runner.contracts import Backbone
from runner.errors import BadInput
from runner.types import PositiveInt


@dataclass(kw_only=True, eq=False)
class NormedConvolutions(Backbone):
    """3 x 3 convolutions with batch norm and ReLU, a maximum of 2 x 2 after some; mean over the image, linear layer."""

    channels: list[PositiveInt]
    """Of the convolutions, from the input on."""
    strides: list[PositiveInt]
    """Likewise."""
    pools: list[PositiveInt]
    """After which of them, counted from 1, the maximum is taken."""
    bias: bool
    """Of the convolutions; batch norm has one anyway."""
    init: Literal["default", "kaiming_fan_out"]
    """Initial weights of the convolutions: torch's own, or normal with variance 2 / (9 C_out)."""
    takes_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.channels or len(self.strides) != len(self.channels):
            raise BadInput(
                f"model: {len(self.channels)} channels and {len(self.strides)} strides; "
                "one of each a convolution, for example channels=[16,32] strides=[1,2]"
            )

    @property
    def num_layers(self) -> int:  # type: ignore[override]
        """Convolutions and head."""
        return len(self.channels) + 1

    @property
    def hidden_channels(self) -> int:  # type: ignore[override]
        """Channels of the last convolution."""
        return self.channels[-1]

    def block(self, in_channels: int, out_channels: int, *, head: bool = False, stride: int = 1) -> nn.Module:
        """A convolution with batch norm and ReLU; the head: mean over the image, linear layer."""
        if head:
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, out_channels))
        convolution = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=self.bias)
        if self.init == "kaiming_fan_out":
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())

    def network(self, in_channels: int, out_channels: int) -> nn.Sequential:
        """From images [B, C, H, W] to logits [B, K]."""
        layers: list[nn.Module] = []
        for number, (width, stride) in enumerate(zip(self.channels, self.strides, strict=True), 1):
            layers.append(self.block(in_channels, width, stride=stride))
            if number in self.pools:
                layers.append(nn.MaxPool2d(2))
            in_channels = width
        return nn.Sequential(*layers, self.block(in_channels, out_channels, head=True))
