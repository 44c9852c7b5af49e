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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

    def split(self, wides: Sequence[Tensor]) -> list[Tensor]:
        """Each network's columns [N, H] of the products [N, g H]."""
        return [part for wide in wides for part in wide.split(self.width, dim=1)]


class SideBySide:
    """S networks, which keep their own parameters, and what the last forward pass left for the backward one."""

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
        self._outputs: list[list[Tensor]] = []
        """h' [N, g H] of each layer, undropped, as far as it is known for the parameters as they are."""
        self._inputs: list[list[Tensor]] = []
        """What each layer but the first read in the last pass [N, g F]."""

    def parameters(self) -> list[nn.Parameter]:
        """Of all networks, in the order of the gradients of ``backward``."""
        return [item for layer in self._layers for same in (*layer.weights, layer.biases) for item in same]

    def stepped(self) -> None:
        """The parameters are others now."""
        self._outputs = []

    def forward(self, *, training: bool) -> Tensor:
        """Logits [S, C, N]: classes before nodes, which is the faster order for what a loss computes."""
        first, *others = self._layers
        if not self._outputs:
            self._outputs = [self._forward(first, None)]
        dropping = training and self._dropout > 0
        outputs = self._outputs[:1] if dropping else self._outputs
        self._inputs = []
        for place, (below, layer) in enumerate(zip(self._layers, others, strict=False), start=1):
            self._inputs.append(self._dropped(below, outputs[-1]) if dropping else outputs[place - 1])
            if len(outputs) == place:
                outputs.append(self._forward(layer, below.split(self._inputs[-1])))
        return torch.cat([wide.T.reshape(-1, self._layers[-1].width, len(wide)) for wide in outputs[-1]])

    def _forward(self, layer: _Layer, inputs: list[Tensor] | None) -> list[Tensor]:
        """h' of a layer; ``inputs``: h [N, F] of each network, None: the features."""
        wides = []
        for chunk in layer.chunks:
            products = [self._times(same, chunk, inputs) for same in layer.weights]
            wide = products[0] if layer.operator is None else sparse_times_dense(layer.operator, products[0])
            for product in products[1:]:
                wide += product
            wide += torch.cat([layer.biases[network] for network in chunk])
            wides.append(wide if layer is self._layers[-1] else wide.clamp_min_(0))
        return wides

    def _times(self, weights: list[nn.Parameter], chunk: range, inputs: list[Tensor] | None) -> Tensor:
        """h W of a product's networks, side by side [N, g H]."""
        if inputs is None:
            wide = torch.cat([weights[network] for network in chunk], dim=1)
            return sparse_times_dense(self._x, wide) if isinstance(self._x, SparseMatrix) else self._x @ wide
        return _products([(inputs[network], weights[network]) for network in chunk])

    def _dropped(self, layer: _Layer, wides: list[Tensor]) -> list[Tensor]:
        """The outputs of a layer, dropped as ``functional.dropout`` drops them: the same draws, network by network."""
        dropped = []
        for chunk, wide in zip(layer.chunks, wides, strict=True):
            shape = (len(wide), layer.width)
            kept = [wide.new_empty(shape).bernoulli_(1 - self._dropout, generator=self._draws[i]) for i in chunk]
            dropped.append(torch.cat(kept, dim=1).div_(1 - self._dropout).mul_(wide))
        return dropped

    def backward(self, slopes: Tensor) -> list[Tensor]:
        """Gradients of ``parameters`` from those of the logits [S, C, N] of the last pass."""
        above = [slopes[chunk.start : chunk.stop].flatten(0, 1).T.contiguous() for chunk in self._layers[-1].chunks]
        gradients: list[Tensor] = []
        for place in reversed(range(len(self._layers))):
            layer = self._layers[place]
            operator = layer.operator and layer.operator.transposed
            through = [sparse_times_dense(operator, dy) for dy in above] if operator else above
            # h' = A (h W) + h V + b:  dW = h^T (A^T dh'),  dV = h^T dh',  dh = (A^T dh') W^T + dh' V^T
            sides = [through, above][: len(layer.weights)]
            biases = [part for dy in above for part in dy.sum(0).split(layer.width)]
            gradients = [*(item for side in sides for item in self._weights(place, side)), *biases, *gradients]
            if place:
                above = self._below(place, [layer.split(side) for side in sides])
        return gradients

    def _weights(self, place: int, side: list[Tensor]) -> list[Tensor]:
        """Gradients of a layer's weights of one kind, from those of the products [N, g H]."""
        layer = self._layers[place]
        if place:
            inputs = self._layers[place - 1].split(self._inputs[place - 1])
            return [_product_of_transposed(h, dy) for h, dy in zip(inputs, layer.split(side), strict=True)]
        x = self._x
        if isinstance(x, SparseMatrix):
            wides = [sparse_times_dense(x.transposed, dy) for dy in side]
        else:
            wides = [x.T @ dy for dy in side]
        return [part.contiguous() for part in layer.split(wides)]

    def _below(self, place: int, sides: list[list[Tensor]]) -> list[Tensor]:
        """Gradients of what the layer below gives, before its ReLU [N, g F], from each network's of the products."""
        layer, below = self._layers[place], self._layers[place - 1]
        wides = []
        for chunk, h in zip(below.chunks, self._inputs[place - 1], strict=True):
            wide = torch.empty_like(h)
            for network, part in zip(chunk, wide.split(below.width, dim=1), strict=True):
                torch.mm(sides[0][network], layer.weights[0][network].T, out=part)
                for side, weights in zip(sides[1:], layer.weights[1:], strict=True):
                    part.addmm_(side[network], weights[network].T)
            # Where an output was dropped or below 0, the next layer read 0.
            torch.ops.aten.threshold_backward.grad_input(wide, h, 0, grad_input=wide)
            wides.append(wide.div_(1 - self._dropout) if self._dropout else wide)
        return wides


def _products(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """[N, F] @ [F, H] for each pair, side by side [N, g H]."""
    rows, width = len(pairs[0][0]), pairs[0][1].shape[1]
    if width < NARROW:
        flat = pairs[0][0].new_empty(len(pairs) * width, rows)
        for (h, weight), part in zip(pairs, flat.split(width), strict=True):
            torch.mm(weight.T, h.T, out=part)
        return flat.T.contiguous()
    wide = pairs[0][0].new_empty(rows, len(pairs) * width)
    for (h, weight), part in zip(pairs, wide.split(width, dim=1), strict=True):
        torch.mm(h, weight, out=part)
    return wide


def _product_of_transposed(h: Tensor, dy: Tensor) -> Tensor:
    """[N, F]^T @ [N, H], contiguous."""
    return (dy.T @ h).T.contiguous() if dy.shape[1] < NARROW else h.T @ dy
