"""Residual networks as they are binarised: a skip around each convolution (Bi-Real), or one a block.

Letters: B images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from torch import Tensor, nn

from runner.contracts import Backbone
from runner.errors import BadInput
from runner.methods.models.binary_convolutions import ACTIVATIONS, ConvNorm, PooledShortcut
from runner.types import PositiveInt


@dataclass(kw_only=True, eq=False)
class BinaryResNet(Backbone):
    """Stem, stages of blocks that halve the image from the second on, mean over the image, batch norm, linear layer.

    Convolutions start Kaiming-normal (fan-in, gain sqrt 2).
    """

    widths: list[PositiveInt]
    """Channels of the stages."""
    blocks: PositiveInt
    """Of a stage."""
    skips: Literal["each", "block"]
    """``each``: around each convolution; ``block``: around both of a block."""
    stem_activation: bool
    activation: Literal["hardtanh", "relu"]
    takes_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.widths:
            raise BadInput("model: widths=[] has no stage; for example model.widths=[16,32,64]")
        if sorted(self.widths) != list(self.widths):
            raise BadInput(f"model: widths={self.widths} narrow; the shortcut can only add channels")

    @property
    def num_layers(self) -> int:  # type: ignore[override]
        """Layers with weights on the longest way."""
        return 2 * self.blocks * len(self.widths) + 2

    @property
    def hidden_channels(self) -> int:  # type: ignore[override]
        """Channels of the last stage."""
        return self.widths[-1]

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Module:
        """Two convolutions, with stride 2 where the width changes; the head: batch norm and linear layer."""
        if head:
            return nn.Sequential(nn.BatchNorm1d(in_channels), nn.Linear(in_channels, out_channels))
        kind = EachSkipped if self.skips == "each" else BothSkipped
        return kind(in_channels, out_channels, ACTIVATIONS[self.activation]())

    def network(self, in_channels: int, out_channels: int) -> BinaryResNetwork:
        """From images [B, C, H, W] to logits [B, K]."""
        first = self.widths[0]
        before = [first] + [width for width in self.widths for _ in range(self.blocks)]
        stem = nn.Sequential(ConvNorm(in_channels, first))
        if self.stem_activation:
            stem.append(ACTIVATIONS[self.activation]())
        blocks = [self.block(*pair) for pair in pairwise(before)]
        network = BinaryResNetwork(stem, blocks, self.block(self.widths[-1], out_channels, head=True))
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        return network


class BinaryResNetwork(nn.Module):
    """head(mean over the image of blocks(stem(x)))."""

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] for images [B, C, H, W]."""
        logits: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


class _Block(nn.Module):
    """The two convolutions, the shortcut and the activation."""

    def __init__(self, in_channels: int, out_channels: int, activation: nn.Module) -> None:
        super().__init__()
        same = in_channels == out_channels
        self.first = ConvNorm(in_channels, out_channels, stride=1 if same else 2)
        self.second = ConvNorm(out_channels, out_channels)
        self.shortcut = nn.Identity() if same else PooledShortcut(in_channels, out_channels)
        self.activation = activation


class EachSkipped(_Block):
    """u = f(BN(W_1 * x) + s(x)), y = f(BN(W_2 * u) + u)."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H', W']."""
        u = self.activation(self.first(x) + self.shortcut(x))
        y: Tensor = self.activation(self.second(u) + u)
        return y


class BothSkipped(_Block):
    """y = f(BN(W_2 * f(BN(W_1 * x))) + s(x))."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H', W']."""
        y: Tensor = self.activation(self.second(self.activation(self.first(x))) + self.shortcut(x))
        return y
