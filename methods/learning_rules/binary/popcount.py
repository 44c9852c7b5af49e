"""Products of signs by counting bits: compiled where numba is installed, else by numpy, with the same result.

Letters: N windows, P places of a window in an image (row n of N is at place n mod P), O outputs, V words.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

Words = NDArray[np.uint64]
Counts = NDArray[np.int32]
Sums = NDArray[np.float32]

CACHED = 2**15
"""Words that numpy compares at once: what they take fits a processor's cache."""


def products(left: Words, columns: Words, known: Counts) -> Sums:
    """known - 2 popcount(left xor right) [N, O], summed over the words.

    Args:
        left: [N, V].
        columns: right, transposed: [V, O].
        known: [P, O].
    """
    return (compiled() if find_spec("numba") else by_numpy)(left, columns, known)


def by_numpy(left: Words, columns: Words, known: Counts) -> Sums:
    """One pass over memory for each operation."""
    sums = np.empty((len(left), columns.shape[1]), np.float32)
    rows = max(1, CACHED // columns.shape[1])
    for start in range(0, len(left), rows):
        part = left[start : start + rows]
        counts = np.zeros((len(part), columns.shape[1]), np.int32)
        for word, column in enumerate(columns):
            counts += np.bitwise_count(part[:, word, None] ^ column)
        sums[start : start + rows] = known[np.arange(start, start + len(part)) % len(known)] - 2 * counts
    return sums


@cache
def compiled() -> Callable[[Words, Words, Counts], Sums]:
    """The same as ``by_numpy`` in one pass; compiled at its first call, which takes some seconds."""
    import numba

    pairs, quads, nibbles = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
    ones, one, two, four, top = np.uint64(0x0101010101010101), np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)

    @numba.njit
    def count(left: Words, columns: Words, known: Counts) -> Sums:
        outputs = columns.shape[1]
        sums = np.empty((left.shape[0], outputs), np.float32)
        counts = np.empty(outputs, np.int32)
        for row in range(left.shape[0]):
            counts[:] = 0
            for word in range(left.shape[1]):
                bits = left[row, word]
                for output in range(outputs):
                    x = bits ^ columns[word, output]
                    # The compiler knows these three lines as a population count, one instruction of many words.
                    x -= (x >> one) & pairs
                    x = (x & quads) + ((x >> two) & quads)
                    counts[output] += (((x + (x >> four)) & nibbles) * ones) >> top
            place = row % known.shape[0]
            for output in range(outputs):
                sums[row, output] = known[place, output] - 2 * counts[output]
        return sums

    return count  # type: ignore[no-any-return]
