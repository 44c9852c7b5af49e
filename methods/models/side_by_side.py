"""Networks of one architecture on one graph, trained side by side: forward and backward written out, nothing recorded.

Letters: S networks, g of them in a product, N nodes, F input width, H output width, C classes.

A layer is h' = ReLU(A (h W) + h V + b); the last one has no ReLU.

What pays on a processor, measured on Cora with one thread (F = 1,433, H = 128, S = 8): a sparse product is the better
for more columns up to some 128, and the worse again where its operand outgrows the second cache (1,024 columns: 2.2 ms,
eight times 128: 1.1 ms), so as many networks as make that many columns share one. A product with a narrow matrix is
three to five times as fast transposed ([N, 128] times [128, 7]: 0.34 ms against 0.10 ms; its gradient: 0.48 ms against
0.10 ms). And the forward pass of a validation is the next step's as well, up to the first dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from runner.methods.models.gcn import GCNBlock
from runner.methods.models.gcn_dropout import DroppedStack
from runner.methods.models.mlp import AffineBlock
from runner.methods.models.sage import SAGEBlock
from runner.methods.models.stack import Stack
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import SparseMatrix, sparse_times_dense

COLUMNS = 128
"""About so many columns in a product, of as many networks as they take."""
NARROW = 16
"""Below so many columns a dense product is computed transposed."""
_OPERATORS: dict[type[nn.Module], Callable[[Graph], SparseMatrix | None]] = {
    GCNBlock: lambda graph: graph.symmetric,
    SAGEBlock: lambda graph: graph.mean,
    AffineBlock: lambda graph: None,
}
"""Blocks that are such a layer (a subclass may be another one), and their A; None: I."""


def unfit(model: nn.Module) -> str:
    """Why a network can't be trained so, or the empty string."""
    if type(model) not in (Stack, DroppedStack):
        return f"a {type(model).__name__} is trained alone"
    strange = [type(block).__name__ for block in model.blocks if type(block) not in _OPERATORS]  # type: ignore[union-attr]
    if strange:
        return f"a {strange[0]} is trained alone"
    return "with dropout of 1 nothing is trained" if getattr(model, "dropout", 0.0) == 1 else ""


