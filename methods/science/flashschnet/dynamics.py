"""Motion of beads under given forces: Langevin (BAOAB), Newton (velocity Verlet), and exchange between temperatures.

Letters: R replicas, N beads, T temperatures, M ladders of T replicas each. Units: A, ps, amu, kcal/mol.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

ACCELERATION = 418.4
"""A/ps^2 that 1 kcal/mol/A gives to 1 amu."""
Forces = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions [R, N, 3] -> energies [R], forces [R, N, 3]."""


class Replicas(nn.Module):
    """The state of R independent copies: all that a step needs, so that a simulation goes on to the bit.

    Replica t M + m begins on rung t, the t-th temperature, of ladder m.
    """

    positions: Tensor
    velocities: Tensor
    energy: Tensor
    forces: Tensor
    beta: Tensor
    rung: Tensor
    masses: Tensor

    def __init__(self, positions: Tensor, masses: Tensor, betas: list[float]) -> None:
        """At rest. ``positions`` [R, N, 3], ``masses`` [N], ``betas`` [T], the one that is asked about first."""
        super().__init__()
        rung = torch.arange(len(betas), device=positions.device).repeat_interleave(len(positions) // len(betas))
        self.register_buffer("positions", positions.clone())
        self.register_buffer("velocities", torch.zeros_like(positions))
        self.register_buffer("energy", positions.new_zeros(len(positions)))
        self.register_buffer("forces", torch.zeros_like(positions))
        self.register_buffer("rung", rung)
        self.register_buffer("beta", positions.new_tensor(betas)[rung])
        self.register_buffer("masses", masses)

    def start(self, forces: Forces, generator: torch.Generator) -> None:
        """Draw velocities from Maxwell and Boltzmann's distribution, variance 1 / (beta m); look at the forces."""
        self.velocities = self._thermal() * noise(self.positions, generator)
        self.energy, self.forces = forces(self.positions)

    def kinetic(self) -> Tensor:
        """sum m v^2 / 2, kcal/mol; [R]."""
        return (0.5 / ACCELERATION) * (self.masses * (self.velocities**2).sum(-1)).sum(-1)

    def langevin(self, forces: Forces, dt: float, friction: float, generator: torch.Generator) -> None:
        """One step of BAOAB (Leimkuhler & Matthews 2013), one call of ``forces``.

        v += dt/2 F/m;  x += dt/2 v;  v = e^(-eta dt) v + sqrt((1 - e^(-2 eta dt)) / (beta m)) xi;  x += dt/2 v;  F;
        v += dt/2 F/m.

        Args:
            forces: of positions.
            dt: ps.
            friction: eta, 1/ps.
            generator: draws xi.
        """
        kept = math.exp(-friction * dt)
        self._kick(dt)
        self.positions = self.positions + 0.5 * dt * self.velocities
        random = math.sqrt(-math.expm1(-2 * friction * dt)) * self._thermal() * noise(self.positions, generator)
        self.velocities = kept * self.velocities + random
        self.positions = self.positions + 0.5 * dt * self.velocities
        self.energy, self.forces = forces(self.positions)
        self._kick(dt)

    def verlet(self, forces: Forces, dt: float) -> None:
        """One step of velocity Verlet: v += dt/2 F/m;  x += dt v;  F;  v += dt/2 F/m."""
        self._kick(dt)
        self.positions = self.positions + dt * self.velocities
        self.energy, self.forces = forces(self.positions)
        self._kick(dt)

    def exchange(self, betas: Tensor, odd: bool, generator: torch.Generator) -> float:
        """Let replicas on neighbouring rungs of a ladder change places; velocities follow their temperature.

        Accepted with probability min(1, exp((beta_i - beta_j) (E_i - E_j))).

        Args:
            betas: [T].
            odd: try rungs (1, 2), (3, 4), … rather than (0, 1), (2, 3), ….
            generator: draws the decisions.

        Returns:
            The share that was accepted.
        """
        rungs = len(betas)
        ladders = len(self.rung) // rungs
        first = torch.arange(int(odd), rungs - 1, 2)
        # holder[t, m]: which replica of ladder m is on rung t
        holder = self.rung.view(rungs, ladders).argsort(0) * ladders + torch.arange(ladders, device=self.rung.device)
        i, j = holder[first], holder[first + 1]
        gain = (self.beta[i] - self.beta[j]) * (self.energy[i] - self.energy[j])
        drawn = torch.rand(gain.shape, generator=generator, dtype=torch.float64).log().to(gain)
        i, j = i[drawn < gain], j[drawn < gain]
        before = self.beta
        rung = self.rung.clone()
        rung[i], rung[j] = self.rung[j], self.rung[i]
        self.rung, self.beta = rung, betas[rung]
        self.velocities = self.velocities * (before / self.beta).sqrt().view(-1, 1, 1)
        return i.numel() / max(gain.numel(), 1)

    def _kick(self, dt: float) -> None:
        self.velocities = self.velocities + (0.5 * dt * ACCELERATION) * self.forces / self.masses.unsqueeze(1)

    def _thermal(self) -> Tensor:
        """1 / sqrt(beta m), A/ps; [R, N, 1]."""
        return (ACCELERATION / (self.beta.unsqueeze(1) * self.masses)).sqrt().unsqueeze(-1)


def noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal, of the shape and type of ``like``, the same whatever the device."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
