"""Engines that autograd differentiates: the baseline, the one with sorted edges, the compiled one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
            gathered: Tensor = GatheredSources.apply(y, neighbours)  # type: ignore[no-untyped-call]
            return segment_sum(gathered * filters, neighbours.pointers)

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


class GatheredSources(torch.autograd.Function):
    """y_j of each edge [E, F]; its gradient is summed over the edges in the order of their sources."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, neighbours: Neighbours) -> Tensor:
        """[N, F] -> [E, F]."""
        ctx.neighbours = neighbours
        return y.index_select(0, neighbours.edge_index[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """[E, F] -> [N, F]."""
        neighbours: Neighbours = ctx.neighbours
        return segment_sum(gradient.index_select(0, neighbours.reverse), neighbours.pointers), None


def segment_sum(rows: Tensor, pointers: Tensor) -> Tensor:
    """Sum of rows pointers[i] to pointers[i + 1], for each i: [E, F] -> [N, F]; 0 where there is none."""
    return torch.segment_reduce(rows, "sum", offsets=pointers, axis=0, initial=0)
