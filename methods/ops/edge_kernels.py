"""The compiled passes of ``edge_messages``; numba is imported here alone.

A kernel is compiled for its message, width and statistics as constants, so that loops over a row are unrolled; numba
keeps it on disk. ``s = position of a statistic`` in the output; -1 where it is not asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from runner.methods.ops.edge_messages import LEAST_VARIANCE

_KINDS = ("transe", "distmult", "rotate")


def _positions(statistics: tuple[str, ...], width: int) -> list[int]:
    return [
        statistics.index(name) * width if name in statistics else -1 for name in ("sum", "mean", "max", "min", "std")
    ]


@cache
def _message(kind: int, width: int) -> Callable[..., Any]:
    half = width // 2

    @numba.njit(cache=True)
    def message(h, w, out):  # type: ignore[no-untyped-def]
        if kind == 0:
            for j in range(width):
                out[j] = h[j] + w[j]
        elif kind == 1:
            for j in range(width):
                out[j] = h[j] * w[j]
        else:
            for j in range(half):
                a, b, c, d = h[j], h[half + j], w[j], w[half + j]
                out[j] = a * c - b * d
                out[half + j] = a * d + b * c

    return message


@cache
def forward(name: str, width: int, statistics: tuple[str, ...]) -> Callable[..., None]:
    """Kernel of (indptr, source, relation, start, h, w, boundary, out, first, last): writes ``out`` of those passes."""
    message = _message(_KINDS.index(name), width)
    at_sum, at_mean, at_max, at_min, at_std = _positions(statistics, width)
    least = LEAST_VARIANCE

    @numba.njit(cache=True, nogil=True)
    def kernel(indptr, source, relation, start, h, w, boundary, out, first, last):  # type: ignore[no-untyped-def]
        rows = np.empty((5, width), h.dtype)
        m, total, square, high, low = rows[0], rows[1], rows[2], rows[3], rows[4]
        for b in range(first, last):
            of_w = b if w.shape[0] > 1 else 0
            for v in range(h.shape[1]):
                if v == start[b]:
                    m[:] = boundary[b]
                else:
                    m[:] = 0
                for j in range(width):
                    total[j] = high[j] = low[j] = m[j]
                    square[j] = m[j] * m[j]
                for e in range(indptr[v], indptr[v + 1]):
                    message(h[b, source[e]], w[of_w, relation[e]], m)
                    for j in range(width):
                        total[j] += m[j]
                    if at_std >= 0:
                        for j in range(width):
                            square[j] += m[j] * m[j]
                    if at_max >= 0:
                        for j in range(width):
                            high[j] = max(high[j], m[j])
                    if at_min >= 0:
                        for j in range(width):
                            low[j] = min(low[j], m[j])
                row = out[b, v]
                count = h.dtype.type(indptr[v + 1] - indptr[v] + 1)
                for j in range(width):
                    mean = total[j] / count
                    if at_sum >= 0:
                        row[at_sum + j] = total[j]
                    if at_mean >= 0:
                        row[at_mean + j] = mean
                    if at_max >= 0:
                        row[at_max + j] = high[j]
                    if at_min >= 0:
                        row[at_min + j] = low[j]
                    if at_std >= 0:
                        row[at_std + j] = math.sqrt(max(square[j] / count - mean * mean, h.dtype.type(least)))

    return kernel  # type: ignore[no-any-return]


@cache
def backward(name: str, width: int, statistics: tuple[str, ...]) -> Callable[..., None]:
    """Kernel of (…, out, gradient, d_h, d_w, d_boundary, first, last): adds to the three gradients.

    With n messages into v, the gradient of message m is (elementwise)::

        g_sum + g_mean / n + g_std (m - mean) / (n std) + [m = max] g_max / #max + [m = min] g_min / #min
    """
    kind, half = _KINDS.index(name), width // 2
    message = _message(kind, width)
    at_sum, at_mean, at_max, at_min, at_std = _positions(statistics, width)
    least = math.sqrt(LEAST_VARIANCE)

    @numba.njit(cache=True, nogil=True)
    def kernel(  # type: ignore[no-untyped-def]
        indptr, source, relation, start, h, w, boundary, out, gradient, d_h, d_w, d_boundary, first, last
    ):
        zero, one = h.dtype.type(0), h.dtype.type(1)
        rows = np.zeros((9, width), h.dtype)
        m, own, base, slope, g = rows[0], rows[1], rows[2], rows[3], rows[4]
        high, low, of_high, of_low = rows[5], rows[6], rows[7], rows[8]
        for b in range(first, last):
            of_w = b if w.shape[0] > 1 else 0
            for v in range(h.shape[1]):
                row, g_row = out[b, v], gradient[b, v]
                count = h.dtype.type(indptr[v + 1] - indptr[v] + 1)
                if v == start[b]:
                    own[:] = boundary[b]
                else:
                    own[:] = 0
                for j in range(width):
                    base[j] = slope[j] = zero
                    if at_sum >= 0:
                        base[j] += g_row[at_sum + j]
                    if at_mean >= 0:
                        base[j] += g_row[at_mean + j] / count
                    if at_std >= 0 and row[at_std + j] > h.dtype.type(least):
                        slope[j] = g_row[at_std + j] / (row[at_std + j] * count)
                        base[j] -= slope[j] * row[at_mean + j]
                if at_max >= 0 or at_min >= 0:
                    for j in range(width):
                        if at_max >= 0:
                            high[j] = row[at_max + j]
                            of_high[j] = one if own[j] == high[j] else zero
                        if at_min >= 0:
                            low[j] = row[at_min + j]
                            of_low[j] = one if own[j] == low[j] else zero
                    for e in range(indptr[v], indptr[v + 1]):
                        message(h[b, source[e]], w[of_w, relation[e]], m)
                        if at_max >= 0:
                            for j in range(width):
                                of_high[j] += one if m[j] == high[j] else zero
                        if at_min >= 0:
                            for j in range(width):
                                of_low[j] += one if m[j] == low[j] else zero
                    for j in range(width):  # from how many share it to what each gets
                        if at_max >= 0:
                            of_high[j] = g_row[at_max + j] / of_high[j]
                        if at_min >= 0:
                            of_low[j] = g_row[at_min + j] / of_low[j]
                if v == start[b]:
                    for j in range(width):
                        x = own[j]
                        d_boundary[b, j] += base[j] + slope[j] * x
                        if at_max >= 0 and x == high[j]:
                            d_boundary[b, j] += of_high[j]
                        if at_min >= 0 and x == low[j]:
                            d_boundary[b, j] += of_low[j]
                for e in range(indptr[v], indptr[v + 1]):
                    x, r = source[e], relation[e]
                    h_x, w_r, d_h_x, d_w_r = h[b, x], w[of_w, r], d_h[b, x], d_w[b, r]
                    message(h_x, w_r, m)
                    for j in range(width):
                        g[j] = base[j] + slope[j] * m[j]
                    if at_max >= 0:
                        for j in range(width):
                            g[j] += of_high[j] if m[j] == high[j] else zero
                    if at_min >= 0:
                        for j in range(width):
                            g[j] += of_low[j] if m[j] == low[j] else zero
                    if kind == 0:
                        for j in range(width):
                            d_h_x[j] += g[j]
                            d_w_r[j] += g[j]
                    elif kind == 1:
                        for j in range(width):
                            d_h_x[j] += g[j] * w_r[j]
                            d_w_r[j] += g[j] * h_x[j]
                    else:
                        for j in range(half):
                            p, q = g[j], g[half + j]
                            d_h_x[j] += p * w_r[j] + q * w_r[half + j]
                            d_h_x[half + j] += q * w_r[j] - p * w_r[half + j]
                            d_w_r[j] += p * h_x[j] + q * h_x[half + j]
                            d_w_r[half + j] += q * h_x[j] - p * h_x[half + j]

    return kernel  # type: ignore[no-any-return]
