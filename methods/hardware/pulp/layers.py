"""What a network asks of the cluster: its affine and convolutional layers with their sizes, in the order of use.

Found by hooks in one forward pass of one sample. Everything else (activations, pooling, sums) costs nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from runner.errors import RunFailed

Kind = Literal["linear", "pointwise", "convolution", "depthwise"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer for one sample. A linear layer is a convolution with a window of 1 x 1 over its positions."""

    name: str
    kind: Kind
    inputs: int
    """Channels in, of one group; likewise ``outputs``. A depthwise layer: its channels, and 1."""
    outputs: int
    window: tuple[int, int]
    stride: tuple[int, int]
    padded: bool
    size_in: tuple[int, int]
    size_out: tuple[int, int]
    parameters: int
    groups: int = 1
    """Such convolutions side by side."""

    @property
    def taps(self) -> int:
        """Places of the window."""
        return prod(self.window)

    @property
    def fan_in(self) -> int:
        """Inputs of an output: a column of the im2row buffer."""
        return self.taps if self.kind == "depthwise" else self.inputs * self.taps

    @property
    def positions(self) -> int:
        """Positions out."""
        return prod(self.size_out)

    @property
    def macs(self) -> int:
        """Of the forward pass, and as many of either gradient."""
        channels = self.inputs if self.kind == "depthwise" else self.outputs
        return self.groups * channels * self.fan_in * self.positions


def layers(model: nn.Module, sample: Tensor) -> list[Layer]:
    """All layers that a forward pass of ``sample`` [1, …] goes through; one that is used twice is there twice."""
    found: list[Layer] = []
    names = {module: name or type(module).__name__ for name, module in model.named_modules()}

    def note(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        found.append(_layer(names[module], module, given[0], result))

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    hooks = [module.register_forward_hook(note) for module in names if isinstance(module, kinds)]
    try:
        _pass(model, sample)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def forward_macs(model: nn.Module, sample: Tensor) -> int:
    """Multiply-accumulates of a forward pass of ``sample`` [1, …], whoever makes them: torch's own count."""
    with FlopCounterMode(display=False) as counter:
        _pass(model, sample)
    return int(counter.get_total_flops()) // 2


@torch.no_grad()
def _pass(model: nn.Module, sample: Tensor) -> None:
    """Forward, as in a test; every part's mode is put back."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()(sample)
    finally:
        for module, training in modes.items():
            module.training = training


def _layer(name: str, module: nn.Module, given: Tensor, result: Tensor) -> Layer:
    parameters = sum(parameter.numel() for parameter in module.parameters())
    if isinstance(module, nn.Linear):
        positions = result.numel() // module.out_features
        return linear(name, module.in_features, module.out_features, positions, parameters)
    if not isinstance(module, nn.Conv1d | nn.Conv2d):
        raise RunFailed(f"layer '{name}': no linear layer and no convolution of one or two dimensions")
    window, stride, padding = (_pair(value) for value in (module.kernel_size, module.stride, module.padding))
    padded = module.padding == "same" or any(padding)
    return convolution(
        name=name,
        channels=(module.in_channels, module.out_channels),
        groups=module.groups,
        window=window,
        stride=stride,
        padded=padded,
        size_in=size(given),
        size_out=size(result),
        parameters=parameters,
    )


def linear(name: str, inputs: int, outputs: int, positions: int, parameters: int) -> Layer:
    """An affine map of so many numbers to so many, at each of the positions."""
    return Layer(
        name=name,
        kind="linear",
        inputs=inputs,
        outputs=outputs,
        window=(1, 1),
        stride=(1, 1),
        padded=False,
        size_in=(positions, 1),
        size_out=(positions, 1),
        parameters=parameters,
    )


def convolution(
    *,
    name: str,
    channels: tuple[int, int],
    groups: int,
    window: tuple[int, int],
    stride: tuple[int, int],
    padded: bool,
    size_in: tuple[int, int],
    size_out: tuple[int, int],
    parameters: int,
) -> Layer:
    """Of all ``channels`` in and out, in so many groups."""
    inputs, outputs = channels
    kind: Kind = "convolution"
    if groups > 1 and groups == inputs == outputs:
        kind, groups, outputs = "depthwise", 1, 1
    elif window == stride == (1, 1) and not padded:
        kind = "pointwise"
    return Layer(
        name=name,
        kind=kind,
        inputs=inputs // groups,
        outputs=outputs // groups,
        window=window,
        stride=stride,
        padded=padded,
        size_in=size_in,
        size_out=size_out,
        parameters=parameters,
        groups=groups,
    )


def _pair(value: object) -> tuple[int, int]:
    if not isinstance(value, tuple):
        return 0, 0
    return (value[0], value[1]) if len(value) == 2 else (value[0], 0 if value[0] == 0 else 1)


def size(image: Tensor) -> tuple[int, int]:
    """Positions of a tensor [1, channels, …], as two sides."""
    return (image.shape[-2], image.shape[-1]) if image.dim() == 4 else (image.shape[-1], 1)
