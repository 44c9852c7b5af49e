"""DS-CNN of MLPerf Tiny: keyword spotting with depthwise separable convolutions.

Letters: B recordings, T frames, F coefficients, C channels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from runner.contracts import Backbone
from runner.types import PositiveInt


@dataclass(kw_only=True, eq=False)
class DsCnn(Backbone):
    """A convolution of 10 x 4 with stride 2, blocks of a depthwise and a pointwise one, a mean, a linear layer.

    Without batch normalisation, which has nothing to average over at batch size 1.
    """

    hidden_channels: PositiveInt
    num_layers: PositiveInt
    """Depthwise separable blocks."""
    takes_images: ClassVar[bool] = True

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Sequential:
        """A depthwise separable block; the head: mean over time and coefficients, linear layer."""
        if head:
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, out_channels))
        return nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, 1),
            nn.ReLU(),
        )

    def network(self, in_channels: int, out_channels: int) -> nn.Sequential:
        """From cepstra [B, 1, T, F] to logits [B, K]."""
        width = self.hidden_channels
        return nn.Sequential(
            # pads 5 frames at both ends where TensorFlow pads 4 and 5: the same sizes
            nn.Conv2d(in_channels, width, (10, 4), stride=2, padding=(5, 1)),
            nn.ReLU(),
            *(self.block(width, width) for _ in range(self.num_layers)),
            self.block(width, out_channels, head=True),
        )
