"""A plain convolutional classifier, each of whose layers halves the image.

Letters: B images, C channels, H x W pixels, K classes, n convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from runner.errors import BadInput
from runner.methods.models.activations import ACTIVATIONS
from runner.methods.models.layered import ImageBackbone, Layered
from runner.types import PositiveInt


@dataclass(kw_only=True, eq=False)
class CnnPool(ImageBackbone):
    """3 x 3 convolutions, each followed by an activation and 2 x 2 max-pooling down to one pixel, and a linear head."""

    channels: list[PositiveInt]
    """Of the convolutions, from the input on; images are 2^n pixels wide and high."""
    activation: Literal["relu", "tanh", "sigmoid", "elu", "clip"]
    bias: bool

    @property
    def num_layers(self) -> int:  # type: ignore[override]
        """Convolutions and head."""
        return len(self.channels) + 1

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Module:
        """A convolution, or the head."""
        if head:
            return nn.Linear(in_channels, out_channels, bias=self.bias)
        return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=self.bias)

    def _widths(self, in_channels: int) -> list[int]:
        if not self.channels:
            raise BadInput(
                "model.channels=[]: cnn_pool needs a convolution; model=perceptron 'model.hidden=[]' has none"
            )
        return [in_channels, *self.channels]

    def network(self, in_channels: int, out_channels: int) -> CnnPoolNetwork:
        """From images [B, C, 2^n, 2^n] to logits [B, K]."""
        widths = self._widths(in_channels)
        convolutions = [self.block(*pair) for pair in pairwise(widths)]
        return CnnPoolNetwork(convolutions, self.block(widths[-1], out_channels, head=True), self.activation)

    def mirror(self, in_channels: int, out_channels: int) -> CnnPoolMirror:
        """From classes [B, K] to images: a linear layer to one pixel; each convolution after doubling the image."""
        widths = self._widths(in_channels)
        head = self.block(out_channels, widths[-1], head=True)
        return CnnPoolMirror(head, [self.block(*pair) for pair in pairwise(widths[::-1])], self.activation)


class CnnPoolNetwork(Layered):
    """a_l = pool(f(U_l * a_{l-1})), output U_L a_{L-1}."""

    def __init__(self, convolutions: list[nn.Module], head: nn.Module, activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList([*convolutions, head])
        self.activation = ACTIVATIONS[activation]

    def __len__(self) -> int:
        """n + 1."""
        return len(self.layers)

    def enter(self, x: Tensor) -> Tensor:
        """Refuse images that don't end as one pixel.

        Raises:
            BadInput: they don't.
        """
        side = 2 ** (len(self) - 1)
        if x.shape[2:] != (side, side):
            raise BadInput(
                f"{len(self) - 1} convolutions with pooling take images of {side} x {side} pixels, these have "
                f"{x.shape[2]} x {x.shape[3]}; change model.channels, dataset.pad or dataset.pool"
            )
        return x

    def stage(self, place: int, below: Tensor) -> Tensor:
        """A convolution and what follows it, or the head."""
        if place == len(self) - 1:
            return self.layers[place](below.flatten(1))  # type: ignore[no-any-return]
        return functional.max_pool2d(self.activation.function(self.layers[place](below)), 2)


class CnnPoolMirror(Layered):
    """b_{L-1} = f(V_L b_L) as one pixel, b_{l-1} = f(V_l * double(b_l)), b_0 without f."""

    def __init__(self, head: nn.Module, convolutions: list[nn.Module], activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList([head, *convolutions])
        self.activation = ACTIVATIONS[activation]

    def __len__(self) -> int:
        """n + 1."""
        return len(self.layers)

    def stage(self, place: int, below: Tensor) -> Tensor:
        """The linear layer, or a convolution on the doubled image."""
        if place == 0:
            return self.activation.function(self.layers[0](below))[:, :, None, None]
        z: Tensor = self.layers[place](functional.interpolate(below, scale_factor=2.0))
        return z if place == len(self) - 1 else self.activation.function(z)
