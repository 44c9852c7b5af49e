"""Multi-layer perceptron for images, as a list of layers whose activations a learning rule can ask for.

Letters: B images, L layers, I and O widths of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from runner.contracts import Backbone
from runner.methods.models.activations import ACTIVATIONS
from runner.types import PositiveFloat, PositiveInt


@dataclass(kw_only=True, eq=False)
class Perceptron(Backbone):
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


class PerceptronNetwork(nn.Module):
    """a_0 = x, a_l = f(W_l a_{l-1} + b_l) for l < L, output W_L a_{L-1} + b_L."""

    def __init__(self, layers: list[nn.Linear], activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] for images [B, …]."""
        return self.trace(x)[-1]

    def trace(self, x: Tensor) -> list[Tensor]:
        """a_0 [B, I], …, a_{L-1}, and the logits [B, K]."""
        outputs = [x.flatten(1)]
        for layer in self.layers[:-1]:
            outputs.append(self.activation.function(layer(outputs[-1])))
        outputs.append(self.layers[-1](outputs[-1]))
        return outputs
