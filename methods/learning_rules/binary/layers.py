"""A layer with binary weights and activations in the place of a convolution or an affine map.

Letters: B images, O output channels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.errors import BadInput
from runner.methods.learning_rules.binary.quantisers import Estimated, WeightQuantiser, shift

Scale = Literal["learned", "fitted", "shift"]


class BinaryLayer(nn.Module):
    """alpha (q(w) * b(a)) + bias, with * the layer's own product, and alpha [O] positive or learned.

    ``learned``: alpha starts uniform in 0..1, divided by sqrt(inputs) for an affine map, which no batch norm follows.
    ``fitted``: alpha = mean \\|s(w)\\| of the output channel, the least squares fit to s(w), without gradient.
    ``shift``: the power of two next to that (IR-Net).
    """

    def __init__(
        self, layer: nn.Conv2d | nn.Linear, weights: WeightQuantiser, activations: nn.Module, scale: Scale
    ) -> None:
        super().__init__()
        self.layer = layer
        self.weights = weights
        self.activations = activations
        self.scale = scale
        if scale == "learned":
            within = 1.0 if isinstance(layer, nn.Conv2d) else layer.in_features**-0.5
            self.alpha = nn.Parameter(within * torch.rand(layer.weight.shape[0]))

    @property
    def latent(self) -> Tensor:
        """The trained weights w."""
        return self.layer.weight

    def proxy(self) -> Tensor:
        """s(w)."""
        return self.weights.proxy(self.latent)

    @torch.no_grad()
    def bits(self) -> Tensor:
        """Where the binary weight is +1, bool, of the shape of w."""
        return self.proxy() >= 0

    def scales(self, s: Tensor) -> Tensor:
        """alpha [O], for s = s(w)."""
        if self.scale == "learned":
            return self.alpha
        gamma = s.detach().abs().flatten(1).mean(1)
        return shift(gamma) if self.scale == "shift" else gamma

    def forward(self, x: Tensor) -> Tensor:
        """As the layer that it replaces."""
        q, s = self.weights(self.latent)
        # alpha on the weights: the same product, for O x inputs multiplications instead of one a pixel
        weight = q * self.scales(s).view(-1, *[1] * (q.dim() - 1))
        a = self.activations(x)
        if isinstance(self.layer, nn.Linear):
            return functional.linear(a, weight, self.layer.bias)
        return functional.conv2d(
            a, weight, self.layer.bias, self.layer.stride, self.layer.padding, self.layer.dilation, self.layer.groups
        )


def binarised(network: nn.Module, weights: WeightQuantiser, activations: nn.Module, scale: Scale) -> nn.Module:
    """The network, changed in place: all convolutions and affine maps but the first and the last are binary.

    Raises:
        BadInput: there is none between the first and the last, or one has a single input, which has no deviation.
    """
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    if len(layers) < 3:
        raise BadInput(
            f"the network has {len(layers)} layers with weights; the first and the last stay real, so that it takes "
            "three to have a binary one: for example model.hidden=[64,64]"
        )
    for name, layer in layers[1:-1]:
        if layer.weight[0].numel() == 1:
            raise BadInput(
                f"the binary layer '{name}' has one input, which has no deviation; two or more: model.hidden=[64,64]"
            )
        network.set_submodule(name, BinaryLayer(layer, copy.deepcopy(weights), copy.deepcopy(activations), scale))
    return network


def binary_layers(network: nn.Module) -> Iterator[BinaryLayer]:
    """Those of a network, in the order in which they compute."""
    return (module for module in network.modules() if isinstance(module, BinaryLayer))


def set_binary(network: nn.Module, binary: bool) -> None:
    """Whether layers compute with signs, or with the real-valued proxies."""
    for layer in binary_layers(network):
        layer.weights.binary = binary


def tell_progress(network: nn.Module, share: float) -> None:
    """Tell all quantisers which share of the epochs lies behind."""
    for module in network.modules():
        if isinstance(module, Estimated):
            module.progress(share)
