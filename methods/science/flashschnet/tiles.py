"""The passes over edges, a tile at a time in buffers that are made once, and their steps in plain torch.

Letters: T edges of a tile, N beads, K basis functions, F filters. A block's filter is W(d) = B tanh(A rbf(d) + b); as B
has no bias, the cutoff may multiply h = tanh(.) instead: W fc = B (fc h). With q = y_j * g_i (of a pair: + y_i * g_j),
dE/dd = q . B u = (q B) . u, u = d(fc h)/dd. So the forward pass takes one matrix product with B; the backward pass one
with B, to have fc W again for the gradient of y, and one with its transpose. The first block needs no gradient of y.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.methods.science.flashschnet.fused import EdgePasses
from runner.methods.science.flashschnet.potential import Block, envelope, envelope_slope


class Tile(NamedTuple):
    """Ends [T], distances [T], and three buffers [T, F]."""

    source: Tensor
    destination: Tensor
    d: Tensor
    h: Tensor
    u: Tensor
    w: Tensor


class TiledPasses(EdgePasses):
    """What is the same in torch and compiled: the order of steps, and the matrix products with B."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.num_filters, self.num_basis = self.potential.blocks[0].filter[0].weight.shape  # type: ignore[index, union-attr]
        self._hidden, self._sloped, self._filtered = (self.buffer(self.num_filters) for _ in range(3))

    def buffer(self, width: int) -> Tensor:
        """[T, width]."""
        return self.distances.new_empty(max(1, min(self.tile, len(self.distances))), width)

    @property
    def buffers(self) -> list[Tensor]:
        """Three, and what the steps add."""
        return [self._hidden, self._sloped, self._filtered]

    def sum_messages(self, block: Block, y: Tensor) -> Tensor:
        """[N, F] -> [N, F]."""
        m, first, second = torch.zeros_like(y), self.prepared(block), block.filter[2].weight
        for tile in self._tiles():
            self.hidden(first, tile)
            torch.mm(tile.h, second.T, out=tile.w)
            self.add_messages(tile, y, m)
        return m

    def gradients(self, block: Block, y: Tensor, g: Tensor, slope: Tensor, with_y: bool) -> Tensor | None:
        """[N, F] -> [N, F], and ``slope`` [P]."""
        first, second = self.prepared(block), block.filter[2].weight
        g_y = torch.zeros_like(y) if with_y else None
        at = 0
        for tile in self._tiles():
            self.hidden_and_slope(first, tile)
            if g_y is not None:
                torch.mm(tile.h, second.T, out=tile.w)
                self.add_gradients(tile, g, g_y)
            self.multiply(tile, y, g)
            torch.mm(tile.w, second, out=tile.h)
            self.contract(tile, slope[at : at + len(tile.d)])
            at += len(tile.d)
        return g_y

    @abstractmethod
    def prepared(self, block: Block) -> Any:
        """The filter's first layer, as the steps want it."""

    @abstractmethod
    def hidden(self, first: Any, tile: Tile) -> None:
        """h = fc tanh(A rbf + b)."""

    @abstractmethod
    def hidden_and_slope(self, first: Any, tile: Tile) -> None:
        """The same, and u = dh/dd."""

    @abstractmethod
    def add_messages(self, tile: Tile, y: Tensor, m: Tensor) -> None:
        """m_i += w y_j; both: m_j += w y_i."""

    @abstractmethod
    def add_gradients(self, tile: Tile, g: Tensor, g_y: Tensor) -> None:
        """g_y_j += w g_i; both: g_y_i += w g_j."""

    @abstractmethod
    def multiply(self, tile: Tile, y: Tensor, g: Tensor) -> None:
        """w = y_j g_i; both: + y_i g_j."""

    @abstractmethod
    def contract(self, tile: Tile, slope: Tensor) -> None:
        """slope += h . u."""

    def _tiles(self) -> Iterator[Tile]:
        buffers = (self._hidden, self._sloped, self._filtered)
        for ends, d in zip(self.ends.split(self.tile, dim=1), self.distances.split(self.tile), strict=True):
            yield Tile(*ends, d, *(buffer[: len(d)] for buffer in buffers))


