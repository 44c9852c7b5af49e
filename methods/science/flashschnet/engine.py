"""What every way to evaluate a potential has in common: energies of replicas and the forces on their beads."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

from torch import Tensor, nn

from runner.methods.science.flashschnet.neighbours import Neighbours, find
from runner.methods.science.flashschnet.potential import SchNet


class Engine(ABC):
    """E = sum of the beads' energies, F = -dE/dx, of replicas of one molecule.

    Args:
        potential: its weights are shared, not copied: a step of training is seen at once.
        types: of the beads of one replica [N], int64.
        drop_cutoff_grad: leave out the derivative of the filter's cutoff.
    """

    def __init__(self, potential: SchNet, types: Tensor, *, drop_cutoff_grad: bool = False) -> None:
        self.potential = without_gradients(potential)
        self.types = types
        self.drop_cutoff_grad = drop_cutoff_grad
        self.held_bytes = 0
        """What the last evaluation kept for its gradients, and held for its tiles, beside what autograd saved."""

    def __call__(self, positions: Tensor, neighbours: Neighbours | None = None) -> tuple[Tensor, Tensor]:
        """Energy [R] and forces [R, N, 3] in the weights' dtype; neither hangs in an autograd graph.

        Args:
            positions: [R, N, 3], in the unit of the cutoff.
            neighbours: found by ``neighbours.find`` at these positions; looked for if None.
        """
        replicas, beads, _ = positions.shape
        positions = positions.detach().to(self.potential.embedding.weight.dtype)
        if neighbours is None:
            neighbours = find(positions, self.potential.cutoff)
        energy, forces = self.evaluate(positions.flatten(0, 1), self.types.repeat(replicas), neighbours)
        return energy.view(replicas, beads).sum(1), forces.view(replicas, beads, 3)

    @abstractmethod
    def evaluate(self, positions: Tensor, types: Tensor, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
        """Of all replicas as one disjoint graph: energy of each bead [N] and forces [N, 3]."""


def without_gradients(potential: SchNet) -> SchNet:
    """The same weights in modules of their own, which ask for no gradient: autograd then saves less."""
    same = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in potential.parameters()}
    return copy.deepcopy(potential, same)
