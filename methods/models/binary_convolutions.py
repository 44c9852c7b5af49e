"""What the convolutional networks of the literature on binary networks share: order of layers, shortcut, activation.

They are plain networks: a method that trains binary weights replaces layers of them by its own. Layers are registered
in the order in which they compute. Letters: B images, C channels, H x W pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS = {"hardtanh": nn.Hardtanh, "relu": nn.ReLU}
"""By the names that ``model.activation`` takes."""


class ConvNorm(nn.Module):
    """BN(pool(W * x)): a 3 x 3 convolution without bias, zero padding 1, perhaps a 2 x 2 maximum, batch norm."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, pool: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H', W']."""
        y: Tensor = self.norm(self.pool(self.conv(x)))
        return y


class PooledShortcut(nn.Module):
    """A shortcut without weights: the mean of 2 x 2 pixels, and channels of zeros at both ends."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        below = (out_channels - in_channels) // 2
        self.padding = (0, 0, 0, 0, below, out_channels - in_channels - below)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H/2, W/2], odd sizes rounded up as the strided convolution beside it does."""
        return functional.pad(functional.avg_pool2d(x, 2, ceil_mode=True), self.padding)
