"""The compiled passes of ``edge_messages``; numba is imported here alone.

A kernel is compiled for its message, width and statistics as constants, so that loops over a row become vector
instructions; numba keeps it on disk. Indices are unsigned, which spares a look whether one counts from the end.
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


def _positions(statistics: tuple[str, ...], width: int) -> list[np.uint64]:
    """Where each statistic begins in a row of the output; 0 for one that is not asked for."""
    names = ("sum", "mean", "max", "min", "std")
    return [np.uint64(statistics.index(name) * width if name in statistics else 0) for name in names]


@cache
def _message(kind: int, width: int) -> Callable[..., Any]:
    """Writes the message of h[b, x] and w[c, r] to ``out``."""
    half = np.uint64(width // 2)
    whole = np.uint64(width)

    @numba.njit(cache=True, inline="always")
    def message(h, b, x, w, c, r, out):  # type: ignore[no-untyped-def]
        if kind == 0:
            for j in range(whole):
                out[j] = h[b, x, j] + w[c, r, j]
        elif kind == 1:
            for j in range(whole):
                out[j] = h[b, x, j] * w[c, r, j]
        else:
            for j in range(half):
                real, imaginary = w[c, r, j], w[c, r, half + j]
                out[j] = h[b, x, j] * real - h[b, x, half + j] * imaginary
                out[half + j] = h[b, x, j] * imaginary + h[b, x, half + j] * real

    return message


@cache
def forward(name: str, width: int, statistics: tuple[str, ...]) -> Callable[..., None]:
    """Kernel of (indptr, source, relation, start, h, w, boundary, out, first, last): writes ``out`` of those passes."""
    message = _message(_KINDS.index(name), width)
    has_max, has_min, has_std = (statistic in statistics for statistic in ("max", "min", "std"))
    has_sum, has_mean = "sum" in statistics, "mean" in statistics
    at_sum, at_mean, at_max, at_min, at_std = _positions(statistics, width)
    least = LEAST_VARIANCE
    whole, one = np.uint64(width), np.uint64(1)

    @numba.njit(cache=True, nogil=True)
    def kernel(indptr, source, relation, start, h, w, boundary, out, first, last):  # type: ignore[no-untyped-def]
        m, total, square = np.empty(width, h.dtype), np.empty(width, h.dtype), np.empty(width, h.dtype)
        high, low = np.empty(width, h.dtype), np.empty(width, h.dtype)
        nodes = np.uint64(h.shape[1])
        for b in range(first, last):
            c = b if w.shape[0] > 1 else np.uint64(0)
            for v in range(nodes):
                for j in range(whole):
                    m[j] = boundary[b, j] if v == start[b] else h.dtype.type(0)
                for j in range(whole):
                    total[j] = m[j]
                    square[j] = m[j] * m[j]
                    high[j] = m[j]
                    low[j] = m[j]
                for e in range(indptr[v], indptr[v + one]):
                    message(h, b, source[e], w, c, relation[e], m)
                    for j in range(whole):
                        total[j] += m[j]
                    if has_std:
                        for j in range(whole):
                            square[j] += m[j] * m[j]
                    if has_max:
                        for j in range(whole):
                            high[j] = m[j] if m[j] > high[j] else high[j]
                    if has_min:
                        for j in range(whole):
                            low[j] = m[j] if m[j] < low[j] else low[j]
                count = h.dtype.type(indptr[v + one] - indptr[v] + one)
                for j in range(whole):
                    mean = total[j] / count
                    if has_sum:
                        out[b, v, at_sum + j] = total[j]
                    if has_mean:
                        out[b, v, at_mean + j] = mean
                    if has_max:
                        out[b, v, at_max + j] = high[j]
                    if has_min:
                        out[b, v, at_min + j] = low[j]
                    if has_std:
                        out[b, v, at_std + j] = math.sqrt(max(square[j] / count - mean * mean, h.dtype.type(least)))

    return kernel  # type: ignore[no-any-return]


@cache
def backward(name: str, width: int, statistics: tuple[str, ...]) -> Callable[..., None]:
    """Kernel of (…, out, gradient, d_h, d_w, d_boundary, first, last): adds to the three gradients.

    With n messages into v, the gradient of message m is (elementwise)::

        g_sum + g_mean / n + g_std (m - mean) / (n std) + [m = max] g_max / #max + [m = min] g_min / #min
    """
    kind = _KINDS.index(name)
    message = _message(kind, width)
    has_max, has_min, has_std = (statistic in statistics for statistic in ("max", "min", "std"))
    has_sum, has_mean = "sum" in statistics, "mean" in statistics
    at_sum, at_mean, at_max, at_min, at_std = _positions(statistics, width)
    least = math.sqrt(LEAST_VARIANCE)
    whole, half, step = np.uint64(width), np.uint64(width // 2), np.uint64(1)

    @numba.njit(cache=True, nogil=True)
    def kernel(  # type: ignore[no-untyped-def]
        indptr, source, relation, start, h, w, boundary, out, gradient, d_h, d_w, d_boundary, first, last
    ):
        zero, one = h.dtype.type(0), h.dtype.type(1)
        m, own, g = np.zeros(width, h.dtype), np.zeros(width, h.dtype), np.zeros(width, h.dtype)
        base, slope = np.zeros(width, h.dtype), np.zeros(width, h.dtype)
        high, low = np.zeros(width, h.dtype), np.zeros(width, h.dtype)
        of_high, of_low = np.zeros(width, h.dtype), np.zeros(width, h.dtype)
        nodes = np.uint64(h.shape[1])
        for b in range(first, last):
            c = b if w.shape[0] > 1 else np.uint64(0)
            for v in range(nodes):
                count = h.dtype.type(indptr[v + step] - indptr[v] + step)
                for j in range(whole):
                    own[j] = boundary[b, j] if v == start[b] else zero
                    base[j] = zero
                    slope[j] = zero
                    if has_sum:
                        base[j] += gradient[b, v, at_sum + j]
                    if has_mean:
                        base[j] += gradient[b, v, at_mean + j] / count
                    if has_std and out[b, v, at_std + j] > h.dtype.type(least):
                        slope[j] = gradient[b, v, at_std + j] / (out[b, v, at_std + j] * count)
                        base[j] -= slope[j] * out[b, v, at_mean + j]
                    if has_max:
                        high[j] = out[b, v, at_max + j]
                        of_high[j] = one if own[j] == high[j] else zero
                    if has_min:
                        low[j] = out[b, v, at_min + j]
                        of_low[j] = one if own[j] == low[j] else zero
                if has_max or has_min:
                    for e in range(indptr[v], indptr[v + step]):
                        message(h, b, source[e], w, c, relation[e], m)
                        if has_max:
                            for j in range(whole):
                                of_high[j] += one if m[j] == high[j] else zero
                        if has_min:
                            for j in range(whole):
                                of_low[j] += one if m[j] == low[j] else zero
                    for j in range(whole):  # from how many share it to what each gets
                        if has_max:
                            of_high[j] = gradient[b, v, at_max + j] / of_high[j]
                        if has_min:
                            of_low[j] = gradient[b, v, at_min + j] / of_low[j]
                if v == start[b]:
                    for j in range(whole):
                        d_boundary[b, j] += base[j] + slope[j] * own[j]
                        if has_max and own[j] == high[j]:
                            d_boundary[b, j] += of_high[j]
                        if has_min and own[j] == low[j]:
                            d_boundary[b, j] += of_low[j]
                for e in range(indptr[v], indptr[v + step]):
                    x, r = source[e], relation[e]
                    message(h, b, x, w, c, r, m)
                    for j in range(whole):
                        g[j] = base[j] + slope[j] * m[j]
                    if has_max:
                        for j in range(whole):
                            g[j] += of_high[j] if m[j] == high[j] else zero
                    if has_min:
                        for j in range(whole):
                            g[j] += of_low[j] if m[j] == low[j] else zero
                    if kind == 0:
                        for j in range(whole):
                            d_h[b, x, j] += g[j]
                            d_w[b, r, j] += g[j]
                    elif kind == 1:
                        for j in range(whole):
                            d_h[b, x, j] += g[j] * w[c, r, j]
                            d_w[b, r, j] += g[j] * h[b, x, j]
                    else:
                        for j in range(half):
                            p, q = g[j], g[half + j]
                            real, imaginary = w[c, r, j], w[c, r, half + j]
                            d_h[b, x, j] += p * real + q * imaginary
                            d_h[b, x, half + j] += q * real - p * imaginary
                            d_w[b, r, j] += p * h[b, x, j] + q * h[b, x, half + j]
                            d_w[b, r, half + j] += q * h[b, x, j] - p * h[b, x, half + j]

    return kernel  # type: ignore[no-any-return]
