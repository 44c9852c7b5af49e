"""Matrix products as the 16-bit kernels compute them: one rounding a multiply-accumulate, in the kernel's order.

Vectorised over the outputs; the loop is over k alone. Letters: N, K, M as in ``kernels``.
"""

from __future__ import annotations

import numpy as np

from runner.methods.hardware.pulp.formats import Array, Format
from runner.methods.hardware.pulp.kernels import HALF


def product(a: Array, b: Array, number: Format, *, kernel: str, transposed: bool) -> Array:
    """C [..., N, M] for A [..., N, K] and B [..., K, M], whose entries are numbers of the format.

    Two-wide kernels with B^T keep two chains, over even and over odd k, and add them at the end. All that is left
    over by columns, and everything where B lies as it is, is one chain in the order of k.
    """
    wide = HALF[kernel]
    two_lane = b.shape[-1] - b.shape[-1] % wide.columns if transposed and wide.width == 2 else 0
    first = _places(a, -1)[..., :, None]
    second = _places(b, -2)[..., None, :]
    with np.errstate(over="ignore", invalid="ignore"):
        if not two_lane:
            return number.chain(first, second)
        lanes = _lanes(first, second[..., :two_lane], number, apart=kernel == "2x4")
        if two_lane == b.shape[-1]:
            return lanes
        return np.concatenate([lanes, number.chain(first, second[..., two_lane:])], axis=-1)


def _places(matrix: Array, axis: int) -> Array:
    """Contiguous, with the axis of k first."""
    return np.ascontiguousarray(np.moveaxis(matrix, axis, 0))


def _lanes(first: Array, second: Array, number: Format, *, apart: bool) -> Array:
    """Even and odd k; an odd last k joins the even chain, or is added on its own where ``apart``."""
    inner = len(first) // 2 * 2
    paired = [matrix[:inner].reshape(inner // 2, 2, *matrix.shape[1:]) for matrix in (first, second)]
    even, odd = number.chain(paired[0], paired[1])
    if inner < len(first) and not apart:
        even = number.fma(first[-1], second[-1], even)
    total = number.round(even + odd)
    if inner < len(first) and apart:
        total = number.round(number.round(first[-1] * second[-1]) + total)
    return total
