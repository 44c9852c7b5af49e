"""16-bit arithmetic: one rounding against exact fractions, the kernels' orders against plain loops, whole steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from runner.methods.hardware.pulp.arithmetic import Arithmetic
from runner.methods.hardware.pulp.formats import FORMATS, Array, Format
from runner.methods.hardware.pulp.kernels import HALF, library_choice
from runner.methods.hardware.pulp.products import product
from runner.methods.hardware.pulp.target import LostUpdates

NAMES = sorted(FORMATS)


def exactly(value: Fraction, number: Format) -> float:
    """The nearest number of a format, from the definition: ties to even, subnormals kept, infinite beyond."""
    if value == 0:
        return 0.0
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    while Fraction(2) ** exponent > size:
        exponent -= 1
    while Fraction(2) ** (exponent + 1) <= size:
        exponent += 1
    place = Fraction(2) ** (max(exponent, number.least) - number.precision + 1)
    units = round(size / place) * place  # Python rounds a fraction's ties to even
    found = math.inf if units > Fraction(number.largest) else float(units)
    return math.copysign(found, value)


def numbers(name: str) -> st.SearchStrategy[float]:
    """Numbers of a format, subnormals and the ends of the range among them."""
    number = FORMATS[name]
    least = number.least - number.precision + 1
    return st.builds(
        lambda sign, significand, exponent: sign * math.ldexp(significand, exponent),
        st.sampled_from([-1, 1]),
        st.integers(0, 2**number.precision - 1),
        st.integers(least, -least - 2 * number.precision + 2) | st.integers(least, least + 3) | st.integers(-10, 0),
    )


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_a_fused_multiply_add_rounds_once(name: str, data: st.DataObject) -> None:
    number = FORMATS[name]
    a, b, c = (data.draw(numbers(name)) for _ in range(3))
    assert max(map(abs, (a, b, c))) <= number.largest
    expected = exactly(Fraction(a) * Fraction(b) + Fraction(c), number)
    with np.errstate(over="ignore"):
        assert float(number.fma(np.float64(a), np.float64(b), np.float64(c))) == expected
        chained = number.chain(np.array([c, a]).reshape(2, 1), np.array([1.0, b]).reshape(2, 1))
    assert float(chained[0]) == expected


def test_an_addend_far_below_decides_a_tie() -> None:
    """(1 + 2^-4)^2 lies half-way between two bfloat16; float64 would forget 2^-60."""
    number = FORMATS["bfloat16"]
    a = np.float64(1 + 2**-4)
    assert [float(number.fma(a, a, np.float64(c))) for c in (0, 2.0**-60, -(2.0**-60))] == [1.125, 1.1328125, 1.125]


def test_the_detour_through_float32_would_round_twice() -> None:
    a, b, c = (1 + 2**-10) * 2**-6, (1 - 2**-10) * 2**-5, 1 + 2**-10
    assert float(FORMATS["binary16"].fma(np.float64(a), np.float64(b), np.float64(c))) == 1 + 2**-10
    assert float(torch.tensor(a * b + c, dtype=torch.float64).half()) == 1 + 2**-9


def test_rounding_is_numpys_and_torchs() -> None:
    """All halves, all their midpoints and what lies beside them; all bfloat16 from random float32."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    ties = (halves[1:] + halves[:-1]) / 2
    beside = [np.nextafter(ties, np.inf), np.nextafter(ties, 0)]
    ends = np.array([65519.9, 65520.0, 1e300, 5e-324, 0.0, np.inf, np.nan])
    x = np.concatenate([halves, ties, *beside, ends])
    x = np.concatenate([x, -x])
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(np.float64)
        found = FORMATS["binary16"].round(x)
    assert np.array_equal(found, expected, equal_nan=True)
    assert np.array_equal(np.signbit(found), np.signbit(expected))
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    single = bits.view(np.float32)[np.isfinite(bits.view(np.float32))]
    with np.errstate(over="ignore"):
        found = FORMATS["bfloat16"].round(single.astype(np.float64))
    assert np.array_equal(found, torch.from_numpy(single).bfloat16().double().numpy())


