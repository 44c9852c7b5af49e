"""Packed bits against the convolution of signs, to the last digit, borders too; whole networks to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from runner.errors import BadInput
from runner.methods.learning_rules.binary import popcount
from runner.methods.learning_rules.binary.layers import BinaryLayer, binarised, binary_layers
from runner.methods.learning_rules.binary.packed import PackedConv, folded, packed_network
from runner.methods.learning_rules.binary.quantisers import PolynomialActivations, SineWeights, sgn
from runner.methods.models.binary_resnet import BinaryResNet
from runner.methods.models.perceptron import Perceptron
from runner.methods.models.vgg_small import VggSmall


@pytest.fixture(params=["numba", "numpy"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test with the compiled count and without."""
    if request.param == "numba":
        pytest.importorskip("numba", reason="the compiled count needs the extra 'packed'")
    else:
        monkeypatch.setattr(popcount, "find_spec", lambda name: None)


def layer(conv: nn.Module) -> BinaryLayer:
    return BinaryLayer(conv, SineWeights(20.0, "sine"), PolynomialActivations(), "learned").eval()  # type: ignore[arg-type]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    channels=st.integers(1, 70),
    outputs=st.integers(1, 9),
    height=st.integers(3, 8),
    width=st.integers(3, 8),
    window=st.sampled_from([1, 2, 3]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    seed=st.integers(0, 2**30),
)
def test_counting_bits_is_the_convolution_of_signs(
    channels: int, outputs: int, height: int, width: int, window: int, stride: int, padding: int, seed: int
) -> None:
    torch.manual_seed(seed)
    binary = layer(nn.Conv2d(channels, outputs, window, stride=stride, padding=padding, bias=False))
    turned = torch.rand(outputs) < 0.5
    a = torch.randn(2, channels, height, width)
    signs = sgn(binary.proxy()) * torch.where(turned, -1.0, 1.0).view(-1, 1, 1, 1)
    expected = functional.conv2d(sgn(a), signs, stride=stride, padding=padding)
    assert torch.equal(PackedConv(binary, turned)(a), expected)


def test_within_the_image_it_is_k_minus_twice_the_differing_bits() -> None:
    torch.manual_seed(0)
    binary = layer(nn.Conv2d(8, 1, 3, padding=1, bias=False))
    a = torch.randn(1, 8, 3, 3)
    differing = int(((a[0] >= 0) != (binary.proxy()[0] >= 0)).sum())
    assert float(PackedConv(binary, torch.tensor([False]))(a)[0, 0, 1, 1]) == 72 - 2 * differing


def test_alpha_folds_into_batch_norm() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    norm.running_mean.normal_()  # type: ignore[union-attr]
    norm.running_var.uniform_(0.1, 2)  # type: ignore[union-attr]
    alpha, x = torch.randn(6), 10 * torch.randn(3, 6, 4, 4)
    assert torch.allclose(folded(norm, alpha)(x), norm.eval()(alpha.view(-1, 1, 1) * x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["resnet, each", "resnet, block", "vgg"])
def test_a_packed_network_gives_the_same_logits(name: str) -> None:
    torch.manual_seed(0)
    if name == "vgg":
        network: nn.Module = VggSmall(hidden_channels=8).network(3, 10)
    else:
        network = BinaryResNet(
            widths=[8, 16], blocks=2, skips=name.split(", ")[1], stem_activation=True, activation="hardtanh"
        ).network(3, 10)
    binarised(network, SineWeights(20.0, "sine"), PolynomialActivations(), "learned")
    for binary in binary_layers(network):
        nn.init.normal_(binary.alpha)  # some are negative, as training may make them
    x = torch.randn(4, 3, 16, 16)
    for _ in range(3):
        network(x)  # batch norm's running statistics
    network.eval()
    with torch.no_grad():
        expected = network(x)
        found = packed_network(network)(x)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
    assert len(list(binary_layers(network))) > 0


def test_what_cannot_be_packed_is_told() -> None:
    network = Perceptron(hidden=[6, 6, 6], activation="tanh", bias=True, init="uniform", init_std=0.1).network(4, 3)
    with pytest.raises(BadInput, match="batch norm"):
        packed_network(binarised(network, SineWeights(20.0, "sine"), PolynomialActivations(), "learned"))
    real = BinaryLayer(nn.Conv2d(2, 2, 3, bias=False), SineWeights(20.0, "sine"), nn.Identity(), "learned")
    with pytest.raises(BadInput, match="activations=binary"):
        PackedConv(real, torch.tensor([False, False]))


def test_the_compiled_count_is_numpys() -> None:
    pytest.importorskip("numba", reason="the compiled count needs the extra 'packed'")
    generator = np.random.default_rng(0)
    left = generator.integers(0, 2**64, (50, 7), dtype=np.uint64)
    columns = generator.integers(0, 2**64, (7, 11), dtype=np.uint64)
    known = generator.integers(0, 100, (5, 11)).astype(np.int32)
    expected = np.tile(known, (10, 1)) - 2 * np.bitwise_count(left[:, :, None] ^ columns).sum(1, dtype=np.int32)
    for count in (popcount.by_numpy, popcount.compiled()):
        assert np.array_equal(count(left, columns, known), expected.astype(np.float32))
