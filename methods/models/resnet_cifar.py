"""Residual networks for small images: 6 n + 2 layers in three stages (He et al. 2016, section 4.2).

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
class ResNetCifar(Backbone):
    """A convolution, stages of n blocks that halve the image from the second on, mean over the image, a linear layer.

    Where widths differ the shortcut is a 1 x 1 convolution with batch norm (option B there; the CIFAR networks of that
    paper pad with zeros). Convolutions start Kaiming-normal (fan-out, gain sqrt 2).
    """

    widths: list[PositiveInt]
    """Channels of the stages."""
    blocks: PositiveInt
    """n, of a stage."""
    takes_images: ClassVar[bool] = True

    @property
    def num_layers(self) -> int:  # type: ignore[override]
        """Layers on the longest way."""
        return 2 * self.blocks * len(self.widths) + 2

    @property
    def hidden_channels(self) -> int:  # type: ignore[override]
        """Channels of the last stage."""
        return self.widths[-1]

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Module:
        """A residual block, with stride 2 where the width changes; the head: mean over the image, linear layer."""
        if head:
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, out_channels))
        return NormedResidualBlock(in_channels, out_channels, stride=1 if in_channels == out_channels else 2)

    def network(self, in_channels: int, out_channels: int) -> nn.Sequential:
        """From images [B, C, H, W] to logits [B, K]."""
        first = self.widths[0]
        before = [first] + [width for width in self.widths for _ in range(self.blocks)]
        network = nn.Sequential(
            nn.Conv2d(in_channels, first, 3, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            *(self.block(*pair) for pair in pairwise(before)),
            self.block(self.widths[-1], out_channels, head=True),
        )
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        return network


class NormedResidualBlock(nn.Module):
    """y = relu(BN(conv2(relu(BN(conv1(x))))) + s(x)); s is a 1 x 1 convolution with batch norm, or the identity."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        same = in_channels == out_channels and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H/stride, W/stride]."""
        inner = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(inner + self.shortcut(x))
