"""Engines that autograd differentiates: the baseline, the one with sorted edges, the compiled one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from runner.methods.science.flashschnet.engine import Engine
from runner.methods.science.flashschnet.neighbours import Neighbours
from runner.methods.science.flashschnet.potential import Aggregate, gathered_and_added


class Naive(Engine):
    """All tensors of E rows are written, and kept for the backward pass."""

    def evaluate(self, positions: Tensor, types: Tensor, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
        """Energies [N] and forces [N, 3]."""
        positions = positions.detach().requires_grad_()
        with torch.enable_grad():
            source, destination = neighbours.edge_index
            distances = (positions.index_select(0, destination) - positions.index_select(0, source)).norm(dim=1)
            energy = self.potential(
                distances,
                neighbours.edge_index,
                types,
                aggregate=self.aggregate(neighbours),
                drop_cutoff_grad=self.drop_cutoff_grad,
            )
            (gradient,) = torch.autograd.grad(energy.sum(), positions)
        return energy.detach(), -gradient

    def aggregate(self, neighbours: Neighbours) -> Aggregate:
        """How messages are summed."""
        return gathered_and_added


class Csr(Naive):
    """The same with sums over the rows of sorted edges, by destination, and by source in the backward pass."""

    def aggregate(self, neighbours: Neighbours) -> Aggregate:
        """Segment sums."""

        def summed(y: Tensor, filters: Tensor, edge_index: Tensor) -> Tensor:
            gathered: Tensor = GatheredSources.apply(y, neighbours)  # type: ignore[no-untyped-call]
            return segment_sum(gathered * filters, neighbours.pointers)

        return summed


class GatheredSources(torch.autograd.Function):
    """y_j of each edge [E, F]; its gradient is summed over the edges in the order of their sources."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, neighbours: Neighbours) -> Tensor:
        ctx.neighbours = neighbours
        return y.index_select(0, neighbours.edge_index[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        neighbours: Neighbours = ctx.neighbours
        return segment_sum(gradient.index_select(0, neighbours.reverse), neighbours.pointers), None


def segment_sum(rows: Tensor, pointers: Tensor) -> Tensor:
    """Sum of rows pointers[i] to pointers[i + 1], for each i: [E, F] -> [N, F]; 0 where there is none."""
    return torch.segment_reduce(rows, "sum", offsets=pointers, axis=0, initial=0)
