"""The passes over edges with compiled loops around torch's matrix products, a tile at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from runner.methods.science.flashschnet.fused import EdgePasses
from runner.methods.science.flashschnet.potential import Block


class CompiledPasses(EdgePasses):
    """See ``EdgePasses``; what each kernel does stands in ``kernels``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        from runner.methods.science.flashschnet import kernels

        super().__init__(*args, **options)
        self._kernels = kernels.kernels(self.distances.dtype)
        self._reach = kernels.REACH[self.distances.dtype]
        block: Block = self.potential.blocks[0]  # type: ignore[assignment]
        rows = max(1, min(self.tile, len(self.distances)))
        self._h, self._u, self._w = (self.distances.new_empty(rows, block.gather.in_features) for _ in range(3))

    @property
    def buffers(self) -> list[Tensor]:
        """Three."""
        return [self._h, self._u, self._w]

    def sum_messages(self, block: Block, y: Tensor) -> Tensor:
        """[N, F] -> [N, F]."""
        m = torch.zeros_like(y)
        second, filter_of = block.filter[2].weight, self._filter(block)
        for source, destination, d in self._tiles():
            h, u, w = self._h[: len(d)], self._u[: len(d)], self._w[: len(d)]
            self._kernels.hidden(d.numpy(), *filter_of, h.numpy(), u.numpy())
            torch.mm(h, second.T, out=w)
            self._kernels.add_messages(source, destination, w.numpy(), y.numpy(), m.numpy(), self.both)
        return m

    def gradients(self, block: Block, y: Tensor, g: Tensor, slope: Tensor, with_y: bool) -> Tensor | None:
        """dE/dd = (q B) . d(fc h)/dd, with B the filter's second layer and q = y_j * g_i (of a pair: + y_i * g_j)."""
        g_y = torch.zeros_like(y)
        second, filter_of = block.filter[2].weight, self._filter(block)
        at = 0
        for source, destination, d in self._tiles():
            h, u, w = self._h[: len(d)], self._u[: len(d)], self._w[: len(d)]
            self._kernels.hidden_and_slope(d.numpy(), *filter_of, h.numpy(), u.numpy())
            if with_y:
                torch.mm(h, second.T, out=w)
            operands = [tensor.numpy() for tensor in (w, y, g, h, g_y)]
            self._kernels.multiply(source, destination, *operands, with_y, self.both)
            torch.mm(h, second, out=w)
            self._kernels.contract(w.numpy(), u.numpy(), slope[at : at + len(d)].numpy())
            at += len(d)
        return g_y if with_y else None

    def _filter(self, block: Block) -> tuple[Any, ...]:
        first = block.filter[0]
        rows = functional.pad(first.weight.T, (0, 0, self._reach - 1, self._reach)).contiguous()
        basis = self.potential.basis
        keep = 0.0 if self.drop_cutoff_grad else 1.0
        return rows.numpy(), first.bias.numpy(), basis.spacing, basis.cutoff, keep

    def _tiles(self) -> Iterator[tuple[Any, Any, Tensor]]:
        ends = self.ends.numpy().view("uint64")
        for at, d in zip(range(0, len(self.distances), self.tile), self.distances.split(self.tile), strict=True):
            yield ends[0, at : at + self.tile], ends[1, at : at + self.tile], d
