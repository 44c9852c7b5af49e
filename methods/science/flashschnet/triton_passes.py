"""The passes over directed edges on a GPU, each one kernel; see ``triton_kernels``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from runner.methods.science.flashschnet.fused import EdgePasses
from runner.methods.science.flashschnet.potential import Block

EDGES = 16
"""Edges of a bead that a program holds at a time: the least that a matrix product takes."""


class TritonPasses(EdgePasses):
    """See ``EdgePasses``; of directed edges alone. The size of a tile is the kernels' own."""

    @property
    def buffers(self) -> list[Tensor]:
        """None: a tile lies in registers."""
        return []

    def sum_messages(self, block: Block, y: Tensor) -> Tensor:
        """[N, F] -> [N, F]."""
        from runner.methods.science.flashschnet import triton_kernels

        m = torch.empty_like(y)
        triton_kernels.sum_messages[(len(y),)](
            *self._edges(y), *self._weights(block), y, m, *self._sizes(block), **self._tile(block)
        )
        return m

    def gradients(self, block: Block, y: Tensor, g: Tensor, slope: Tensor, with_y: bool) -> Tensor | None:
        """[N, F] -> [N, F], and ``slope`` [E]."""
        from runner.methods.science.flashschnet import triton_kernels

        g_y = torch.empty_like(y)
        constants = {"WITH_Y": with_y, "KEEP": not self.drop_cutoff_grad, **self._tile(block)}
        operands = (*self._edges(y), *self._weights(block), y, g.contiguous(), slope, g_y, *self._sizes(block))
        triton_kernels.gradients[(len(y),)](*operands, **constants)
        return g_y if with_y else None

    def _edges(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        beads = torch.arange(len(y) + 1, device=y.device)
        return torch.searchsorted(self.ends[1].contiguous(), beads), self.ends[0], self.distances

    @staticmethod
    def _weights(block: Block) -> tuple[Tensor, Tensor, Tensor]:
        return block.filter[0].weight, block.filter[0].bias, block.filter[2].weight

    def _sizes(self, block: Block) -> tuple[Any, ...]:
        filters, num_basis = block.filter[0].weight.shape
        basis = self.potential.basis
        return self.distances.new_tensor([basis.cutoff, basis.spacing]), num_basis, filters

    @staticmethod
    def _tile(block: Block) -> dict[str, int]:
        filters, num_basis = (max(16, 1 << (size - 1).bit_length()) for size in block.filter[0].weight.shape)
        return {"T": EDGES, "K": num_basis, "F": filters}
