"""The steps of a tile as compiled loops; each stands in ``kernels``."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from runner.methods.science.flashschnet.potential import Block
from runner.methods.science.flashschnet.tiles import Tile, TiledPasses


class CompiledPasses(TiledPasses):
    """The filter's first layer sums a window of weight rows; gathered rows are never written."""

    def __init__(self, *args: Any, **options: Any) -> None:
        from runner.methods.science.flashschnet import kernels

        super().__init__(*args, **options)
        self._kernels = kernels.kernels(self.distances.dtype)
        self._reach = kernels.REACH[self.distances.dtype]

    def prepared(self, block: Block) -> tuple[Any, ...]:
        """A transposed, between rows of zeros for windows that reach beyond the basis; b; what the basis needs."""
        first, basis = block.filter[0], self.potential.basis
        rows = functional.pad(first.weight.T, (0, 0, self._reach - 1, self._reach)).contiguous()
        keep = 0.0 if self.drop_cutoff_grad else 1.0
        return rows.numpy(), first.bias.numpy(), basis.spacing, basis.cutoff, keep

    def hidden(self, first: tuple[Any, ...], tile: Tile) -> None:
        """See ``TiledPasses``."""
        self._kernels.hidden(tile.d.numpy(), *first, tile.h.numpy(), tile.u.numpy())

    def hidden_and_slope(self, first: tuple[Any, ...], tile: Tile) -> None:
        """See ``TiledPasses``."""
        self._kernels.hidden_and_slope(tile.d.numpy(), *first, tile.h.numpy(), tile.u.numpy())

    def add_messages(self, tile: Tile, y: Tensor, m: Tensor) -> None:
        """See ``TiledPasses``."""
        self._kernels.add(*_ends(tile), tile.w.numpy(), y.numpy(), m.numpy(), self.both)

    def add_gradients(self, tile: Tile, g: Tensor, g_y: Tensor) -> None:
        """g_y_i += w g_j; both: g_y_j += w g_i.

        A list of directed edges holds both directions of a pair, and w is the same in both: what j's gradient owes to
        the edge (j, i) is what the edge (i, j) adds to its own destination, so that rows are summed one by one.
        """
        self._kernels.add(*_ends(tile), tile.w.numpy(), g.numpy(), g_y.numpy(), self.both)

    def multiply(self, tile: Tile, y: Tensor, g: Tensor) -> None:
        """See ``TiledPasses``."""
        self._kernels.multiply(*_ends(tile), y.numpy(), g.numpy(), tile.w.numpy(), self.both)

    def contract(self, tile: Tile, slope: Tensor) -> None:
        """See ``TiledPasses``."""
        self._kernels.contract(tile.h.numpy(), tile.u.numpy(), slope.numpy())


def _ends(tile: Tile) -> tuple[Any, Any]:
    return tile.source.numpy().view(np.uint64), tile.destination.numpy().view(np.uint64)