def by_loops(a: Array, b: Array, number: Format, kernel: str, transposed: bool) -> Array:
    """C as the sources' loops have it, one output after another, with exact roundings."""

    def fma(x: float, y: float, z: float) -> float:
        return exactly(Fraction(x) * Fraction(y) + Fraction(z), number)

    inner, columns = a.shape[1], b.shape[1]
    block = {"naive": 1, "2x4": 2, "4x8": 4}[kernel]
    result = np.empty((len(a), columns))
    for i in range(len(a)):
        for j in range(columns):
            if kernel == "naive" or not transposed or j >= columns - columns % block:
                acc = 0.0
                for k in range(inner):
                    acc = fma(a[i, k], b[k, j], acc)
                result[i, j] = acc
                continue
            lanes = [0.0, 0.0]
            for k in range(inner - inner % 2):
                lanes[k % 2] = fma(a[i, k], b[k, j], lanes[k % 2])
            left = 0.0
            if inner % 2 and kernel == "4x8":
                lanes[0] = fma(a[i, -1], b[-1, j], lanes[0])
            elif inner % 2:
                left = fma(a[i, -1], b[-1, j], 0.0)
            total = exactly(Fraction(lanes[0]) + Fraction(lanes[1]), number)
            result[i, j] = exactly(Fraction(left) + Fraction(total), number)
    return result


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kernel", HALF)
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("shape", [(4, 7, 9), (3, 6, 8), (2, 5, 2)])
def test_products_are_those_of_the_loops(name: str, kernel: str, transposed: bool, shape: tuple[int, int, int]) -> None:
    number = FORMATS[name]
    n, k, m = shape
    draw = np.random.default_rng(n)
    a, b = number.round(draw.standard_normal((n, k))), number.round(draw.standard_normal((k, m)))
    found = product(a, b, number, kernel=kernel, transposed=transposed)
    assert np.array_equal(found, by_loops(a, b, number, kernel, transposed))
    both = product(np.stack([a, -a]), np.stack([b, b]), number, kernel=kernel, transposed=transposed)
    assert np.array_equal(both, np.stack([found, -found]))


def test_the_order_of_the_sum_matters() -> None:
    number = FORMATS["binary16"]
    draw = np.random.default_rng(0)
    a, b = number.round(draw.standard_normal((8, 64))), number.round(draw.standard_normal((64, 8)))
    order = draw.permutation(64)
    one = product(a, b, number, kernel="naive", transposed=True)
    assert not np.array_equal(one, product(a[:, order], b[order], number, kernel="naive", transposed=True))
    assert not np.array_equal(one, product(a, b, number, kernel="4x8", transposed=True))
    assert np.array_equal(one, product(a, b, number, kernel="4x8", transposed=False))


class Exact(Format):
    """Float64 itself: the kernels' algebra without their rounding."""

    largest = math.inf  # type: ignore[assignment]

    def _round_into(self, x: Array, out: Array, anchor: object) -> None:
        np.copyto(out, x)


def arithmetic(number: Format, *, transpose: bool = True) -> Arithmetic:
    return Arithmetic(number, lambda shape: library_choice(shape, half=True), transpose=transpose)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("transpose", [True, False], ids=["HWC", "CHW"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_are_torchs(transpose: bool, groups: int, dilation: int, padding: int, stride: int) -> None:
    layer = nn.Conv2d(4, 8 if groups < 4 else 4, 3, stride=stride, padding=padding, dilation=dilation, groups=groups)
    x = torch.randn(2, 4, 8, 9, requires_grad=True)

    def passes() -> list[torch.Tensor]:
        y = layer(x)
        return [y.detach(), *torch.autograd.grad(y.sin().sum(), [x, layer.weight, layer.bias])]

    expected = passes()
    with arithmetic(Exact(53, -1022), transpose=transpose):
        found = passes()
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("double")
def test_convolutions_in_one_dimension_too() -> None:
    layer, x = nn.Conv1d(3, 5, 4, stride=2, padding=1), torch.randn(2, 3, 11)
    with arithmetic(Exact(53, -1022)):
        found = layer(x)
    assert torch.allclose(found, layer(x), rtol=0, atol=1e-12)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 12),
        nn.Tanh(),
        nn.Linear(12, 3),
    )


