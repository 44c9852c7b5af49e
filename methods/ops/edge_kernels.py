"""The compiled passes of ``edge_messages``; numba is imported here alone.

A kernel is compiled for its message and statistics as constants; numba keeps it on disk. All passes of a node lie
side by side, so that an edge is read once for a group of them, and the loops over the group's ``lanes`` (numbers of one
node) are long enough for vector instructions to pay. Indices are unsigned, which spares a look whether one counts from
the end.
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
_LANES = 256
"""About so many at a time. Measured: 16 take three to four times as long for each number, 128 to 512 about the same."""


def _places(statistics: tuple[str, ...]) -> list[np.uint64]:
    """Which of the output's statistics each one is; 0 for one that is not asked for."""
    names = ("sum", "mean", "max", "min", "std")
    return [np.uint64(statistics.index(name) if name in statistics else 0) for name in names]


@cache
def _message(kind: int) -> Callable[..., Any]:
    """Writes the message of node x by relation r to ``out``: that of ``lanes`` numbers, from the one at ``at`` on."""
    two = np.uint64(2)

    @numba.njit(cache=True, inline="always")
    def message(h, x, w, r, at, lanes, width, out):  # type: ignore[no-untyped-def]
        if kind == 0:
            for j in range(lanes):
                out[j] = h[x, at + j] + w[r, at + j]
        elif kind == 1:
            for j in range(lanes):
                out[j] = h[x, at + j] * w[r, at + j]
        else:
            half = width // two
            for begin in range(at, at + lanes, width):
                for j in range(begin, begin + half):
                    real, imaginary = w[r, j], w[r, half + j]
                    out[j - at] = h[x, j] * real - h[x, half + j] * imaginary
                    out[half + j - at] = h[x, j] * imaginary + h[x, half + j] * real

    return message


