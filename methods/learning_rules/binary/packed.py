"""Inference of binary convolutions on packed bits: XNOR and population count in place of multiplications.

Letters: B images, C input and O output channels, H x W pixels, T = C k k taps of a window, V words of 64 taps.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from runner.errors import BadInput
from runner.methods.learning_rules.binary.layers import BinaryLayer
from runner.methods.learning_rules.binary.popcount import Counts, Words, products
from runner.methods.models.binary_convolutions import ConvNorm

WORD = 8
"""Bytes of a word."""


def windows(bits: NDArray[np.bool_], window: int, stride: int, padding: int) -> Words:
    """The words [B, H', W', V] under each place of a window over bits [B, C, H, W]; outside the image they are 0.

    A pixel's channels are packed first, so that a window gathers bytes and not bits; C is filled up to whole bytes.
    """
    pixels = np.packbits(bits.transpose(0, 2, 3, 1), axis=3, bitorder="little")
    frame = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    views = np.lib.stride_tricks.sliding_window_view(np.pad(pixels, frame), (window, window), (1, 2))
    gathered = views[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)  # [B, H', W', k, k, C / 8]
    size = int(np.prod(gathered.shape[3:]))
    whole = np.zeros((*gathered.shape[:3], size + -size % WORD), np.uint8)
    whole[..., :size] = gathered.reshape(*gathered.shape[:3], size)
    return whole.view(np.uint64)


class PackedConv(nn.Module):
    """sgn(a) * sgn(s(w)) exactly: T - 2 popcount(a xor w) where the window lies within the image.

    Taps outside it count nothing, as zero padding does: T_valid - 2 popcount((a xor w) and mask). As a is 0 there, the
    count that the mask takes away is that of w's own bits, known beforehand for each place of the window.
    """

    def __init__(self, layer: BinaryLayer, turned: Tensor) -> None:
        """From a binary layer without its scale; ``turned`` [O], bool: output channels whose weights change sign.

        Raises:
            BadInput: another layer than a square convolution of one group without bias, or one with real activations.
        """
        super().__init__()
        conv = layer.layer
        plain = isinstance(conv, nn.Conv2d) and conv.bias is None and conv.groups == 1 and set(conv.dilation) == {1}
        if not plain or not isinstance(conv.padding, tuple) or len({*conv.padding}) * len({*conv.stride}) != 1:
            raise BadInput("only plain convolutions without bias are packed")
        if isinstance(layer.activations, nn.Identity):
            raise BadInput("only layers with binary activations are packed: method.activations=binary")
        self.window, self.stride, self.padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        self.channels = conv.in_channels
        self.bits = (layer.bits() ^ turned.view(-1, 1, 1, 1)).cpu().numpy()
        self.columns = np.ascontiguousarray(windows(self.bits, self.window, 1, 0).reshape(len(self.bits), -1).T)
        self._known: dict[tuple[int, int], Counts] = {}

    def known(self, height: int, width: int) -> Counts:
        """T_valid + 2 popcount(w and not mask) [H' W', O] for images of H x W: needs no activations."""
        if (height, width) not in self._known:
            inside = functional.unfold(torch.ones(1, 1, height, width), self.window, 1, self.padding, self.stride)
            outside = 1 - inside[0].numpy().T
            taps = self.bits.reshape(*self.bits.shape[:2], -1)
            valid = self.channels * (self.window**2 - outside.sum(1, keepdims=True))
            self._known[height, width] = (valid + 2 * outside @ taps.sum(1).T).astype(np.int32)
        return self._known[height, width]

    @torch.no_grad()
    def forward(self, a: Tensor) -> Tensor:
        """[B, O, H', W'], whole numbers as floats, for activations [B, C, H, W]."""
        words = windows((a >= 0).cpu().numpy(), self.window, self.stride, self.padding)
        sums = products(words.reshape(-1, words.shape[3]), self.columns, self.known(*a.shape[2:]))
        return torch.from_numpy(sums.reshape(*words.shape[:3], -1)).to(a.device, a.dtype).permute(0, 3, 1, 2)


@torch.no_grad()
def folded(norm: nn.BatchNorm2d, alpha: Tensor) -> nn.BatchNorm2d:
    """Batch norm of alpha x, in evaluation, as one of x: weight' x + bias' with the statistics of the identity."""
    if norm.running_mean is None or norm.running_var is None:
        raise BadInput("batch norm without running statistics can't take up a scale")
    steep = norm.weight / (norm.running_var + norm.eps).sqrt()
    result = nn.BatchNorm2d(norm.num_features, eps=0.0).to(steep.device, steep.dtype).eval()
    result.weight.copy_(steep * alpha)
    result.bias.copy_(norm.bias - steep * norm.running_mean)
    return result


@torch.no_grad()
def packed_network(network: nn.Module) -> nn.Module:
    """A copy for inference: binary convolutions on packed bits, their scales in the batch norm behind them.

    A maximum stands between both in some networks: where alpha is negative, the signs of the weights turn, and alpha's.

    Raises:
        BadInput: a binary layer that isn't followed by batch norm, or can't be packed.
    """
    result = copy.deepcopy(network).eval()
    for module in result.modules():
        if isinstance(module, ConvNorm) and isinstance(module.conv, BinaryLayer):
            layer = module.conv
            alpha = layer.scales(layer.proxy())
            module.conv = PackedConv(layer, turned=alpha < 0)
            module.norm = folded(module.norm, alpha.abs())
    if any(isinstance(module, BinaryLayer) for module in result.modules()):
        raise BadInput("a binary layer without batch norm behind it isn't packed; the bnn_… models are")
    return result