class TorchTiles(TiledPasses):
    """The steps as operations of torch.

    tanh(a) = 2 sigmoid(2 a) - 1, which torch computes in half the time (measured here, with AVX-512).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._basis, self._basis_slope = self.buffer(self.num_basis), self.buffer(self.num_basis)
        self._gathered = self.buffer(self.num_filters)
        self._centres = self.potential.basis.centres(self.distances)

    @property
    def buffers(self) -> list[Tensor]:
        """Six."""
        return [*super().buffers, self._basis, self._basis_slope, self._gathered]

    def prepared(self, block: Block) -> tuple[Tensor, Tensor]:
        """2 A transposed and 2 b."""
        return 2 * block.filter[0].weight.T, 2 * block.filter[0].bias

    def hidden(self, first: tuple[Tensor, Tensor], tile: Tile) -> None:
        """See ``TiledPasses``."""
        weight, bias = first
        _, basis = self._gaussians(tile.d)
        fc = envelope(tile.d, self.potential.cutoff).unsqueeze(1)
        torch.addmm(bias, basis.mul_(fc), weight, out=tile.h).sigmoid_().sub_(0.5).mul_(2 * fc)

    def hidden_and_slope(self, first: tuple[Tensor, Tensor], tile: Tile) -> None:
        """u = fc (1 - tanh^2) (A rbf') + fc' tanh, rbf' = exp(.) (2 gamma (d - mu) fc + fc')."""
        weight, bias = first
        away, basis = self._gaussians(tile.d)
        fc, slope = (function(tile.d, self.potential.cutoff).unsqueeze(1) for function in (envelope, envelope_slope))
        half_slope = away.mul_(fc * self.potential.basis.gamma).add_(slope / 2).mul_(basis)
        h = torch.addmm(bias, basis.mul_(fc), weight, out=tile.h).sigmoid_().sub_(0.5).mul_(2)
        u = torch.mm(half_slope, weight, out=tile.u)
        u.addcmul_(torch.mul(h, h, out=tile.w), u, value=-1).mul_(fc)
        if not self.drop_cutoff_grad:
            u.addcmul_(h, slope)
        h.mul_(fc)

    def add_messages(self, tile: Tile, y: Tensor, m: Tensor) -> None:
        """See ``TiledPasses``."""
        self._add(tile.source, tile.destination, tile, y, m)

    def add_gradients(self, tile: Tile, g: Tensor, g_y: Tensor) -> None:
        """See ``TiledPasses``."""
        self._add(tile.destination, tile.source, tile, g, g_y)

    def multiply(self, tile: Tile, y: Tensor, g: Tensor) -> None:
        """See ``TiledPasses``; h is free by now."""
        source, destination, gathered = tile.source, tile.destination, self._gathered[: len(tile.d)]
        torch.index_select(y, 0, source, out=tile.w)
        tile.w.mul_(torch.index_select(g, 0, destination, out=gathered))
        if self.both:
            torch.index_select(y, 0, destination, out=gathered)
            tile.w.addcmul_(gathered, torch.index_select(g, 0, source, out=tile.h))

    def contract(self, tile: Tile, slope: Tensor) -> None:
        """See ``TiledPasses``."""
        slope += tile.h.mul_(tile.u).sum(1)

    def _gaussians(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """d - mu and exp(gamma (d - mu)^2), each [T, K]."""
        away = torch.sub(d.unsqueeze(1), self._centres, out=self._basis_slope[: len(d)])
        return away, torch.mul(away, away, out=self._basis[: len(d)]).mul_(self.potential.basis.gamma).exp_()

    def _add(self, given: Tensor, taken: Tensor, tile: Tile, rows: Tensor, total: Tensor) -> None:
        gathered = self._gathered[: len(tile.d)]
        total.index_add_(0, taken, torch.index_select(rows, 0, given, out=gathered).mul_(tile.w))
        if self.both:
            total.index_add_(0, given, torch.index_select(rows, 0, taken, out=gathered).mul_(tile.w))