@cache
def forward(name: str, statistics: tuple[str, ...]) -> Callable[..., None]:
    """Kernel of (indptr, source, relation, start, h, w, boundary, out, first, last): writes ``out`` of those passes.

    ``h`` [N, B D], ``w`` [R, B D], ``boundary`` [B, D] and ``out`` [N, B, S, D] are contiguous.
    """
    message = _message(_KINDS.index(name))
    has_max, has_min, has_std = (statistic in statistics for statistic in ("max", "min", "std"))
    has_sum, has_mean = "sum" in statistics, "mean" in statistics
    of_sum, of_mean, of_max, of_min, of_std = _places(statistics)
    least = LEAST_VARIANCE
    one, most = np.uint64(1), np.uint64(_LANES)

    @numba.njit(cache=True, nogil=True)
    def kernel(indptr, source, relation, start, h, w, boundary, out, first, last):  # type: ignore[no-untyped-def]
        nodes, width = np.uint64(out.shape[0]), np.uint64(out.shape[3])
        group = max(one, most // width)
        m, total = np.empty(group * width, h.dtype), np.empty(group * width, h.dtype)
        square = np.empty(group * width, h.dtype)
        high, low = np.empty(group * width, h.dtype), np.empty(group * width, h.dtype)
        for begin in range(first, last, group):
            passes = min(group, last - begin)
            at, lanes = begin * width, passes * width
            for v in range(nodes):
                for j in range(lanes):
                    total[j] = h.dtype.type(0)
                for b in range(passes):
                    if start[begin + b] == v:
                        for j in range(width):
                            total[b * width + j] = boundary[begin + b, j]
                if has_std:
                    for j in range(lanes):
                        square[j] = total[j] * total[j]
                if has_max:
                    for j in range(lanes):
                        high[j] = total[j]
                if has_min:
                    for j in range(lanes):
                        low[j] = total[j]
                for e in range(indptr[v], indptr[v + one]):
                    message(h, source[e], w, relation[e], at, lanes, width, m)
                    if has_sum or has_mean:
                        for j in range(lanes):
                            total[j] += m[j]
                    if has_std:
                        for j in range(lanes):
                            square[j] += m[j] * m[j]
                    if has_max:
                        for j in range(lanes):
                            high[j] = m[j] if m[j] > high[j] else high[j]
                    if has_min:
                        for j in range(lanes):
                            low[j] = m[j] if m[j] < low[j] else low[j]
                count = h.dtype.type(indptr[v + one] - indptr[v] + one)
                for b in range(passes):
                    row, lane = begin + b, b * width
                    for j in range(width):
                        mean = total[lane + j] / count
                        if has_sum:
                            out[v, row, of_sum, j] = total[lane + j]
                        if has_mean:
                            out[v, row, of_mean, j] = mean
                        if has_max:
                            out[v, row, of_max, j] = high[lane + j]
                        if has_min:
                            out[v, row, of_min, j] = low[lane + j]
                        if has_std:
                            variance = max(square[lane + j] / count - mean * mean, h.dtype.type(least))
                            out[v, row, of_std, j] = math.sqrt(variance)

    return kernel  # type: ignore[no-any-return]


@cache
def backward(name: str, statistics: tuple[str, ...]) -> Callable[..., None]:
    """Kernel of (…, out, gradient, d_h, d_w, d_boundary, first, last): adds to the three gradients.

    With n messages into v, the gradient of message m is (elementwise)::

        g_sum + g_mean / n + g_std (m - mean) / (n std) + [m = max] g_max / #max + [m = min] g_min / #min
    """
    kind = _KINDS.index(name)
    message = _message(kind)
    has_max, has_min, has_std = (statistic in statistics for statistic in ("max", "min", "std"))
    has_sum, has_mean = "sum" in statistics, "mean" in statistics
    of_sum, of_mean, of_max, of_min, of_std = _places(statistics)
    least = math.sqrt(LEAST_VARIANCE)
    step, two, most = np.uint64(1), np.uint64(2), np.uint64(_LANES)

    @numba.njit(cache=True, nogil=True)
    def kernel(  # type: ignore[no-untyped-def]
        indptr, source, relation, start, h, w, boundary, out, gradient, d_h, d_w, d_boundary, first, last
    ):
        zero, one = h.dtype.type(0), h.dtype.type(1)
        nodes, width = np.uint64(out.shape[0]), np.uint64(out.shape[3])
        half, group = width // two, max(step, most // width)
        size = group * width
        m, own, g = np.zeros(size, h.dtype), np.zeros(size, h.dtype), np.zeros(size, h.dtype)
        base, slope = np.zeros(size, h.dtype), np.zeros(size, h.dtype)
        high, low = np.zeros(size, h.dtype), np.zeros(size, h.dtype)
        of_high, of_low = np.zeros(size, h.dtype), np.zeros(size, h.dtype)
        for begin in range(first, last, group):
            passes = min(group, last - begin)
            at, lanes = begin * width, passes * width
            for v in range(nodes):
                count = h.dtype.type(indptr[v + step] - indptr[v] + step)
                for j in range(lanes):
                    own[j] = zero
                    base[j] = zero
                for b in range(passes):
                    row, lane = begin + b, b * width
                    if start[row] == v:
                        for j in range(width):
                            own[lane + j] = boundary[row, j]
                    for j in range(width):
                        if has_sum:
                            base[lane + j] += gradient[v, row, of_sum, j]
                        if has_mean:
                            base[lane + j] += gradient[v, row, of_mean, j] / count
                        if has_std:
                            std = out[v, row, of_std, j]
                            share = gradient[v, row, of_std, j] / (std * count) if std > h.dtype.type(least) else zero
                            slope[lane + j] = share
                            base[lane + j] -= share * out[v, row, of_mean, j]
                        if has_max:
                            high[lane + j] = out[v, row, of_max, j]
                            of_high[lane + j] = one if own[lane + j] == high[lane + j] else zero
                        if has_min:
                            low[lane + j] = out[v, row, of_min, j]
                            of_low[lane + j] = one if own[lane + j] == low[lane + j] else zero
                if has_max or has_min:
                    for e in range(indptr[v], indptr[v + step]):
                        message(h, source[e], w, relation[e], at, lanes, width, m)
                        if has_max:
                            for j in range(lanes):
                                of_high[j] += one if m[j] == high[j] else zero
                        if has_min:
                            for j in range(lanes):
                                of_low[j] += one if m[j] == low[j] else zero
                    for b in range(passes):  # from how many share it to what each gets
                        row, lane = begin + b, b * width
                        for j in range(width):
                            if has_max:
                                of_high[lane + j] = gradient[v, row, of_max, j] / of_high[lane + j]
                            if has_min:
                                of_low[lane + j] = gradient[v, row, of_min, j] / of_low[lane + j]
                for b in range(passes):
                    if start[begin + b] == v:
                        for j in range(width):
                            lane = b * width + j
                            share = base[lane] + slope[lane] * own[lane]
                            if has_max and own[lane] == high[lane]:
                                share += of_high[lane]
                            if has_min and own[lane] == low[lane]:
                                share += of_low[lane]
                            d_boundary[begin + b, j] += share
                for e in range(indptr[v], indptr[v + step]):
                    x, r = source[e], relation[e]
                    if has_std or has_max or has_min:
                        message(h, x, w, r, at, lanes, width, m)
                    for j in range(lanes):
                        g[j] = base[j] + slope[j] * m[j]
                    if has_max:
                        for j in range(lanes):
                            g[j] += of_high[j] if m[j] == high[j] else zero
                    if has_min:
                        for j in range(lanes):
                            g[j] += of_low[j] if m[j] == low[j] else zero
                    if kind == 0:
                        for j in range(lanes):
                            d_h[x, at + j] += g[j]
                        for j in range(lanes):
                            d_w[r, at + j] += g[j]
                    elif kind == 1:
                        for j in range(lanes):
                            d_h[x, at + j] += g[j] * w[r, at + j]
                        for j in range(lanes):
                            d_w[r, at + j] += g[j] * h[x, at + j]
                    else:
                        for first_lane in range(at, at + lanes, width):
                            for j in range(first_lane, first_lane + half):
                                p, q = g[j - at], g[half + j - at]
                                real, imaginary = w[r, j], w[r, half + j]
                                d_h[x, j] += p * real + q * imaginary
                                d_h[x, half + j] += q * real - p * imaginary
                                d_w[r, j] += p * h[x, j] + q * h[x, half + j]
                                d_w[r, half + j] += q * h[x, j] - p * h[x, half + j]

    return kernel  # type: ignore[no-any-return]
