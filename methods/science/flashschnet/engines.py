"""Ways to evaluate one potential: energies of replicas and the forces on their beads, E = sum of beads, F = -dE/dx."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from runner.errors import RunnerError
from runner.methods.science.flashschnet.neighbours import Neighbours, find
from runner.methods.science.flashschnet.potential import Aggregate, SchNet, gathered_and_added


class Engine(ABC):
    """Energy and forces of replicas of one molecule, with the potential's weights as they are at each call."""

    def __init__(self, potential: SchNet, types: Tensor, *, drop_cutoff_grad: bool = False) -> None:
        self.potential = potential
        self.types = types
        self.drop_cutoff_grad = drop_cutoff_grad

    def __call__(self, positions: Tensor, neighbours: Neighbours | None = None) -> tuple[Tensor, Tensor]:
        """Energy [R] and forces [R, N, 3], in the dtype of the weights; neither hangs in an autograd graph.

        Args:
            positions: [R, N, 3].
            neighbours: found by ``neighbours.find`` at these positions; looked for if None.
        """
        replicas, beads, _ = positions.shape
        if neighbours is None:
            neighbours = find(positions, self.potential.cutoff)
        energy, forces = self.evaluate(positions.detach().flatten(0, 1), self.types.repeat(replicas), neighbours)
        return energy.view(replicas, beads).sum(1), forces.view(replicas, beads, 3)

    @abstractmethod
    def evaluate(self, positions: Tensor, types: Tensor, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
        """Of all replicas as one disjoint graph: energy of each bead [N] and forces [N, 3]."""


class Naive(Engine):
    """Autograd through the potential: all tensors of E rows are written and kept."""

    def evaluate(self, positions: Tensor, types: Tensor, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
        """See the class."""
        positions.requires_grad_()
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
    """The same with sums over the rows of sorted edges, in both directions."""

    def aggregate(self, neighbours: Neighbours) -> Aggregate:
        """Segment sums by destination, and by source in the backward pass."""

        def summed(y: Tensor, filters: Tensor, edge_index: Tensor) -> Tensor:
            gathered: Tensor = _Gathered.apply(y, neighbours)  # type: ignore[no-untyped-call]
            return segment_sum(gathered * filters, neighbours.pointers)

        return summed


class _Gathered(torch.autograd.Function):
    """y_j of each edge; its gradient is summed over the edges in the order of their sources."""

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


Name = Literal["naive", "csr"]
ENGINES: dict[str, type[Engine]] = {"naive": Naive, "csr": Csr}


def make(
    name: str,
    potential: SchNet,
    types: Tensor,
    *,
    tile: int = 512,
    weights: Literal["float32", "float16", "bfloat16", "int16"] = "float32",
    scaling: Literal["channel", "tensor", "cast"] = "channel",
    drop_cutoff_grad: bool = False,
) -> Engine:
    """The engine of that name.

    Args:
        name: a key of ``ENGINES``.
        potential: SchNet, whose weights are not copied.
        types: of the beads of one replica [N], int64.
        tile: edges (or pairs) that the fused engines hold at a time.
        weights: what the filters' and the output network's weights are stored in.
        scaling: 16-bit weights divided by their largest of an output channel, or of the tensor, or cast as they are.
        drop_cutoff_grad: leave out the derivative of the filter's cutoff, as the released kernels do.

    Raises:
        RunnerError: there is no such engine.
    """
    if name not in ENGINES:
        raise RunnerError(f"no engine '{name}'; choose one of {', '.join(ENGINES)}")
    return ENGINES[name](potential, types, drop_cutoff_grad=drop_cutoff_grad)
