"""Engines without an autograd graph over edges: the beads' layers, and where the passes over edges come in.

Letters: N beads, P edges that are passed over (all E directed ones, or the E / 2 pairs), H hidden width, F filters.
A block keeps y and t = tanh(z) [N, .] for its gradient; whatever has P rows is computed anew, tile by tile.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from runner.methods.science.flashschnet.engine import Engine
from runner.methods.science.flashschnet.neighbours import Neighbours
from runner.methods.science.flashschnet.potential import Block, SchNet


class EdgePasses(ABC):
    """The passes over the edges of one evaluation.

    Args:
        potential: its basis, cutoff and widths are what a pass needs beside a block.
        ends: of the edges [2, P]: source j, destination i, sorted by the latter; of pairs i < j: i, j, sorted by i.
        distances: [P].
        both: an edge stands for both directions: the filter hangs on the distance alone.
        tile: edges held at a time.
        drop_cutoff_grad: the filter's cutoff counts as a constant.
    """

    def __init__(
        self, potential: SchNet, ends: Tensor, distances: Tensor, *, both: bool, tile: int, drop_cutoff_grad: bool
    ) -> None:
        self.potential, self.ends, self.distances = potential, ends, distances
        self.both, self.tile, self.drop_cutoff_grad = both, tile, drop_cutoff_grad

    @abstractmethod
    def sum_messages(self, block: Block, y: Tensor) -> Tensor:
        """m_i = sum_j y_j * W(d_ij) fc(d_ij): [N, F]."""

    @abstractmethod
    def gradients(self, block: Block, y: Tensor, g: Tensor, slope: Tensor, with_y: bool) -> Tensor | None:
        """Given g = dE/dm [N, F], add dE/dd to ``slope`` [P], and return dE/dy [N, F], if asked for."""

    @property
    @abstractmethod
    def buffers(self) -> list[Tensor]:
        """All tensors that the passes hold for their tiles."""


class Fused(Engine):
    """Energy and forces from hand-written gradients.

    Args:
        potential: see ``Engine``.
        types: see ``Engine``.
        passes: makes the passes over edges.
        both: pass over pairs instead of directed edges.
        tile: edges held at a time.
        drop_cutoff_grad: see ``Engine``.
    """

    def __init__(
        self,
        potential: SchNet,
        types: Tensor,
        passes: Callable[..., EdgePasses],
        *,
        both: bool,
        tile: int,
        drop_cutoff_grad: bool = False,
    ) -> None:
        super().__init__(potential, types, drop_cutoff_grad=drop_cutoff_grad)
        self.passes, self.both, self.tile = passes, both, tile

    @torch.no_grad()
    def evaluate(self, positions: Tensor, types: Tensor, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
        """Energies [N] and forces [N, 3]."""
        ends = neighbours.pairs if self.both else neighbours.edge_index
        apart = positions.index_select(0, ends[1]) - positions.index_select(0, ends[0])
        distances = apart.norm(dim=1)
        edges = self.passes(
            self.potential,
            ends,
            distances,
            both=self.both,
            tile=self.tile,
            drop_cutoff_grad=self.drop_cutoff_grad,
        )
        energy, slope = self.energy_and_slope(types, edges)
        self.held_bytes += apart.nbytes
        # F_i = -dE/dd (x_i - x_j) / d, and the opposite on j
        apart *= (slope / distances).unsqueeze(1)
        forces = torch.zeros_like(positions).index_add_(0, ends[1], apart, alpha=-1).index_add_(0, ends[0], apart)
        return energy, forces

    def energy_and_slope(self, types: Tensor, edges: EdgePasses) -> tuple[Tensor, Tensor]:
        """Energies [N] and dE/dd [P]."""
        blocks: list[Block] = list(self.potential.blocks)  # type: ignore[arg-type]
        x = self.potential.embedding(types)
        kept = []
        for block in blocks:
            y = block.project(x)
            t = block.gather(edges.sum_messages(block, y)).tanh_()
            kept.append((y, t))
            x = x + block.update(t)
        with torch.enable_grad():
            x.requires_grad_()
            energy = self.potential.output(x).squeeze(1)
            (g,) = torch.autograd.grad(energy.sum(), x)
        slope = torch.zeros_like(edges.distances)
        held = [*(tensor for pair in kept for tensor in pair), *edges.buffers, edges.distances, slope]
        self.held_bytes = sum(tensor.nbytes for tensor in held)
        for block in reversed(blocks):
            y, t = kept.pop()
            # x' = x + U t, t = tanh(G m): dE/dm = ((dE/dx' U) (1 - t^2)) G
            g_m = ((g @ block.update.weight) * (1 - t * t)) @ block.gather.weight
            g_y = edges.gradients(block, y, g_m, slope, with_y=bool(kept))
            if g_y is not None:
                g = g + g_y @ block.project.weight
        return energy.detach(), slope
