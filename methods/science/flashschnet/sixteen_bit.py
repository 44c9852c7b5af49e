"""Filter and output weights in 16 bits, with a scale for each output channel; computed in float32."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from runner.errors import BadInput
from runner.methods.science.flashschnet.potential import SchNet

Weights = Literal["float32", "float16", "bfloat16", "int16"]
Scaling = Literal["channel", "tensor", "cast"]

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "int16": torch.int16}
_LARGEST_INT16 = 32767


class Packed(NamedTuple):
    """W_c = s_c V_c."""

    values: Tensor
    """[C, K], 16 bits."""
    scale: Tensor
    """[C, 1] or [1, 1], in the weights' own dtype."""

    @property
    def bytes(self) -> int:
        """Of both."""
        return self.values.nbytes + self.scale.nbytes

    def unpacked(self) -> Tensor:
        """W [C, K], in the dtype of the scale."""
        return self.values.to(self.scale.dtype) * self.scale


def pack(weight: Tensor, weights: Weights, scaling: Scaling) -> Packed:
    """W [C, K] in 16 bits.

    Args:
        weight: W, a row for each output channel.
        weights: how it is stored.
        scaling: channel: s_c = max |W_c|; tensor: s = max |W|; cast: s = 1, as the released code does. The largest
            value is then 1, for int16 32767.

    Raises:
        BadInput: int16 without a scale.
    """
    if scaling == "cast":
        if weights == "int16":
            raise BadInput("int16 weights need a scale: scaling=channel or scaling=tensor")
        scale = weight.new_ones(1, 1)
    else:
        scale = weight.abs().amax(1, keepdim=True) if scaling == "channel" else weight.abs().max().view(1, 1)
        scale = torch.where(scale > 0, scale, 1.0)
    if weights == "int16":
        scale = scale / _LARGEST_INT16
        return Packed((weight / scale).round().clamp(-_LARGEST_INT16, _LARGEST_INT16).to(torch.int16), scale)
    return Packed((weight / scale).to(_DTYPES[weights]), scale)


def sixteen_bit_layers(potential: SchNet) -> list[nn.Linear]:
    """The layers whose weights the paper stores in 16 bits: filters and output."""
    read = [*(block.filter for block in potential.blocks), potential.output]
    return [layer for layers in read for layer in layers if isinstance(layer, nn.Linear)]  # type: ignore[union-attr]


def round_weights(potential: SchNet, weights: Weights, scaling: Scaling) -> int:
    """Replace those weights by what their 16 bits give; returns the bytes that they are stored in."""
    stored = 0
    for layer in sixteen_bit_layers(potential):
        packed = pack(layer.weight.detach(), weights, scaling)
        layer.weight = nn.Parameter(packed.unpacked(), requires_grad=False)
        stored += packed.bytes
    return stored
