"""VGG-Small as it is binarised: six convolutions and a linear layer.

Letters: B images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import Backbone
from runner.methods.models.binary_convolutions import ACTIVATIONS, ConvNorm
from runner.types import PositiveInt

SIDE = 4
"""Of the image before the linear layer; 32 x 32 images arrive so, others are averaged or repeated to it."""


@dataclass(kw_only=True, eq=False)
class VggSmall(Backbone):
    """Convolutions of width w, w, 2w, 2w, 4w, 4w; a 2 x 2 maximum after the second, fourth and sixth.

    Convolutions start normal with deviation sqrt(2 / (9 C_out)), the linear layer with 0.01 and bias 0.
    """

    hidden_channels: PositiveInt
    """w."""
    takes_images: ClassVar[bool] = True

    @property
    def num_layers(self) -> int:  # type: ignore[override]
        """Layers with weights."""
        return 7

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Module:
        """A convolution with batch norm and hardtanh; the head: a linear layer."""
        if head:
            return nn.Linear(in_channels, out_channels)
        return nn.Sequential(ConvNorm(in_channels, out_channels), ACTIVATIONS["hardtanh"]())

    def network(self, in_channels: int, out_channels: int) -> VggSmallNetwork:
        """From images [B, C, H, W] to logits [B, K]."""
        widths = [self.hidden_channels * factor for factor in (1, 1, 2, 2, 4, 4)]
        layers: list[nn.Module] = []
        for number, width in enumerate(widths):
            layers += [ConvNorm(in_channels, width, pool=number % 2 == 1), ACTIVATIONS["hardtanh"]()]
            in_channels = width
        network = VggSmallNetwork(layers, self.block(in_channels * SIDE * SIDE, out_channels, head=True))
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=(2 / (9 * module.out_channels)) ** 0.5)
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
        return network


class VggSmallNetwork(nn.Module):
    """linear(convolutions(x))."""

    def __init__(self, layers: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] for images [B, C, H, W]."""
        h = self.layers(x)
        if h.shape[2:] != (SIDE, SIDE):
            h = functional.adaptive_avg_pool2d(h, SIDE)
        logits: Tensor = self.head(h.flatten(1))
        return logits
