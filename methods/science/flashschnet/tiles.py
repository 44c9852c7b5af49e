"""The passes over edges in plain torch, a tile at a time in buffers that are made once.

A pass costs a message's two matrix products in the forward direction and four in the backward one, which computes the
filter anew: what is saved is memory, and, over pairs, half of everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from runner.methods.science.flashschnet.fused import EdgePasses
from runner.methods.science.flashschnet.potential import Block, envelope, envelope_slope


class Tiles(EdgePasses):
    """See ``EdgePasses``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        block: Block = self.potential.blocks[0]  # type: ignore[assignment]
        filters, num_basis = block.filter[0].weight.shape
        rows = max(1, min(self.tile, len(self.distances)))
        self._basis, self._away = (self.distances.new_empty(rows, num_basis) for _ in range(2))
        self._hidden, self._filter, self._product, self._gathered = (
            self.distances.new_empty(rows, filters) for _ in range(4)
        )

    @property
    def buffers(self) -> list[Tensor]:
        """Six."""
        return [self._basis, self._away, self._hidden, self._filter, self._product, self._gathered]

    def sum_messages(self, block: Block, y: Tensor) -> Tensor:
        """[N, F] -> [N, F]."""
        m = torch.zeros_like(y)
        for source, destination, d in self._tiles():
            w = self._filters(block, d).mul_(envelope(d, self.potential.cutoff).unsqueeze(1))
            self._add(m, destination, self._gather(y, source, self._product).mul_(w))
            if self.both:
                self._add(m, source, self._gather(y, destination, self._product).mul_(w))
        return m

    def gradients(self, block: Block, y: Tensor, g: Tensor, slope: Tensor, with_y: bool) -> Tensor | None:
        """With q = y_j * g_i (of a pair: + y_i * g_j), dE/dd = q . (W fc)'; dE/dy_j gets fc W g_i."""
        g_y = torch.zeros_like(y) if with_y else None
        at = 0
        for source, destination, d in self._tiles():
            w, fc = self._filters(block, d), envelope(d, self.potential.cutoff)
            g_i = self._gather(g, destination, self._gathered)
            q = self._gather(y, source, self._product)
            q *= g_i
            if g_y is not None:
                self._add(g_y, source, g_i.mul_(fc.unsqueeze(1)).mul_(w))
            if self.both:
                y_i = self._gather(y, destination, self._gathered)
                # q += y_i * g_j, without a buffer more: gathered twice
                q.addcmul_(y_i, g.index_select(0, source))
                if g_y is not None:
                    g_j = self._gather(g, source, self._gathered)
                    self._add(g_y, destination, g_j.mul_(fc.unsqueeze(1)).mul_(w))
            found = slope[at : at + len(d)]
            at += len(d)
            if not self.drop_cutoff_grad:
                found += (w.mul_(q)).sum(1) * envelope_slope(d, self.potential.cutoff)
            found += self._through_filter(block, q, d) * fc
        return g_y

    def _through_filter(self, block: Block, q: Tensor, d: Tensor) -> Tensor:
        """q . dW/dd [T], with W = B tanh(A rbf + b): ((q B) (1 - h^2)) A . rbf'; the tile's h and Gaussians are there."""
        first, _, second = block.filter
        rows = len(d)
        h, basis, away = self._hidden[:rows], self._basis[:rows], self._away[:rows]
        back = torch.mm(q, second.weight, out=self._filter[:rows])  # type: ignore[call-overload]
        back -= h.square_().mul_(back)
        # rbf' = exp(.) (2 gamma (d - mu) fc + fc'); ``basis`` holds exp(.) fc, ``away`` d - mu
        fc = envelope(d, self.potential.cutoff)
        factor = envelope_slope(d, self.potential.cutoff) / fc.clamp(min=torch.finfo(fc.dtype).tiny)
        away.mul_(2 * self.potential.basis.gamma).add_(factor.unsqueeze(1)).mul_(basis)
        out: Tensor = torch.mm(back, first.weight, out=basis).mul_(away).sum(1)  # type: ignore[call-overload]
        return out

    def _filters(self, block: Block, d: Tensor) -> Tensor:
        """W(d) [T, F], without the cutoff; h = tanh(.), the basis and d - mu stay in their buffers."""
        basis, first, second = self.potential.basis, block.filter[0], block.filter[2]
        rows = len(d)
        away = torch.sub(d.unsqueeze(1), basis.centres(d), out=self._away[:rows])
        rbf = torch.mul(away, away, out=self._basis[:rows]).mul_(basis.gamma).exp_()
        rbf *= envelope(d, self.potential.cutoff).unsqueeze(1)
        h = torch.addmm(first.bias, rbf, first.weight.T, out=self._hidden[:rows]).tanh_()  # type: ignore[call-overload]
        w: Tensor = torch.mm(h, second.weight.T, out=self._filter[:rows])  # type: ignore[call-overload]
        return w

    def _tiles(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for (source, destination), d in zip(
            self.ends.split(self.tile, dim=1), self.distances.split(self.tile), strict=True
        ):
            yield source, destination, d

    @staticmethod
    def _gather(rows: Tensor, index: Tensor, out: Tensor) -> Tensor:
        return torch.index_select(rows, 0, index, out=out[: len(index)])

    @staticmethod
    def _add(total: Tensor, index: Tensor, rows: Tensor) -> None:
        total.index_add_(0, index, rows)
