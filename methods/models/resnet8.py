"""ResNet8 of MLPerf Tiny: eight convolutions on the longest way, three stages of one residual block each.

Letters: B images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from runner.contracts import Backbone
from runner.types import PositiveInt


@dataclass(kw_only=True, eq=False)
class ResNet8(Backbone):
    """A convolution, residual blocks that halve the image from the second on, mean over the image, a linear layer.

    Without batch normalisation, which has nothing to average over at batch size 1.
    """

    channels: list[PositiveInt]
    """Of the stages."""
    takes_images: ClassVar[bool] = True

    @property
    def num_layers(self) -> int:  # type: ignore[override]
        """Layers on the longest way."""
        return 2 * len(self.channels) + 2

    @property
    def hidden_channels(self) -> int:  # type: ignore[override]
        """Channels of the last stage."""
        return self.channels[-1]

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Module:
        """A residual block, with stride 2 where the width changes; the head: mean over the image, linear layer."""
        if head:
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, out_channels))
        return ResidualBlock(in_channels, out_channels, stride=1 if in_channels == out_channels else 2)

    def network(self, in_channels: int, out_channels: int) -> nn.Sequential:
        """From images [B, C, H, W] to logits [B, K]."""
        first = self.channels[0]
        return nn.Sequential(
            nn.Conv2d(in_channels, first, 3, padding=1),
            nn.ReLU(),
            *(self.block(*pair) for pair in pairwise([first, *self.channels])),
            self.block(self.channels[-1], out_channels, head=True),
        )


class ResidualBlock(nn.Module):
    """y = relu(conv2(relu(conv1(x))) + s(x)); s is a 1 x 1 convolution where shapes differ, else the identity."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H/stride, W/stride]."""
        inner = self.conv2(torch.relu(self.conv1(x)))
        return torch.relu(inner + self.shortcut(x))
