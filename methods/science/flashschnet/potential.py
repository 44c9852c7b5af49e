"""The SchNet potential of coarse-grained proteins (Charron et al., 2025), as FlashSchNet's baseline evaluates it.

Letters: N beads, E directed edges, K basis functions, F filters, H hidden width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

Aggregate = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of (y [N, F], filters [E, F], edge_index [2, E]): m_i = sum_j y_j * W_ij, [N, F]."""


def envelope(distances: Tensor, cutoff: float) -> Tensor:
    """fc(d) = (cos(pi d / r_cut) + 1) / 2 below the cutoff, 0 from there on."""
    return torch.where(distances < cutoff, 0.5 * (torch.cos(distances * (math.pi / cutoff)) + 1), 0.0)


def envelope_slope(distances: Tensor, cutoff: float) -> Tensor:
    """fc'(d) = -pi / (2 r_cut) sin(pi d / r_cut) below the cutoff, 0 from there on."""
    slope = (-0.5 * math.pi / cutoff) * torch.sin(distances * (math.pi / cutoff))
    return torch.where(distances < cutoff, slope, 0.0)


def gathered_and_added(y: Tensor, filters: Tensor, edge_index: Tensor) -> Tensor:
    """Messages [E, F] are written, then added to their rows."""
    source, destination = edge_index
    return torch.zeros_like(y).index_add(0, destination, y.index_select(0, source) * filters)


class RadialBasis(nn.Module):
    """rbf_k(d) = exp(gamma (d - mu_k)^2) fc(d), mu = linspace(0, r_cut, K), gamma = -1 / (2 (mu_2 - mu_1)^2)."""

    def __init__(self, num_basis: int, cutoff: float) -> None:
        super().__init__()
        self.num_basis, self.cutoff = num_basis, cutoff
        self.spacing = cutoff / (num_basis - 1)
        self.gamma = -0.5 / self.spacing**2

    def forward(self, distances: Tensor) -> Tensor:
        """[E] -> [E, K]."""
        gaussians = torch.exp(self.gamma * (distances.unsqueeze(1) - self.centres(distances)) ** 2)
        return gaussians * envelope(distances, self.cutoff).unsqueeze(1)

    def centres(self, like: Tensor) -> Tensor:
        """mu [K], of the dtype and on the device of ``like``."""
        return torch.linspace(0, self.cutoff, self.num_basis, dtype=like.dtype, device=like.device)


class Block(nn.Module):
    """x + L_3 tanh(L_2 m + b), m_i = sum_j (L_1 x_j) * W(d_ij) fc(d_ij), W = a network on the basis."""

    def __init__(self, hidden: int, filters: int, num_basis: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, filters, bias=False)
        self.filter = nn.Sequential(nn.Linear(num_basis, filters), nn.Tanh(), nn.Linear(filters, filters, bias=False))
        self.gather = nn.Linear(filters, hidden)
        self.update = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, basis: Tensor, fc: Tensor, edge_index: Tensor, aggregate: Aggregate) -> Tensor:
        """[N, H] -> [N, H]."""
        m = aggregate(self.project(x), self.filter(basis) * fc.unsqueeze(1), edge_index)
        out: Tensor = x + self.update(torch.tanh(self.gather(m)))
        return out


class SchNet(nn.Module):
    """Energy of each bead from the distances of its neighbours.

    The cosine cutoff stands in the basis and, once more, in the filter. Weights are Xavier-uniform, biases 0, the
    embedding standard normal.

    Args:
        num_types: kinds of beads.
        hidden: H, width of a bead's state.
        filters: F, width of a filter.
        num_basis: K >= 2 Gaussians.
        num_blocks: interaction blocks.
        cutoff: r_cut, in the unit of the positions.
        output_widths: hidden widths of the network that reads a bead's energy from its state.
    """

    def __init__(
        self,
        *,
        num_types: int,
        hidden: int,
        filters: int,
        num_basis: int,
        num_blocks: int,
        cutoff: float,
        output_widths: Sequence[int],
    ) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.embedding = nn.Embedding(num_types, hidden)
        self.basis = RadialBasis(num_basis, cutoff)
        self.blocks = nn.ModuleList(Block(hidden, filters, num_basis) for _ in range(num_blocks))
        layers: list[nn.Module] = []
        for width, wider in pairwise((hidden, *output_widths)):
            layers += [nn.Linear(width, wider), nn.Tanh()]
        self.output = nn.Sequential(*layers, nn.Linear((hidden, *output_widths)[-1], 1, bias=False))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self,
        distances: Tensor,
        edge_index: Tensor,
        types: Tensor,
        *,
        aggregate: Aggregate = gathered_and_added,
        drop_cutoff_grad: bool = False,
    ) -> Tensor:
        """Energies [N]; differentiable twice with the default ``aggregate``.

        Args:
            distances: d_ij [E].
            edge_index: [2, E], row 0 the source j, row 1 the destination i.
            types: of each bead [N], int64.
            aggregate: how messages are summed.
            drop_cutoff_grad: treat the filter's cutoff as a constant, as the released kernels do: the gradient is then
                not that of the energy.
        """
        basis = self.basis(distances)
        fc = envelope(distances.detach() if drop_cutoff_grad else distances, self.cutoff)
        x = self.embedding(types)
        for block in self.blocks:
            x = block(x, basis, fc, edge_index, aggregate)
        out: Tensor = self.output(x).squeeze(1)
        return out
