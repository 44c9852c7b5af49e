"""The compiled passes over a tile of edges; numba is imported here alone.

A Gaussian more than a few spacings away from a distance is lost in rounding: with the centres a spacing delta apart,
exp(gamma (d - mu)^2) = exp(-((d - mu) / delta)^2 / 2). So the filter's first layer sums a window of weight rows, whose
length is a constant of the compiled code, instead of a matrix product with the whole basis, which is never written.

Letters: T edges of a tile, N beads, F filters, K basis functions. Indices are unsigned, which spares a look whether one
counts from the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import torch

REACH = {torch.float32: 7, torch.float64: 9}
"""Centres on each side of a distance that count: exp(-49 / 2) = 2e-11 and exp(-81 / 2) = 3e-18 are left out."""

_options = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy"}


class Kernels(NamedTuple):
    """All for one dtype; what they do stands with each below."""

    hidden: Callable[..., None]
    hidden_and_slope: Callable[..., None]
    add: Callable[..., None]
    multiply: Callable[..., None]
    contract: Callable[..., None]


@cache
def kernels(dtype: torch.dtype) -> Kernels:
    """Compiled at their first call, and kept on disk."""
    reach = REACH[dtype]
    return Kernels(_hidden(reach, False), _hidden(reach, True), _add(), _multiply(), _contract())


@cache
def _hidden(reach: int, sloped: bool) -> Callable[..., None]:
    """Kernel of (d [T], rows [K + 2 reach - 1, F], bias [F], spacing, cutoff, keep, h [T, F], u [T, F]).

    With h = tanh(a), a = sum_k rbf_k(d) A_k + b, it writes fc h to ``h``; ``sloped``: and d(fc h)/dd to ``u``, in which
    the derivative of this fc counts ``keep`` times. ``rows`` is A transposed, reach - 1 rows of zeros before it and
    reach behind.
    """
    window, tanh = 2 * reach, _tanh(reach == REACH[torch.float32])
    of_offset = np.exp(-0.5 * np.arange(1 - reach, reach + 1) ** 2.0)

    @numba.njit(**_options)
    def kernel(d, rows, bias, spacing, cutoff, keep, h, u):  # type: ignore[no-untyped-def]
        value = d.dtype.type
        one, filters, at_most = value(1), np.uint64(len(bias)), np.uint64(len(rows) - window)
        gaussian, sloping = np.empty(window, d.dtype), np.empty(window, d.dtype)
        for r in range(np.uint64(len(d))):
            turn = math.pi / cutoff
            inside = d[r] < cutoff
            fc = 0.5 * (math.cos(d[r] * turn) + 1.0) if inside else 0.0
            slope = -0.5 * turn * math.sin(d[r] * turn) if inside else 0.0
            first = min(np.uint64(d[r] / spacing), at_most)
            t = d[r] / spacing - first
            # exp(-(t - o)^2 / 2) = exp(-t^2 / 2) exp(t)^o exp(-o^2 / 2)
            growth = math.exp(t)
            scale = math.exp(-0.5 * t * t) * growth ** (1 - reach)
            for k in range(window):
                found = scale * of_offset[k]
                scale *= growth
                gaussian[k] = value(found * fc)
                if sloped:
                    sloping[k] = value(found * (slope - fc * (t - (k + 1 - reach)) / spacing))
            inner, outer = value(fc), value(keep * slope)
            for f in range(filters):
                a = bias[f]
                for k in range(window):
                    a += gaussian[k] * rows[first + np.uint64(k), f]
                found = tanh(a)
                h[r, f] = inner * found
                if sloped:
                    along = value(0)
                    for k in range(window):
                        along += sloping[k] * rows[first + np.uint64(k), f]
                    u[r, f] = inner * (one - found * found) * along + outer * found

    return kernel  # type: ignore[no-any-return]


@cache
def _add() -> Callable[..., None]:
    """Kernel of (source [T], destination [T], w [T, F], y [N, F], m [N, F], both): m_i += w y_j; both: m_j += w y_i."""

    @numba.njit(**_options)
    def kernel(source, destination, w, y, m, both):  # type: ignore[no-untyped-def]
        filters = np.uint64(w.shape[1])
        for r in range(np.uint64(len(source))):
            j, i = source[r], destination[r]
            for f in range(filters):
                m[i, f] += w[r, f] * y[j, f]
            if both:
                for f in range(filters):
                    m[j, f] += w[r, f] * y[i, f]

    return kernel  # type: ignore[no-any-return]


@cache
def _multiply() -> Callable[..., None]:
    """Kernel of (source [T], destination [T], y [N, F], g [N, F], q [T, F], both): q = y_j g_i; both: + y_i g_j."""

    @numba.njit(**_options)
    def kernel(source, destination, y, g, q, both):  # type: ignore[no-untyped-def]
        filters = np.uint64(q.shape[1])
        for r in range(np.uint64(len(source))):
            j, i = source[r], destination[r]
            if both:
                for f in range(filters):
                    q[r, f] = y[j, f] * g[i, f] + y[i, f] * g[j, f]
            else:
                for f in range(filters):
                    q[r, f] = y[j, f] * g[i, f]

    return kernel  # type: ignore[no-any-return]


@cache
def _contract() -> Callable[..., None]:
    """Kernel of (q [T, F], u [T, F], slope [T]): slope += q . u."""

    @numba.njit(**_options)
    def kernel(q, u, slope):  # type: ignore[no-untyped-def]
        for r in range(np.uint64(len(q))):
            found = slope.dtype.type(0)
            for f in range(np.uint64(q.shape[1])):
                found += q[r, f] * u[r, f]
            slope[r] += found

    return kernel  # type: ignore[no-any-return]


@cache
def _tanh(single: bool) -> Callable[[Any], Any]:
    """Of float32 x P(x^2) / Q(x^2), which becomes vector instructions; of float64 the library's.

    P and Q are of degree 4 and were fitted here by least squares in u = x^2 on [0, 8.7^2], reweighted to even out the
    relative error: 1.6e-8 at most. All coefficients are positive: nothing cancels. Computed in float32: 4e-7 at most.
    """
    if not single:

        @numba.njit(inline="always")
        def exact(x):  # type: ignore[no-untyped-def]
            return math.tanh(x)

        return exact  # type: ignore[no-any-return]

    most, one = np.float32(8.7), np.float32(1)
    p0, p1, p2, p3, p4 = (np.float32(value) for value in _NUMERATOR)
    q1, q2, q3, q4 = (np.float32(value) for value in _DENOMINATOR)

    @numba.njit(inline="always", fastmath=True)
    def rational(x):  # type: ignore[no-untyped-def]
        x = min(max(x, -most), most)
        u = x * x
        numerator = (((p4 * u + p3) * u + p2) * u + p1) * u + p0
        return x * numerator / ((((q4 * u + q3) * u + q2) * u + q1) * u + one)

    return rational  # type: ignore[no-any-return]


_NUMERATOR = (0.9999999863477, 0.13400690498, 3.51899484012e-3, 2.0997355950e-5, 1.390135972e-8)
_DENOMINATOR = (0.467340113518, 2.59658869943e-2, 3.32403215206e-4, 7.99829865738e-7)
