"""Multi-layer perceptron for images, as a list of layers whose activations a learning rule can ask for.

Letters: B images, L layers, I and O widths of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from runner.methods.models.activations import ACTIVATIONS
from runner.methods.models.layered import Layered, MirroredBackbone
from runner.types import PositiveFloat, PositiveInt


@dataclass(kw_only=True, eq=False)
class Perceptron(MirroredBackbone):
    """Affine layers with one activation between them."""

    hidden: list[PositiveInt]
    """Widths of the hidden layers, from the input on; empty: a linear classifier."""
    activation: Literal["relu", "tanh", "sigmoid", "elu", "clip"]
    bias: bool
    init: Literal["uniform", "normal"]
    """``uniform`` in +-1/sqrt(I), torch's own; ``normal`` truncated at two deviations of ``init_std``, biases 0."""
    init_std: PositiveFloat

    @property
    def num_layers(self) -> int:  # type: ignore[override]
        """L."""
        return len(self.hidden) + 1

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Linear:
        """One affine map; the activation stands between blocks."""
        layer = nn.Linear(in_channels, out_channels, bias=self.bias)
        if self.init == "normal":
            nn.init.trunc_normal_(layer.weight, std=self.init_std, a=-2 * self.init_std, b=2 * self.init_std)
            if self.bias:
                nn.init.zeros_(layer.bias)
        return layer

    def network(self, in_channels: int, out_channels: int) -> PerceptronNetwork:
        """All layers."""
        widths = [in_channels, *self.hidden, out_channels]
        return PerceptronNetwork([self.block(*pair) for pair in pairwise(widths)], self.activation)

    def mirror(self, in_channels: int, out_channels: int) -> PerceptronNetwork:
        """The same widths, the other way."""
        return replace(self, hidden=self.hidden[::-1]).network(out_channels, in_channels)


class PerceptronNetwork(Layered):
    """a_0 = x, a_l = f(W_l a_{l-1} + b_l) for l < L, output W_L a_{L-1} + b_L: [B, I] to [B, O]."""

    def __init__(self, layers: list[nn.Linear], activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activation = ACTIVATIONS[activation]

    def __len__(self) -> int:
        """L."""
        return len(self.layers)

    def enter(self, x: Tensor) -> Tensor:
        """Images [B, …] as rows."""
        return x.flatten(1)

    def stage(self, place: int, below: Tensor) -> Tensor:
        """A layer and its activation."""
        z: Tensor = self.layers[place](below)
        return z if place == len(self) - 1 else self.activation.function(z)
