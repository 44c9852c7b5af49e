"""Attention over the edges of a graph.

Letters: M rows (a target node and head each), Z entries (an edge and head each), D width of a head.
Several heads are one sparse matrix, the Kronecker product of adjacency and identity: row i K + k,
column j K + k for each edge from j to i and head k. So nothing below has to know of heads, and no
tensor of Z x D is ever made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from runner.methods.ops.sparse import SparseMatrix, sparse_times_dense


def attend(source: Tensor, target: Tensor, h: Tensor, pattern: SparseMatrix, negative_slope: float) -> Tensor:
    """out_r = sum over the entries (r, c) of alpha_rc h_c, alpha_r = softmax of LeakyReLU(source_c + target_r).

    Args:
        source: what a column adds to its scores, [M].
        target: what a row adds to its scores, [M].
        h: values, [M, D].
        pattern: the entries; each row has one at least.
        negative_slope: of the LeakyReLU.

    Returns:
        [M, D].
    """
    out: Tensor = _Attend.apply(source, target, h, pattern, negative_slope)  # type: ignore[no-untyped-call]
    return out


class _Attend(torch.autograd.Function):
    """s = source_c + target_r; e = LeakyReLU(s); alpha_r = exp(e) / sum_r exp(e); out = A(alpha) h."""

    @staticmethod
    def forward(
        ctx: Any, source: Tensor, target: Tensor, h: Tensor, pattern: SparseMatrix, negative_slope: float
    ) -> Tensor:
        score_Z = source.index_select(0, pattern.indices) + target.index_select(0, pattern.row_of)
        slope_Z = torch.where(score_Z > 0, 1.0, negative_slope)
        power_Z = score_Z.mul_(slope_Z)
        power_Z = power_Z.sub_(_row_maxima(power_Z, pattern).index_select(0, pattern.row_of)).exp_()
        alpha_Z = power_Z.div_(_row_sums(power_Z, pattern).index_select(0, pattern.row_of))
        ctx.pattern = pattern
        ctx.save_for_backward(alpha_Z, slope_Z, h)
        return sparse_times_dense(pattern.with_values(alpha_Z), h)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        alpha_Z, slope_Z, h = ctx.saved_tensors
        pattern: SparseMatrix = ctx.pattern
        gradient = gradients[0].contiguous()
        dalpha_Z = _inner_products(alpha_Z, gradient, h, pattern)
        weighted_Z = alpha_Z * dalpha_Z
        de_Z = weighted_Z - alpha_Z * _row_sums(weighted_Z, pattern).index_select(0, pattern.row_of)
        ds_Z = de_Z.mul_(slope_Z)
        by_column = pattern.column_order
        dh = sparse_times_dense(pattern.transposed.with_values(alpha_Z[by_column]), gradient)
        return _row_sums(ds_Z[by_column], pattern.transposed), _row_sums(ds_Z, pattern), dh, None, None


def _row_sums(values_Z: Tensor, pattern: SparseMatrix) -> Tensor:
    ones = values_Z.new_ones(pattern.shape[1], 1)
    return sparse_times_dense(pattern.with_values(values_Z), ones).squeeze(1)


def _row_maxima(values_Z: Tensor, pattern: SparseMatrix) -> Tensor:
    lowest = values_Z.new_full((pattern.shape[0],), -torch.inf)
    return lowest.scatter_reduce(0, pattern.row_of, values_Z, reduce="amax")


def _inner_products(values_Z: Tensor, rows: Tensor, columns: Tensor, pattern: SparseMatrix) -> Tensor:
    """rows_r . columns_c for each entry (r, c): the gradient that the sparse product's values receive."""
    with torch.enable_grad():
        values_Z = values_Z.detach().requires_grad_()
        product = sparse_times_dense(pattern.with_values(values_Z), columns.detach())
    return torch.autograd.grad(product, values_Z, rows)[0]
