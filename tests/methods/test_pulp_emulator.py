"""The kernels in C on an emulated RISC-V core: the same bits, and the instructions that the model counts."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from runner.methods.hardware.pulp import emit
from runner.methods.hardware.pulp.formats import FORMATS, Array
from runner.methods.hardware.pulp.kernels import HALF
from runner.methods.hardware.pulp.products import product

pytestmark = pytest.mark.skipif(
    bool(emit.missing()), reason=f"no emulator here: apt-get install {' '.join(emit.missing())}"
)
ODD, LEFT_OVER, EVEN = (16, 33, 18), (17, 20, 18), (16, 64, 16)
NUMBER = FORMATS["binary16"]


@cache
def operands(shape: tuple[int, int, int]) -> tuple[Array, Array]:
    """Random numbers of all sizes: results overflow, underflow and cancel."""
    n, k, m = shape
    draw = np.random.default_rng(k)
    spread = 2.0 ** draw.integers(-9, 9, (k, m))
    return NUMBER.round(draw.standard_normal((n, k))), NUMBER.round(draw.standard_normal((k, m)) * spread)


@cache
def emulated(shape: tuple[int, int, int], kernel: str, transposed: bool) -> emit.Emulated:
    return emit.emulate(*operands(shape), kernel=kernel, transposed=transposed)


@pytest.mark.parametrize("shape", [ODD, LEFT_OVER], ids=str)
@pytest.mark.parametrize("kernel", HALF)
@pytest.mark.parametrize("transposed", [True, False])
def test_equal_bit_for_bit(shape: tuple[int, int, int], kernel: str, transposed: bool) -> None:
    ours = product(*operands(shape), NUMBER, kernel=kernel, transposed=transposed)
    found = emulated(shape, kernel, transposed).result
    assert np.array_equal(found, ours)
    assert np.array_equal(np.signbit(found), np.signbit(ours))
    if transposed and kernel != "naive":  # the orders differ, and it shows
        assert not np.array_equal(found, emulated(shape, "naive", True).result)


def test_overflow_and_subnormals() -> None:
    a = NUMBER.round(np.array([[60000.0, 3e-5, -6e-8, -2e-4], [-60000.0, 6e-8, 0.0, 1e-4]]))
    b = NUMBER.round(np.array([[2.0, 1e-3, -0.0], [1.0, 0.1, 2e-3], [0.3, 0.5, -0.5], [1e-3, 3e-4, 5e-4]]))
    found = emit.emulate(a, b, kernel="naive", transposed=True).result
    ours = product(a, b, NUMBER, kernel="naive", transposed=True)
    assert np.array_equal(found, ours)
    assert np.isinf(found[:, 0]).all()
    assert np.array_equal(np.signbit(found), np.signbit(ours))


@pytest.mark.parametrize("shape", [ODD, EVEN], ids=str)
def test_instructions_of_the_naive_kernel(shape: tuple[int, int, int]) -> None:
    """7 a MAC and 12.5 an output, within 3 %; the count is the same each time."""
    count = emulated(shape, "naive", True).instructions
    assert count == pytest.approx(emit.scalar_instructions(*shape), rel=0.03)
    assert emit.emulate(*operands(shape), kernel="naive", transposed=True).instructions == count
