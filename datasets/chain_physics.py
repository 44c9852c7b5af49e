"""A chain of beads that folds into a given structure, and its Langevin motion: physics that is known exactly.

Letters: R replicas, N beads; A, kcal/mol, amu, ps throughout. All in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BOND_LENGTH, BOND_STIFFNESS = 3.8, 40.0
ANGLE, ANGLE_STIFFNESS = 1.9, 20.0
REPULSION_RANGE = 4.2
"""sigma of (sigma / r)^6: 7.5 kcal/mol, or 12 kT at 300 K, at 3.0 A."""
CONTACT_ENERGY = 0.6
CONTACT_CUTOFF = 8.0
"""Beads closer than this in the target, and at least four places apart, are a native contact."""
MASS = 12.0
ACCELERATION = 418.4
"""A/ps^2 that 1 kcal/mol/A gives to 1 amu."""
STEP = 0.004
BETA = 1.67
"""mol/kcal: 300 K."""
CONFINEMENT = 0.3
"""Stiffness of the spring to the centre, kcal/mol/A^2, under which the target is made: it decides how compact it is."""
FOLDING = ((20.0, BETA, 600), (5.0, 3.0, 400), (0.0, 6.0, 400), (0.0, 10.0, 400), (0.0, 40.0, 400))
"""Stages of making the target: softness of the repulsion in A^2, beta, steps."""


@dataclass(frozen=True, eq=False)
class Chain:
    """U = bonds + angles + sum_(i<j) (A_ij / r^12 + B_ij / r^6) + c/2 sum_i |x_i|^2."""

    twelfth: Tensor
    """A [N, N], symmetric; likewise B, ``sixth``. 0 where a pair doesn't interact."""
    sixth: Tensor
    softness: float = 0.0
    """Added to r^2 in the pairs' terms."""
    confinement: float = 0.0

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies [R] and forces [R, N, 3] at ``x`` [R, N, 3]."""
        energy, forces = self._pairs(x)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            rest = bonded(x) + 0.5 * self.confinement * (x * x).sum((1, 2))
            (slope,) = torch.autograd.grad(rest.sum(), x)
        return energy + rest.detach(), forces - slope

    def _pairs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        square = (x * x).sum(-1)
        r2 = square.unsqueeze(2) + square.unsqueeze(1) - 2 * x @ x.transpose(1, 2)
        r2.diagonal(dim1=1, dim2=2).fill_(1.0)
        r2 += self.softness
        r6 = r2**-3
        energy = 0.5 * ((self.twelfth * r6 + self.sixth) * r6).sum((1, 2))
        # F_i = sum_j w_ij (x_i - x_j), w = (12 A / r^12 + 6 B / r^6) / r^2
        w = (12 * self.twelfth * r6 + 6 * self.sixth) * r6 / r2
        return energy, w.sum(2, keepdim=True) * x - w @ x


def bonded(x: Tensor) -> Tensor:
    """Harmonic bonds and angles between neighbours in the chain: [R, N, 3] -> [R]."""
    bond = x[:, 1:] - x[:, :-1]
    u, v = -bond[:, :-1], bond[:, 1:]
    angle = torch.atan2(torch.linalg.cross(u, v).norm(dim=-1), (u * v).sum(-1))
    stretched = ((bond.norm(dim=-1) - BOND_LENGTH) ** 2).sum(1)
    return 0.5 * BOND_STIFFNESS * stretched + 0.5 * ANGLE_STIFFNESS * ((angle - ANGLE) ** 2).sum(1)


def repelling(beads: int) -> Tensor:
    """[N, N], bool: pairs that share neither a bond nor an angle."""
    place = torch.arange(beads)
    return (place.unsqueeze(1) - place).abs() >= 3


def folded(beads: int, generator: torch.Generator) -> Tensor:
    """A compact target [N, 3] around the origin: a random walk, pulled together, that cools down."""
    walk = 2.2 * torch.randn(1, beads, 3, generator=generator, dtype=torch.float64).cumsum(1)
    x = walk - walk.mean(1, keepdim=True)
    sixth = REPULSION_RANGE**6 * repelling(beads)
    for softness, beta, steps in FOLDING:
        chain = Chain(torch.zeros_like(sixth), sixth, softness, CONFINEMENT)
        *_, (x, _, _) = motion(chain, x, steps, beta=beta, friction=5.0, generator=generator)
    x -= x.mean(1, keepdim=True)
    return x[0]


def native_contacts(target: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs i < j [c, 2] that touch in the target [N, 3], and their distances [c]."""
    place = torch.arange(len(target))
    distance = torch.cdist(target, target, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = ((place - place.unsqueeze(1) >= 4) & (distance < CONTACT_CUTOFF)).nonzero()
    return pairs, distance[pairs[:, 0], pairs[:, 1]]


def folding_chain(target: Tensor) -> Chain:
    """Repulsion (sigma / r)^6, and for each native contact eps ((l / r)^12 - 2 (l / r)^6), l its native distance."""
    pairs, lengths = native_contacts(target)
    i, j = torch.cat([pairs, pairs.flip(1)]).T
    sixth = REPULSION_RANGE**6 * repelling(len(target)).double()
    twelfth = torch.zeros_like(sixth)
    twelfth[i, j] = CONTACT_ENERGY * lengths.repeat(2) ** 12
    sixth[i, j] -= 2 * CONTACT_ENERGY * lengths.repeat(2) ** 6
    return Chain(twelfth, sixth)


def motion(
    chain: Chain, x: Tensor, steps: int, *, beta: float, friction: float, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Positions [R, N, 3], energies [R] and forces [R, N, 3] after each Langevin step (BAOAB), from ``x``.

    Args:
        chain: the potential.
        x: [R, N, 3].
        steps: how many.
        beta: 1 / kT.
        friction: 1/ps.
        generator: draws initial velocities (Maxwell-Boltzmann) and noise.
    """
    speed, kept = math.sqrt(ACCELERATION / (beta * MASS)), math.exp(-friction * STEP)
    kick = 0.5 * STEP * ACCELERATION / MASS

    def noise() -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=torch.float64)

    v = speed * noise()
    energy, forces = chain(x)
    for _ in range(steps):
        v = v + kick * forces
        x = x + 0.5 * STEP * v
        v = kept * v + math.sqrt(1 - kept**2) * speed * noise()
        x = x + 0.5 * STEP * v
        energy, forces = chain(x)
        v = v + kick * forces
        yield x, energy, forces