@dataclass(eq=False)
class _Layer:
    """A layer of all networks."""

    operator: SparseMatrix | None
    weights: list[list[nn.Parameter]]
    """W [F, H] of each network; then V of each, if the block has one."""
    biases: list[nn.Parameter]

    @property
    def width(self) -> int:
        """H."""
        return self.biases[0].numel()

    @property
    def chunks(self) -> list[range]:
        """The networks of each product."""
        count, size = len(self.biases), max(1, COLUMNS // self.width)
        return [range(begin, min(begin + size, count)) for begin in range(0, count, size)]

    def split(self, wides: Iterable[Tensor]) -> Iterator[Tensor]:
        """Each network's columns [N, H] of the products [N, g H]."""
        return (part for wide in wides for part in wide.split(self.width, dim=1))


class SideBySide:
    """S networks, which keep their own parameters, and what the last forward pass left for the backward one.

    Layers are gone through a product at a time, the next layer's as soon as its input is there: so it is still in the
    cache.
    """

    def __init__(
        self, models: Sequence[Any], x: Tensor | SparseMatrix, graph: Graph, draws: Sequence[torch.Generator]
    ) -> None:
        """``models``: see :func:`unfit`; ``x`` [N, F]: features; ``draws``: where each one's dropout comes from."""
        self._x = x
        self._draws = draws
        self._dropout: float = getattr(models[0], "dropout", 0.0)
        self._layers = []
        for blocks in zip(*(model.blocks for model in models), strict=True):
            weights = [list(same) for same in zip(*(block.maps()[0] for block in blocks), strict=True)]
            operator = _OPERATORS[type(blocks[0])](graph)
            self._layers.append(_Layer(operator, weights, [block.bias for block in blocks]))
        self._known: list[list[Tensor]] = []
        """h' [N, g H] of the first layers, undropped, for the parameters as they are."""
        self._logits: Tensor | None = None
        """What follows from them, if nothing is dropped."""
        self._inputs: list[list[Tensor]] = []
        """What each layer but the first read in the last pass [N, g F]."""

    def parameters(self) -> list[nn.Parameter]:
        """Of all networks, in the order of the gradients of ``backward``."""
        return [item for layer in self._layers for same in (*layer.weights, layer.biases) for item in same]

    def stepped(self) -> None:
        """The parameters are others now."""
        self._known, self._logits = [], None

    def forward(self, *, training: bool) -> Tensor:
        """Logits [S, C, N]: classes before nodes, which is the faster order for what a loss computes."""
        dropping = training and self._dropout > 0
        if self._logits is not None and not dropping:
            return self._logits
        known = self._known[:1] if dropping else self._known
        self._known, self._inputs = [[] for _ in self._layers], [[] for _ in self._layers[1:]]
        wides = self._flow(len(self._layers) - 1, known, dropping)
        logits = torch.cat([wide.T.reshape(-1, self._layers[-1].width, len(wide)) for wide in wides])
        if dropping:
            self._known = self._known[:1]
        else:
            self._logits = logits
        return logits

    # Methods, where functions inside ``forward`` would be shorter: those would hold one another, and with them each
    # pass's tensors until the collector comes, so that every pass had to ask the system for new memory.
    def _flow(self, place: int, known: list[list[Tensor]], dropping: bool) -> Iterator[Tensor]:
        """h' of a layer, product by product."""
        if place < len(known):
            wides: Iterable[Tensor] = known[place]
        elif place:
            wides = self._layer(place, self._layers[place - 1].split(self._read(place - 1, known, dropping)))
        else:
            wides = self._layer(place, None)
        for wide in wides:
            self._known[place].append(wide)
            yield wide

    def _read(self, place: int, known: list[list[Tensor]], dropping: bool) -> Iterator[Tensor]:
        """The same as the next layer reads it."""
        for chunk, wide in zip(self._layers[place].chunks, self._flow(place, known, dropping), strict=True):
            self._inputs[place].append(self._dropped(wide, chunk) if dropping else wide)
            yield self._inputs[place][-1]

    def _layer(self, place: int, inputs: Iterator[Tensor] | None) -> Iterator[Tensor]:
        """h' of a layer, product by product; ``inputs``: h [N, F] of each network, None: the features."""
        layer = self._layers[place]
        for chunk in layer.chunks:
            weights = [same[chunk.start : chunk.stop] for same in layer.weights]
            if inputs is None:
                products = [_times(self._x, _beside(same)) for same in weights]
            else:
                products = _products(islice(inputs, len(chunk)), weights, self._x.shape[0])
            wide = sparse_times_dense(layer.operator, products[0]) if layer.operator else products[0]
            for product in products[1:]:
                wide += product
            wide += torch.cat([layer.biases[network] for network in chunk])
            yield wide if layer is self._layers[-1] else wide.clamp_min_(0)

    def _dropped(self, wide: Tensor, chunk: range) -> Tensor:
        """An output, dropped as ``functional.dropout`` drops it: with the same draws, network by network."""
        shape = (len(wide), wide.shape[1] // len(chunk))
        kept = [wide.new_empty(shape).bernoulli_(1 - self._dropout, generator=self._draws[i]) for i in chunk]
        return _beside(kept).div_(1 - self._dropout).mul_(wide)

    def backward(self, slopes: Tensor) -> list[Tensor]:
        """Gradients of ``parameters`` from those of the logits [S, C, N] of the last pass."""
        last = self._layers[-1]
        above: Iterator[Tensor] = (
            slopes[chunk.start : chunk.stop].flatten(0, 1).T.contiguous() for chunk in last.chunks
        )
        gradients: list[Tensor] = []
        for place in reversed(range(len(self._layers))):
            layer = self._layers[place]
            operator = layer.operator.transposed if layer.operator else None
            weights: list[list[Tensor]] = [[] for _ in layer.weights]
            biases: list[Tensor] = []
            sides: list[list[Tensor]] = [[] for _ in layer.weights]
            for chunk, dy in zip(layer.chunks, above, strict=True):
                # h' = A (h W) + h V + b:  db = sum dh',  dW = h^T (A^T dh'),  dV = h^T dh'
                biases += dy.sum(0).split(layer.width)
                both = [sparse_times_dense(operator, dy) if operator else dy, dy]
                for side, found, q in zip(sides, weights, both, strict=False):
                    found += self._weight_gradients(place, chunk, q)
                    side.append(q) if place else None
            gradients = [*(item for found in weights for item in found), *biases, *gradients]
            if place:
                above = self._below(place, [list(layer.split(side)) for side in sides])
        return gradients

    def _weight_gradients(self, place: int, chunk: range, q: Tensor) -> list[Tensor]:
        """h^T q for each network of a product, from q [N, g H]."""
        parts = self._layers[place]
        if place == 0:
            x = self._x.transposed if isinstance(self._x, SparseMatrix) else self._x.T
            return [part.contiguous() for part in parts.split([_times(x, q)])]
        below = list(self._layers[place - 1].split(self._inputs[place - 1]))
        return [_transposed_times(below[network], part) for network, part in zip(chunk, parts.split([q]), strict=True)]

    def _below(self, place: int, sides: list[list[Tensor]]) -> Iterator[Tensor]:
        """Gradients of what the layer below gives, before its ReLU [N, g F]: dh = (A^T dh') W^T + dh' V^T."""
        layer, below = self._layers[place], self._layers[place - 1]
        for chunk, h in zip(below.chunks, self._inputs[place - 1], strict=True):
            wide = torch.empty_like(h)
            for network, part in zip(chunk, below.split([wide]), strict=True):
                torch.mm(sides[0][network], layer.weights[0][network].T, out=part)
                for side, weights in zip(sides[1:], layer.weights[1:], strict=True):
                    part.addmm_(side[network], weights[network].T)
            # Where an output was dropped or below 0, the layer above read 0.
            torch.ops.aten.threshold_backward.grad_input(wide, h, 0, grad_input=wide)
            yield wide.div_(1 - self._dropout) if self._dropout else wide


def _beside(parts: Sequence[Tensor]) -> Tensor:
    """[N, g H]."""
    return torch.cat(list(parts), dim=1) if len(parts) > 1 else parts[0]


def _times(x: Tensor | SparseMatrix, dense: Tensor) -> Tensor:
    return sparse_times_dense(x, dense) if isinstance(x, SparseMatrix) else x @ dense


def _products(inputs: Iterator[Tensor], weights: Sequence[Sequence[Tensor]], rows: int) -> list[Tensor]:
    """For each kind of weights [F, H] of g networks, their products with the inputs [N, F], side by side [N, g H]."""
    width, count = weights[0][0].shape[1], len(weights[0])
    narrow = width < NARROW
    size = (count * width, rows) if narrow else (rows, count * width)
    wides = [weights[0][0].new_empty(size) for _ in weights]
    places = [wide.split(width, dim=0 if narrow else 1) for wide in wides]
    for network, h in enumerate(inputs):
        for same, parts in zip(weights, places, strict=True):
            if narrow:
                torch.mm(same[network].T, h.T, out=parts[network])
            else:
                torch.mm(h, same[network], out=parts[network])
    return [wide.T.contiguous() for wide in wides] if narrow else wides


def _transposed_times(h: Tensor, q: Tensor) -> Tensor:
    """[N, F]^T @ [N, H], contiguous."""
    return (q.T @ h).T.contiguous() if q.shape[1] < NARROW else h.T @ q
