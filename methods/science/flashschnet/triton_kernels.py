"""Both passes over edges as Triton kernels: a destination's edges are one program's, and nothing is added atomically.

A program computes basis, filter and message of a few edges at a time in registers; only m [N, F], and in the backward
pass dE/dd [E] and dE/dy [N, F], are written. The list holds both directions of a pair, and the filter is the same in
both, so that dE/dy also is a sum over the edges into a bead. ``geometry`` is r_cut and the Gaussians' spacing, in the
distances' dtype, which a plain number among the arguments would not have.

Letters: E directed edges, N beads, K basis functions, F filters; both padded to powers of two, 16 or more, as matrix
products need. For tests without a GPU, Triton's interpreter runs them (TRITON_INTERPRET=1 before this is imported).
"""

from __future__ import annotations

import triton
import triton.language as tl

PI = tl.constexpr(3.141592653589793)


@triton.jit
def _hidden(d, first, bias, columns, rows, geometry, num_basis, filters, SLOPED: tl.constexpr, KEEP: tl.constexpr):
    """Of edges [T]: fc, h = tanh(A rbf + b) [T, F], and d(fc h)/dd [T, F] if SLOPED."""
    cutoff, spacing = tl.load(geometry), tl.load(geometry + 1)
    inside = d < cutoff
    fc = tl.where(inside, 0.5 * (tl.cos(d * (PI / cutoff)) + 1.0), 0.0)
    slope = tl.where(inside, (-0.5 * PI / cutoff) * tl.sin(d * (PI / cutoff)), 0.0)
    away = d[:, None] / spacing - rows[None, :]
    gaussian = tl.exp(-0.5 * away * away)
    mask = (rows[:, None] < num_basis) & (columns[None, :] < filters)
    weight = tl.load(first + columns[None, :] * num_basis + rows[:, None], mask=mask, other=0.0)
    a = tl.dot(gaussian * fc[:, None], weight, input_precision="ieee")
    a += tl.load(bias + columns, mask=columns < filters, other=0.0)[None, :]
    h = 2.0 * tl.sigmoid(2.0 * a) - 1.0
    u = h
    if SLOPED:
        basis_slope = gaussian * (slope[:, None] - fc[:, None] * away / spacing)
        u = fc[:, None] * (1.0 - h * h) * tl.dot(basis_slope, weight, input_precision="ieee")
        if KEEP:
            u += slope[:, None] * h
    return fc[:, None] * h, u


@triton.jit
def sum_messages(
    pointers, source, distances, first, bias, second, y, m,
    geometry, num_basis, filters, T: tl.constexpr, K: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """m_i = sum_j y_j * B (fc h_ij), a program for each bead i."""
    i = tl.program_id(0).to(tl.int64)
    columns, rows = tl.arange(0, F), tl.arange(0, K)
    held = columns < filters
    square = held[:, None] & held[None, :]
    # B transposed: what h is multiplied by from the right
    back = tl.load(second + columns[None, :] * filters + columns[:, None], mask=square, other=0.0)
    total = tl.zeros((F,), dtype=m.dtype.element_ty)
    end = tl.load(pointers + i + 1)
    for at in range(tl.load(pointers + i), end, T):
        edges = at + tl.arange(0, T)
        there = edges < end
        j = tl.load(source + edges, mask=there, other=0)
        d = tl.load(distances + edges, mask=there, other=0.0)
        h, _ = _hidden(d, first, bias, columns, rows, geometry, num_basis, filters, False, False)
        w = tl.dot(h, back, input_precision="ieee")
        mask = there[:, None] & held[None, :]
        total += tl.sum(w * tl.load(y + j[:, None] * filters + columns[None, :], mask=mask, other=0.0), 0)
    tl.store(m + i * filters + columns, total, mask=held)


@triton.jit
def gradients(
    pointers, source, distances, first, bias, second, y, g, slope, g_y,
    geometry, num_basis, filters,
    WITH_Y: tl.constexpr, KEEP: tl.constexpr, T: tl.constexpr, K: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """slope_e += ((y_j * g_i) B) . d(fc h)/dd and, WITH_Y, g_y_i = sum_j g_j * B (fc h), a program for each bead i."""
    i = tl.program_id(0).to(tl.int64)
    columns, rows = tl.arange(0, F), tl.arange(0, K)
    held = columns < filters
    square = held[:, None] & held[None, :]
    weight = tl.load(second + columns[:, None] * filters + columns[None, :], mask=square, other=0.0)
    g_i = tl.load(g + i * filters + columns, mask=held, other=0.0)
    total = tl.zeros((F,), dtype=g_y.dtype.element_ty)
    end = tl.load(pointers + i + 1)
    for at in range(tl.load(pointers + i), end, T):
        edges = at + tl.arange(0, T)
        there = edges < end
        j = tl.load(source + edges, mask=there, other=0)
        d = tl.load(distances + edges, mask=there, other=0.0)
        h, u = _hidden(d, first, bias, columns, rows, geometry, num_basis, filters, True, KEEP)
        mask = there[:, None] & held[None, :]
        place = j[:, None] * filters + columns[None, :]
        if WITH_Y:
            w = tl.dot(h, tl.trans(weight), input_precision="ieee")
            total += tl.sum(w * tl.load(g + place, mask=mask, other=0.0), 0)
        q = tl.load(y + place, mask=mask, other=0.0) * g_i[None, :]
        found = tl.sum(tl.dot(q, weight, input_precision="ieee") * u, 1)
        tl.store(slope + edges, tl.load(slope + edges, mask=there, other=0.0) + found, mask=there)
    if WITH_Y:
        tl.store(g_y + i * filters + columns, total, mask=held)
