"""Layers that are all trained at once, on what their neighbours put out at the time step before.

Letters: N nodes (virtual ones among them, where there are any), F features, H hidden width, C width of the top
state, L layers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from runner.methods.graph.forwardgnn.layer import unit_rows
from runner.methods.models.stack import AggregateThenTransform
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Beside, Features, Product, Remembered, SparseMatrix

Seen = tuple[Features | Product, ...]
"""A state as the layers beside it need it: aggregated, if their blocks only transform an aggregate."""


def update_groups(num_layers: int, alternating: bool) -> list[range]:
    """Layers (from 0) that are updated together, in order: layers 1, 3, … and then 2, 4, …, or all at once."""
    if not alternating:
        return [range(num_layers)]
    return [group for group in (range(0, num_layers, 2), range(1, num_layers, 2)) if group]


def input_widths(num_features: int, hidden: int, num_layers: int, top: int) -> list[int]:
    """d_{j-1} + d_{j+1} for each layer j; d_0 = ``num_features``, d_{L+1} = ``top``: 0 if there is no top state."""
    widths = [num_features] + [hidden] * num_layers + [top]
    return [below + above for below, above in zip(widths[:-2], widths[2:], strict=True)]


class LayerStates:
    """The states s_0, …, s_{L+1}, of which s_1..s_L are outputs of the layers at the last time step, and::

        z_j = ReLU(block_j([norm(s_{j-1}) | norm(s_{j+1})]))

    Kept is norm(s_j), since nothing else is read, and its aggregate, which both neighbours share. A state
    carries no gradient. What depends on s_0 and s_{L+1} alone is computed once.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], hidden: int, graph: Graph, bottom: Features, top: Tensor | None
    ) -> None:
        """Layers of width H = ``hidden`` between norm(s_0) [N, F] and norm(s_{L+1}) [N, C].

        Without a top state, block L's input is norm(s_{L-1}) alone.
        """
        self._blocks = blocks
        self._hidden = hidden
        self._graph = graph
        self._bottom = self._as_seen(bottom)
        self._top = None if top is None else self._as_seen(top)
        self._states: list[Tensor] = []
        self._seen: list[Seen] = []

    @torch.no_grad()
    def start(self) -> None:
        """s_1..s_L of one pass upwards, in which the upper half of every input is zero."""
        self._states, self._seen = [], []
        below = self._bottom
        for layer, block in enumerate(self._blocks):
            nothing = SparseMatrix.zeros(self._graph.num_nodes, self._width_above(layer), next(block.parameters()))
            above = (nothing,) * len(below) if nothing.shape[1] else None
            state = unit_rows(self._output(block, below, above))
            below = self._as_seen(state)
            self._states.append(state)
            self._seen.append(below)

    def output(self, layer: int) -> Tensor:
        """z [N, H] of a layer (from 0) for the states of its neighbours."""
        below = self._seen[layer - 1] if layer > 0 else self._bottom
        above = self._seen[layer + 1] if layer + 1 < len(self._blocks) else self._top
        return self._output(self._blocks[layer], below, above)

    @torch.no_grad()
    def store(self, outputs: Mapping[int, Tensor]) -> None:
        """Make outputs z of layers (from 0) their states."""
        for layer, z in outputs.items():
            self._states[layer] = unit_rows(z)
            self._seen[layer] = self._as_seen(self._states[layer])

    def for_inference(self) -> LayerStates:
        """States of their own between the same ends, started; only for parameters that stay as they are."""
        states = copy.copy(self)
        if isinstance(self._blocks[0], AggregateThenTransform):
            states._bottom = tuple(Remembered(part) for part in self._bottom)
            states._top = None if self._top is None else tuple(Remembered(part) for part in self._top)
        states.start()
        return states

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"states": list(self._states)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put it back."""
        self._states = list(state_dict["states"])
        self._seen = [self._as_seen(state) for state in self._states]

    def _width_above(self, layer: int) -> int:
        if layer + 1 < len(self._blocks):
            return self._hidden
        return 0 if self._top is None else self._top[0].shape[1]

    def _output(self, block: nn.Module, below: Seen, above: Seen | None) -> Tensor:
        parts = below if above is None else tuple(Beside(pair) for pair in zip(below, above, strict=True))
        if isinstance(block, AggregateThenTransform):
            return block.transform(*parts).relu()
        output: Tensor = block(parts[0], self._graph)
        return output.relu()

    def _as_seen(self, state: Features) -> Seen:
        block = self._blocks[0]  # an aggregate has no parameters: it is the same whichever block computes it
        return block.aggregate(state, self._graph) if isinstance(block, AggregateThenTransform) else (state,)
