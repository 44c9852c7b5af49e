"""16-bit floating-point formats, emulated exactly on float64 arrays.

A number of the format is stored as the float64 of the same value. Ties go to even, subnormals are kept, what is
too large becomes infinite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MANTISSA, BIAS = 52, 1023
EXPONENT = np.int64(0x7FF << MANTISSA)

MULTIPLIED_AT_ONCE = 2**17
"""Products of a chain that are made in one call; float64 holds them exactly."""


@dataclass(frozen=True)
class Format:
    """How a real number becomes a number of the format."""

    precision: int
    """p: bits of a normal number's significand, the hidden one included."""
    least: int
    """Exponent of the least normal number; subnormals are multiples of 2^(least - p + 1)."""
    native: type[np.floating[Any]] | None = None
    """NumPy's own type of the format, if it has one: a cast to it rounds once, and is faster than the general way."""

    @property
    def largest(self) -> float:
        """The largest finite number; exponents are symmetric."""
        return (2 - 2.0 ** (1 - self.precision)) * 2.0 ** (1 - self.least)

    def round(self, x: Array) -> Array:
        """The nearest number of the format, rounded once; a new array."""
        x = np.asarray(x, np.float64)
        if self.native:
            with np.errstate(over="ignore"):
                return x.astype(self.native).astype(np.float64)
        result, anchor = np.empty_like(x), np.empty(x.shape, np.int64)
        self._round_into(x, result, anchor)
        return self._bounded(result)

    def _round_into(self, x: Array, out: Array, anchor: NDArray[np.int64]) -> None:
        """(x + c) - c, where float64 itself rounds to the format's places; not yet bounded, but where NumPy casts.

        With 2^e <= |x| < 2^(e+1), c = 1.5 * 2^(e + 53 - p): a sum with it has its last place at 2^(e + 1 - p). Below
        the least normal number e stays at its exponent. Nothing is rounded twice: the subtraction is exact.
        """
        if self.native:
            np.copyto(out, x.astype(self.native))
            return
        np.bitwise_and(x.view(np.int64), EXPONENT, out=anchor)
        np.maximum(anchor, np.int64((self.least + BIAS) << MANTISSA), out=anchor)
        anchor += np.int64(((MANTISSA + 1 - self.precision) << MANTISSA) + (1 << (MANTISSA - 1)))
        c = anchor.view(np.float64)
        np.add(x, c, out=out)
        out -= c
        np.copysign(out, x, out=out)

    def _bounded(self, x: Array) -> Array:
        size = np.abs(x)
        if (size > self.largest).any():
            return np.where(size > self.largest, np.copysign(np.inf, x), x)
        return x

    def fma(self, a: Array, b: Array, c: Array) -> Array:
        """a b + c with one rounding, for numbers of the format; broadcasts."""
        product = np.multiply(a, b)
        return self.round(_sum_to_odd(product, np.broadcast_to(c, product.shape)))

    def chain(self, first: Array, second: Array) -> Array:
        """acc <- fma(a_k, b_k, acc) from 0, for a [K, ...] and b [K, ...] that broadcast."""
        shape = np.broadcast_shapes(first.shape[1:], second.shape[1:])
        acc, anchor = np.zeros(shape), np.empty(shape, np.int64)
        plain, small = self._foresee(first, second)
        at_once = max(1, MULTIPLIED_AT_ONCE // max(1, acc.size))
        for start in range(0, len(first), at_once):
            for total in np.multiply(first[start : start + at_once], second[start : start + at_once]):
                if plain:
                    total += acc
                else:
                    total = _sum_to_odd(total, acc)
                self._round_into(total, acc, anchor)
                if not (small or self.native):
                    acc = self._bounded(acc)
        return acc

    def _foresee(self, first: Array, second: Array) -> tuple[bool, bool]:
        """Whether float64 holds every sum of a chain exactly, or well enough; whether none can overflow.

        Every sum is a multiple of the product of the operands' last places. With 11 bits a sum that float64 has
        to round is never near a tie of the format: exponents don't lie far enough apart.
        """
        axes = tuple(range(1, max(first.ndim, second.ndim)))
        sizes = [np.abs(first), np.abs(second)]
        most = float((sizes[0].max(axis=axes) * sizes[1].max(axis=axes)).sum()) * 2 if len(first) else 0.0
        small = most < self.largest
        if 2 * self.precision + 2 * -self.least <= 2 * MANTISSA:
            return True, small
        least = [float(size.min(where=size > 0, initial=np.inf)) for size in sizes]
        place = least[0] * least[1] * 2.0 ** (-2 * self.precision)
        return bool(most <= place * 2.0**MANTISSA), small


def _sum_to_odd(one: Array, other: Array) -> Array:
    """one + other; where float64 has to round, to the neighbour with an odd last bit.

    So a second rounding, to a format of at most 51 bits, comes out as if it were the only one.
    """
    total = np.add(one, other)
    part = total - one
    lost = (one - (total - part)) + (other - part)
    if lost.any():
        even = (np.asarray(total).view(np.int64) & 1) == 0
        moved = np.nextafter(total, np.copysign(np.inf, lost))
        total = np.where(even & (lost != 0) & np.isfinite(lost), moved, total)
    return total


FORMATS = {"binary16": Format(precision=11, least=-14, native=np.float16), "bfloat16": Format(precision=8, least=-126)}
"""By the names that ``hardware.numerics`` takes."""
