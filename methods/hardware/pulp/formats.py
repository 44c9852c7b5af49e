"""16-bit floating-point formats, emulated exactly on float64 arrays.

A number of the format is stored as the float64 of the same value. Ties go to even, subnormals are kept, what is
too large becomes infinite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Format(ABC):
    """How a real number becomes a number of the format."""

    @abstractmethod
    def round(self, x: Array) -> Array:
        """The nearest number of the format, rounded once; a new array."""

    def fma(self, a: Array, b: Array, c: Array) -> Array:
        """a b + c with one rounding, for numbers of the format; broadcasts."""
        return self.round(a * b + c)


class Binary16(Format):
    """IEEE 754 half: 5 bits of exponent, 11 of precision.

    In float64 a product has at most 22 bits, and a sum that is rounded to 53 bits first falls on the same side of
    a half's tie: 53 bits are more than twice 11 and two, and no exponent lies as far apart as would matter.
    """

    def round(self, x: Array) -> Array:
        """By NumPy, whose conversion rounds float64 once (torch's goes through float32 and rounds twice)."""
        return np.asarray(x, np.float64).astype(np.float16).astype(np.float64)


class BFloat16(Format):
    """The upper half of a float32: 8 bits of exponent, 8 of precision."""

    DROPPED = 52 - 7
    TIE = 1 << (DROPPED - 1)
    MASK = (1 << DROPPED) - 1
    LEAST_NORMAL, LEAST, OVERFLOW = 2.0**-126, 2.0**-133, 2.0**128

    def round(self, x: Array) -> Array:
        """To nearest on the bits; below the least normal number to a multiple of the least number."""
        x = np.asarray(x, np.float64)
        bits = np.atleast_1d(x).view(np.int64)
        rounded = ((bits + (self.TIE - 1) + ((bits >> self.DROPPED) & 1)) & ~self.MASK).view(np.float64)
        rounded = rounded.reshape(x.shape)
        size = np.abs(x)
        if (small := size < self.LEAST_NORMAL).any():
            rounded = np.where(small, np.rint(x / self.LEAST) * self.LEAST, rounded)
        if not (size < self.OVERFLOW / 2).all():
            rounded = np.where(np.abs(rounded) < self.OVERFLOW, rounded, np.copysign(np.inf, x))
            rounded = np.where(np.isnan(x), x, rounded)
        return rounded

    def fma(self, a: Array, b: Array, c: Array) -> Array:
        """Exponents may lie so far apart that float64 loses an addend that would decide a tie: rounded to odd first."""
        product = a * b
        total = product + c
        part = total - product
        lost = (product - (total - part)) + (c - part)
        if lost.any():
            even = (total.view(np.int64) & 1) == 0
            sticky = even & (lost != 0) & np.isfinite(lost)
            total = np.where(sticky, np.nextafter(total, np.copysign(np.inf, lost)), total)
        return self.round(total)


FORMATS: dict[str, Format] = {"binary16": Binary16(), "bfloat16": BFloat16()}
"""By the names that ``hardware.numerics`` takes."""
