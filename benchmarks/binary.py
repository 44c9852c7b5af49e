"""What packed bits are worth: BiPer's inference by counting bits against floating point, one thread."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.measure import Row, interleaved, seconds
from runner import registry
from runner.compose import compose
from runner.methods.learning_rules.binary.layers import BinaryLayer, binarised
from runner.methods.learning_rules.binary.packed import PackedConv, packed_network
from runner.methods.learning_rules.binary.popcount import by_numpy, compiled
from runner.methods.learning_rules.binary.quantisers import PolynomialActivations, SineWeights, sgn

ROUNDS = 7
LAYERS = ((64, 32), (128, 16), (256, 8), (512, 4))
"""Channels and side of the image in ResNet-18's stages."""
NETWORKS = (("bnn_resnet8", 1, 16, 256), ("bnn_resnet20", 3, 32, 64), ("bnn_resnet18", 3, 32, 16))
"""Model, channels and side of the images, how many at once."""
IMAGES = 16
OMEGA = 20.0


def packed_inference() -> list[Row]:
    """Convolutions alone against real weights that are there already, then whole networks; results are compared too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        with torch.no_grad():
            return [*_layers(), *_networks()]
    finally:
        torch.set_num_threads(threads)


def _layers() -> list[Row]:
    rows = []
    for channels, side in LAYERS:
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        layer = BinaryLayer(conv, SineWeights(OMEGA, "sine"), PolynomialActivations(), "learned").eval()
        packed = PackedConv(layer, torch.zeros(channels, dtype=torch.bool))
        real = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        real.weight.copy_(sgn(layer.proxy()))
        x = torch.randn(IMAGES, channels, side, side)
        assert torch.equal(packed(x), real(sgn(x)))
        signs = sgn(x)  # the float convolution is given its signs, the packed one makes its own bits
        rows.append(_row(f"packed 3 x 3 convolution, {channels} channels, {side} x {side}", packed, x, real, signs))
    words, known = packed.columns.T[:256].copy(), packed.known(4, 4)
    counts = [lambda f=count: seconds(lambda: f(words, packed.columns, known)) for count in (compiled(), by_numpy)]
    ours, reference = interleaved(counts, ROUNDS)
    return [*rows, Row("counting bits, compiled against numpy", 1e3 * ours, "ms", 1e3 * reference)]


def _networks() -> list[Row]:
    rows = []
    for name, channels, side, images in NETWORKS:
        section = compose(["method=biper", "dataset=digits", f"model={name}"]).config["model"]
        network = registry.build(section).network(channels, 10)
        real = registry.build(section).network(channels, 10).eval()
        binarised(network, SineWeights(OMEGA, "sine"), PolynomialActivations(), "learned")
        x = torch.randn(images, channels, side, side)
        network(x)  # batch norm's statistics
        network.eval()
        packed = packed_network(network)
        expected = network(x)
        assert torch.allclose(packed(x), expected, atol=1e-3 * float(expected.abs().max()))
        rows.append(_row(f"packed {name} against the real network, {images} images", packed, x, real, x))
    return rows


def _row(
    what: str, packed: Callable[[Tensor], Tensor], x: Tensor, real: Callable[[Tensor], Tensor], same: Tensor
) -> Row:
    ours, reference = interleaved([lambda: seconds(lambda: packed(x)), lambda: seconds(lambda: real(same))], ROUNDS)
    return Row(what, 1e3 * ours, "ms", 1e3 * reference)
