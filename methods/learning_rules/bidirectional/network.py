"""A network without direction: upwards it classifies images, downwards, through the same weights, it generates them.

Letters: B images, C channels, H x W pixels, K classes, I and O widths of an affine layer.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.errors import BadInput

ActivationName = Literal["sigmoid", "relu", "leaky_relu"]
Shape = tuple[int, ...]
"""Of one sample: (C, H, W), or (I,)."""

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": lambda z: functional.leaky_relu(z, 0.2),
    "none": lambda z: z,
}


class SharedMap(nn.Module):
    """A linear map A and its transpose, out of one weight: <A x, y> = <x, A^T y>."""

    weight: nn.Parameter
    below: Shape
    """Of a sample that goes in from below, and comes out there."""
    above: Shape

    @abstractmethod
    def up(self, x: Tensor) -> Tensor:
        """A x, [B, *above], for [B, *below]."""

    @abstractmethod
    def down(self, y: Tensor) -> Tensor:
        """A^T y, [B, *below], for [B, *above]."""


class SharedAffine(SharedMap):
    """A = W [O, I], on flattened samples."""

    def __init__(self, below: Shape, outputs: int) -> None:
        super().__init__()
        self.below, self.above = below, (outputs,)
        self.weight = nn.Parameter(torch.empty(outputs, math.prod(below)))

    def up(self, x: Tensor) -> Tensor:
        """W x."""
        return functional.linear(x.flatten(1), self.weight)

    def down(self, y: Tensor) -> Tensor:
        """W^T y."""
        return (y @ self.weight).view(-1, *self.below)


class SharedConvolution(SharedMap):
    """A = a convolution whose output is ceil(size / stride) wide, padded as TensorFlow's SAME.

    All padding of a side is p = (ceil(n / s) - 1) s + k - n, of which floor(p / 2) stand before. Downwards the
    transposed convolution gives n + p pixels, of which the padded ones are cut off.
    """

    def __init__(self, below: Shape, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.below, self.above = below, (channels, *(math.ceil(size / stride) for size in below[1:]))
        self.weight = nn.Parameter(torch.empty(channels, below[0], kernel, kernel))
        self.padding: list[int] = []
        for size, out in reversed(list(zip(below[1:], self.above[1:], strict=True))):
            total = (out - 1) * stride + kernel - size
            before = max(total, 0) // 2
            self.padding += [before, total - before]

    def up(self, x: Tensor) -> Tensor:
        """Convolve."""
        return functional.conv2d(functional.pad(x, self.padding), self.weight, stride=self.stride)

    def down(self, y: Tensor) -> Tensor:
        """Convolve, transposed."""
        whole = functional.conv_transpose2d(y.view(-1, *self.above), self.weight, stride=self.stride)
        return functional.pad(whole, [-width for width in self.padding])


class After(nn.Module):
    """What follows a linear map in one direction: a bias or batch normalisation, then the activation."""

    def __init__(self, shape: Shape, activation: str, *, normalised: bool = False, by_channel: bool = False) -> None:
        """``by_channel``: statistics and bias of a channel of (C, H, W), otherwise of each number."""
        super().__init__()
        self.function = FUNCTIONS[activation]
        self.norm: nn.Module | None = None
        self.bias: nn.Parameter | None = None
        if normalised:
            self.norm = nn.BatchNorm2d(shape[0]) if by_channel else nn.BatchNorm1d(math.prod(shape))
        else:
            self.bias = nn.Parameter(torch.zeros(shape[0], 1, 1) if by_channel else torch.zeros(shape))
        self.flat = normalised and not by_channel

    def forward(self, z: Tensor) -> Tensor:
        """f(z + b), or f(BN(z)), for [B, *shape]."""
        if self.norm is None:
            return self.function(z + self.bias)
        normalised: Tensor = self.norm(z.flatten(1)).view_as(z) if self.flat else self.norm(z)
        return self.function(normalised)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Of what layers a network consists, from the image on, but for the last one's width."""

    convolutions: Sequence[Sequence[int]]
    """Of each its kernel's side, channels and stride."""
    hidden: Sequence[int]
    """Widths of the affine layers that follow."""
    activation: ActivationName
    """Behind hidden affine layers; downwards, behind every layer but the last."""
    conv_activation: ActivationName
    """Upwards, behind convolutions."""
    batch_norm: bool
    """Upwards behind all convolutions but the first, downwards behind affine layers but the last."""
    init_std: float | None
    """Weights are normal with this deviation, truncated at two of them; None: sqrt(2 / fan-in)."""


class Upward(nn.Module):
    """a_0 = x, a_l = f(A_l a_{l-1} + b_l), the last one without f."""

    def __init__(self, shape: Shape, outputs: int, layout: Layout) -> None:
        """For images of ``shape`` (C, H, W).

        Raises:
            BadInput: a convolution isn't three numbers.
        """
        super().__init__()
        layers: list[SharedMap] = []
        after: list[After] = []
        for numbers in layout.convolutions:
            if len(numbers) != 3:
                raise BadInput(f"method.convolutions: {list(numbers)} should be [kernel, channels, stride]")
            kernel, channels, stride = numbers
            layers.append(SharedConvolution(shape, channels, kernel, stride))
            normalised = layout.batch_norm and len(layers) > 1
            shape = layers[-1].above
            after.append(After(shape, layout.conv_activation, normalised=normalised, by_channel=True))
        for width in layout.hidden:
            layers.append(SharedAffine(shape, width))
            shape = (width,)
            after.append(After(shape, layout.activation))
        layers.append(SharedAffine(shape, outputs))
        after.append(After((outputs,), "none"))
        for layer in layers:
            std = (2 / layer.weight[0].numel()) ** 0.5 if layout.init_std is None else layout.init_std
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
        self.layers = nn.ModuleList(layers)
        self.after_up = nn.ModuleList(after)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, outputs] of images [B, C, H, W]."""
        for layer, after in zip(self.layers, self.after_up, strict=True):
            x = after(layer.up(x))
        return x


class Undirected(Upward):
    """Downwards: g_L = the input, g_{l-1} = f(A_l^T g_l + b'_l), g_0, without f, the logits of pixels.

    Biases, and the parameters and statistics of batch normalisation, are each direction's own.
    """

    def __init__(self, shape: Shape, outputs: int, layout: Layout) -> None:
        """As ``Upward``."""
        super().__init__(shape, outputs, layout)
        after = []
        for place, layer in enumerate(self.layers):
            name = layout.activation if place else "none"
            affine = isinstance(layer, SharedAffine)
            normalised = layout.batch_norm and affine and place > 0
            after.append(After(layer.below, name, normalised=normalised, by_channel=not affine))
        self.after_down = nn.ModuleList(after)

    def generate(self, y: Tensor) -> Tensor:
        """Logits of pixels [B, C, H, W] for [B, K]: one-hot classes, or noise."""
        for layer, after in zip(reversed(self.layers), reversed(self.after_down), strict=True):
            y = after(layer.down(y))
        return y

    def weights(self) -> Iterator[nn.Parameter]:
        """W_1, …, W_L: what both directions share."""
        return (layer.weight for layer in self.layers)
