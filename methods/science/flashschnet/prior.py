"""What a coarse-grained potential knows before it learns: bonds, angles, dihedrals and repulsion, with their forces.

Letters: R replicas, N beads, B terms of a kind. Positions are taken with beads first, [N, R, 3], so that a bead's row
is gathered and added to as one piece.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.linalg import cross

from runner.contracts import ForceField

Term = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]
"""Of the positions of a term's beads [B, R, 3]: energies [B, R], and the gradient at each bead [B, R, 3]."""
TINY = 1e-12
"""Below which the sine of an angle counts as this: the direction of its gradient isn't defined there."""


class Prior:
    """E(x), the sum given at ``ForceField``, and -dE/dx by hand.

    Args:
        task: gives beads and parameters of all terms.
    """

    def __init__(self, task: ForceField) -> None:
        kinds: list[tuple[Tensor, Term, tuple[Tensor, ...]]] = [
            (task.bonds, bond, (task.bond_lengths, task.bond_stiffness)),
            (task.angles, angle, (task.angle_values, task.angle_stiffness)),
            (task.dihedrals, dihedral, (task.dihedral_sin, task.dihedral_cos)),
            (task.repulsions, repulsion, (task.repulsion_ranges,)),
        ]
        self.kinds = [
            (list(beads.T.contiguous()), term, [parameter.unsqueeze(1) for parameter in parameters])
            for beads, term, parameters in kinds
            if len(beads)
        ]

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Energies [R], kcal/mol, and forces [R, N, 3], kcal/mol/A, at ``positions`` [R, N, 3]."""
        x = positions.detach().transpose(0, 1).contiguous()
        energy, forces = x.new_zeros(x.shape[1]), torch.zeros_like(x)
        for beads, term, parameters in self.kinds:
            energies, gradients = term(*(x.index_select(0, bead) for bead in beads), *parameters)
            energy += energies.sum(0)
            for bead, gradient in zip(beads, gradients, strict=True):
                forces.index_add_(0, bead, gradient, alpha=-1)
        return energy, forces.transpose(0, 1).contiguous()


def bond(x_0: Tensor, x_1: Tensor, length: Tensor, stiffness: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """k/2 (r - r_0)^2."""
    apart = x_1 - x_0
    r = apart.norm(dim=-1)
    pull = (stiffness * (r - length) / r).unsqueeze(-1) * apart
    return 0.5 * stiffness * (r - length) ** 2, (-pull, pull)


def repulsion(x_0: Tensor, x_1: Tensor, reach: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """(sigma / r)^6; its gradient is -6 (sigma / r)^6 / r^2 times x_1 - x_0, at x_1."""
    apart = x_1 - x_0
    r2 = (apart * apart).sum(-1)
    energy = (reach * reach / r2) ** 3
    push = (-6 * energy / r2).unsqueeze(-1) * apart
    return energy, (-push, push)


def angle(
    x_0: Tensor, x_1: Tensor, x_2: Tensor, value: Tensor, stiffness: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """k/2 (theta - theta_0)^2, theta between u = x_0 - x_1 and v = x_2 - x_1, n = u x v.

    dtheta/dx_0 = u x n / (|u|^2 |n|), dtheta/dx_2 = n x v / (|v|^2 |n|).
    """
    u, v = x_0 - x_1, x_2 - x_1
    n = cross(u, v)
    sine = n.norm(dim=-1).clamp(min=TINY)
    theta = torch.atan2(sine, (u * v).sum(-1))
    slope = stiffness * (theta - value)
    at_0 = (slope / ((u * u).sum(-1) * sine)).unsqueeze(-1) * cross(u, n)
    at_2 = (slope / ((v * v).sum(-1) * sine)).unsqueeze(-1) * cross(n, v)
    return 0.5 * stiffness * (theta - value) ** 2, (at_0, -at_0 - at_2, at_2)


def dihedral(
    x_0: Tensor, x_1: Tensor, x_2: Tensor, x_3: Tensor, sines: Tensor, cosines: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """sum_h s_h sin h phi + c_h cos h phi, phi between the planes of the first and the last three beads.

    With a = x_1 - x_0, b = x_2 - x_1, c = x_3 - x_2, m = a x b, n = b x c (Blondel & Karplus 1996):

        tan phi = |b| a.n / m.n,  dphi/dx_0 = -|b| / |m|^2 m,  dphi/dx_3 = |b| / |n|^2 n,
        dphi/dx_1 = -(1 + p) dphi/dx_0 + q dphi/dx_3,  p = a.b / |b|^2,  q = c.b / |b|^2,

    and the four add up to 0.
    """
    a, b, c = x_1 - x_0, x_2 - x_1, x_3 - x_2
    m, n = cross(a, b), cross(b, c)
    length = b.norm(dim=-1)
    phi = torch.atan2(length * (a * n).sum(-1), (m * n).sum(-1))
    h = torch.arange(1, sines.shape[-1] + 1, dtype=phi.dtype, device=phi.device)
    sine, cosine = torch.sin(h * phi.unsqueeze(-1)), torch.cos(h * phi.unsqueeze(-1))
    slope = (h * (sines * cosine - cosines * sine)).sum(-1)
    at_0 = (-slope * length / (m * m).sum(-1).clamp(min=TINY)).unsqueeze(-1) * m
    at_3 = (slope * length / (n * n).sum(-1).clamp(min=TINY)).unsqueeze(-1) * n
    p, q = (((d * b).sum(-1) / length**2).unsqueeze(-1) for d in (a, c))
    at_1 = -(1 + p) * at_0 + q * at_3
    return (sines * sine + cosines * cosine).sum(-1), (at_0, at_1, -at_0 - at_1 - at_3, at_3)
