"""A convolutional autoencoder.

Letters: B images, C channels, H x W pixels, n widths.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from runner.errors import BadInput
from runner.methods.models.layered import ImageBackbone, Layered
from runner.types import PositiveInt


@dataclass(kw_only=True, eq=False)
class Autoencoder(ImageBackbone):
    """Halved n times by convolutions of stride 2, doubled n times; batch norm and ReLU after all but the last.

    3 x 3 convolutions without bias, orthogonal at the start; doubling repeats each pixel.
    """

    channels: list[PositiveInt]
    """After each halving; H and W are multiples of 2^n."""

    @property
    def num_layers(self) -> int:  # type: ignore[override]
        """2 n."""
        return 2 * len(self.channels)

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Module:
        """A doubling; ``head``: without batch norm and ReLU."""
        stage = nn.Sequential(nn.Upsample(scale_factor=2.0), _convolution(in_channels, out_channels, stride=1))
        return stage if head else _normed(stage, out_channels)

    def network(self, in_channels: int, out_channels: int) -> AutoencoderNetwork:
        """From images [B, C, H, W] to images."""
        if not self.channels:
            raise BadInput("model.channels=[]: an autoencoder needs at least one width")
        down = [
            _normed(nn.Sequential(_convolution(*pair, stride=2)), pair[1])
            for pair in pairwise([in_channels, *self.channels])
        ]
        up = [self.block(*pair) for pair in pairwise(self.channels[::-1])]
        return AutoencoderNetwork([*down, *up, self.block(self.channels[0], out_channels, head=True)])

    def mirror(self, in_channels: int, out_channels: int) -> AutoencoderNetwork:
        """The same shape, the other way: halving stands opposite to doubling."""
        return self.network(out_channels, in_channels)


class AutoencoderNetwork(Layered):
    """Stages as they were given."""

    def __init__(self, stages: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(stages)

    def __len__(self) -> int:
        """2 n."""
        return len(self.layers)

    def enter(self, x: Tensor) -> Tensor:
        """Refuse images that can't be halved so often.

        Raises:
            BadInput: they can't.
        """
        side = 2 ** (len(self) // 2)
        if x.shape[2] % side or x.shape[3] % side:
            raise BadInput(
                f"this autoencoder takes images whose sides are multiples of {side}, these have {x.shape[2]} x "
                f"{x.shape[3]} pixels; change model.channels, dataset.pad or dataset.pool"
            )
        return x

    def stage(self, place: int, below: Tensor) -> Tensor:
        """One of them."""
        return self.layers[place](below)  # type: ignore[no-any-return]


def _convolution(in_channels: int, out_channels: int, *, stride: int) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    nn.init.orthogonal_(layer.weight)
    return layer


def _normed(stage: nn.Sequential, channels: int) -> nn.Sequential:
    return nn.Sequential(*stage, nn.BatchNorm2d(channels), nn.ReLU())