def trained(number: Format, optimizer: Callable[..., torch.optim.Optimizer], **options: object) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    with arithmetic(number):
        model = network()
        steps = optimizer(model.parameters(), **options)
        for _ in range(3):
            x, y = torch.rand(6, 1, 8, 8, generator=draw), torch.randint(3, (6,), generator=draw)
            steps.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            held = [*model.parameters(), *(parameter.grad for parameter in model.parameters())]
            assert all(is_of(number, tensor) for tensor in held)
            steps.step()
    return [parameter.detach() for parameter in model.parameters()]


def is_of(number: Format, tensor: torch.Tensor) -> bool:
    array = tensor.detach().numpy()
    return bool(np.array_equal(number.round(array), array))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_weights_stay_in_the_format(name: str) -> None:
    """Autograd's backward pass goes through the mode, and so do all three ways to step."""
    options = {"lr": 0.1}
    kinds = [{"fused": True}, {"foreach": True}, {"foreach": False}]
    fused, foreach, single = (trained(FORMATS[name], torch.optim.SGD, **options, **kind) for kind in kinds)
    for one, other, third in zip(fused, foreach, single, strict=True):
        assert is_of(FORMATS[name], one)
        assert torch.equal(one, other)
        assert torch.equal(one, third)
    for kind in kinds:
        assert all(
            is_of(FORMATS[name], w) for w in trained(FORMATS[name], torch.optim.Adam, **options, **kind, eps=0.01)
        )


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_one_fused_multiply_add(name: str) -> None:
    number = FORMATS[name]
    draw = np.random.default_rng(0)
    w, g = number.round(draw.standard_normal(500)), number.round(draw.standard_normal(500) * 0.01)
    weight = nn.Parameter(torch.from_numpy(w.copy()))
    weight.grad = torch.from_numpy(g.copy())
    lost = LostUpdates()
    with arithmetic(number), lost.counted():
        torch.optim.SGD([weight], lr=0.1, weight_decay=0.03, fused=True).step()
    rate, decay = (exactly(Fraction(value), number) for value in (0.1, 0.03))
    decayed = [exactly(Fraction(decay) * Fraction(x) + Fraction(y), number) for x, y in zip(w, g, strict=True)]
    expected = [exactly(Fraction(-rate) * Fraction(y) + Fraction(x), number) for x, y in zip(w, decayed, strict=True)]
    assert weight.tolist() == expected
    assert lost.share == pytest.approx(np.mean(np.array(expected) == w))


@pytest.mark.usefixtures("double")
def test_other_types_and_a_pause_are_left_alone() -> None:
    third = torch.tensor(1 / 3)
    with arithmetic(FORMATS["bfloat16"]) as mode:
        assert float(third * 1) == 0.333984375
        assert float(third.float() * 1) == pytest.approx(1 / 3, abs=1e-7)
        with mode.paused():
            assert float(third * 1) == 1 / 3
    assert float(third * 1) == 1 / 3


@pytest.mark.usefixtures("double")
def test_a_linear_layers_batch_lies_in_the_columns() -> None:
    """With one sample the product has one column, for which there is no two-wide kernel."""
    number = FORMATS["binary16"]
    layer = nn.Linear(64, 20, bias=False)
    layer.weight.data = torch.from_numpy(number.round(layer.weight.detach().numpy()))
    x = torch.from_numpy(number.round(np.random.default_rng(0).random((4, 64))))
    weight = layer.weight.detach().numpy()
    with torch.no_grad(), arithmetic(number):
        one, four = layer(x[:1]).numpy(), layer(x).numpy()
    assert np.array_equal(one[0], by_loops(weight, x[:1].numpy().T, number, "naive", True)[:, 0])
    assert np.array_equal(four.T, by_loops(weight, x.numpy().T, number, "4x8", True))
