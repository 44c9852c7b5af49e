"""Engines that autograd differentiates: the baseline, the one with sorted edges, the compiled one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from runner.methods.science.flashschnet.engine import Engine
from runner.methods.science.flashschnet.neighbours import Neighbours
from runner.methods.science.flashschnet.potential import SchNet


class Naive(Engine):
    """All tensors of E rows are written, and kept for the backward pass."""

    def evaluate(self, positions: Tensor, types: Tensor, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
        """Energies [N] and forces [N, 3]."""
        positions = positions.detach().requires_grad_()
        with torch.enable_grad():
            source, destination = neighbours.edge_index
            distances = (positions.index_select(0, destination) - positions.index_select(0, source)).norm(dim=1)
            energy = self.energies(distances, types, neighbours)
            (gradient,) = torch.autograd.grad(energy.sum(), positions)
        return energy.detach(), -gradient

    def energies(self, distances: Tensor, types: Tensor, neighbours: Neighbours) -> Tensor:
        """[E] -> [N]."""
        out: Tensor = self.potential(distances, neighbours.edge_index, types, drop_cutoff_grad=self.drop_cutoff_grad)
        return out


class Csr(Naive):
    """The same with sums over the rows of sorted edges, by destination, and by source in the backward pass."""

    def energies(self, distances: Tensor, types: Tensor, neighbours: Neighbours) -> Tensor:
        """[E] -> [N]."""

        def summed(y: Tensor, filters: Tensor, edge_index: Tensor) -> Tensor:
            m: Tensor = SegmentMessages.apply(y, filters, neighbours)  # type: ignore[no-untyped-call]
            return m

        out: Tensor = self.potential(
            distances, neighbours.edge_index, types, aggregate=summed, drop_cutoff_grad=self.drop_cutoff_grad
        )
        return out


class Compiled(Naive):
    """The naive one, forward and backward pass fused by torch.compile for any number of edges.

    The first evaluation compiles, which takes half a minute.
    """

    def __init__(self, potential: SchNet, types: Tensor, *, drop_cutoff_grad: bool = False) -> None:
        super().__init__(potential, types, drop_cutoff_grad=drop_cutoff_grad)
        self._compiled = torch.compile(self.potential, dynamic=True)

    def energies(self, distances: Tensor, types: Tensor, neighbours: Neighbours) -> Tensor:
        """[E] -> [N]."""
        out: Tensor = self._compiled(distances, neighbours.edge_index, types, drop_cutoff_grad=self.drop_cutoff_grad)
        return out


class SegmentMessages(torch.autograd.Function):
    """m_i = sum_j y_j * W_ij of y [N, F] and filters [E, F]; gathered rows and messages aren't kept.

    With g = dE/dm: dE/dW_ij = y_j * g_i, and dE/dy_j = sum_i W_ij * g_i over the edges in the order of their sources.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, filters: Tensor, neighbours: Neighbours) -> Tensor:
        """[N, F]."""
        ctx.save_for_backward(y, filters)
        ctx.neighbours = neighbours
        messages = y.index_select(0, neighbours.edge_index[0]).mul_(filters)
        return segment_sum(messages, neighbours.pointers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:
        """Of y and filters."""
        y, filters = ctx.saved_tensors
        neighbours: Neighbours = ctx.neighbours
        source, destination = neighbours.edge_index
        g_i = g.index_select(0, destination)
        g_filters = y.index_select(0, source).mul_(g_i)
        return segment_sum(g_i.mul_(filters), neighbours.pointers, neighbours.reverse), g_filters, None


def segment_sum(rows: Tensor, pointers: Tensor, order: Tensor | None = None) -> Tensor:
    """Sum of rows pointers[i] to pointers[i + 1], for each i: [E, F] -> [N, F]; 0 where there is none.

    Args:
        rows: [E, F].
        pointers: [N + 1], int64.
        order: permutation of the rows [E], int64, that is taken before; none if None.
    """
    if order is None:
        order = torch.arange(len(rows), device=rows.device)
    # a twentieth of torch.segment_reduce's time in float32 (E = 20 000, F = 128, one thread, AVX-512), and as exact
    return functional.embedding_bag(order, rows, pointers, mode="sum", include_last_offset=True)
