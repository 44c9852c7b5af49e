"""Initial weights of graph networks: PyTorch's classical ones, and Virgo's, which look at the graph.

Each block says what its weights are and how it propagates (:class:`Propagating`); everything else is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from runner.contracts import GraphClassification, LinkPrediction, NodeClassification, Task
from runner.errors import BadInput
from runner.methods.models.variances import (
    RELU,
    Map,
    arithmetic_mean,
    backward_variances,
    energies,
    forward_variances,
    harmonic_mean,
)
from runner.methods.ops.graph import Graph
from runner.methods.ops.graph_batches import GraphBatches
from runner.methods.ops.sparse import SparseMatrix

Operator = Literal["own", "gcn"]
Signal = Literal["mean", "features"]


class Propagating(nn.Module, ABC):
    """A block whose weights can be drawn anew: Y = maps(A X), where A is without parameters at the start."""

    with_self: ClassVar[bool] = False
    """Whether a first map's second matrix multiplies X itself instead of A X."""
    averaged: int = 1
    """Number of equal heads whose outputs are averaged; the matrices hold them side by side."""

    @abstractmethod
    def maps(self) -> list[list[Tensor]]:
        """Weights [in, out], views of the parameters: one map after the other, each of matrices side by side."""

    @abstractmethod
    def biases(self) -> list[Tensor]:
        """All biases, which every initialisation but ``default`` makes zero."""

    @abstractmethod
    def operator(self, graph: Graph) -> SparseMatrix:
        """A [N, N]: what the block multiplies its input by before its first map."""


def _linear(weight: Tensor) -> None:
    """As ``torch.nn.Linear``: uniform in +-1/sqrt(fan_in)."""
    nn.init.kaiming_uniform_(weight, a=5**0.5)


def _lecun(weight: Tensor) -> None:
    """Variance 1 / fan_in."""
    nn.init.kaiming_uniform_(weight, nonlinearity="linear")


CLASSICAL: dict[str, Callable[[Tensor], object]] = {
    "xavier": nn.init.xavier_uniform_,
    "kaiming_fan_in": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "kaiming_fan_out": lambda weight: nn.init.kaiming_uniform_(weight, mode="fan_out", nonlinearity="relu"),
    "lecun": _lecun,
    "orthogonal": lambda weight: nn.init.orthogonal_(weight, gain=RELU**0.5),
    "linear": _linear,
}
"""By the names that ``model.init`` takes; each draws a weight [out, in]. All but ``orthogonal`` are uniform."""
VIRGO: dict[str, Callable[[float, float], float]] = {
    "virgo": harmonic_mean,
    "virgo_arithmetic": arithmetic_mean,
    "virgofor": lambda forward, _: forward,
    "virgoback": lambda _, backward: backward,
}
"""How a layer's variance follows from the forward and the backward one."""


def draw(blocks: Sequence[Propagating], init: str, task: Task, operator: Operator, signal: Signal) -> None:
    """Draw the weights of a network's blocks anew, from the input to the output; biases become 0.

    Raises:
        BadInput: Virgo has no graph here, or its signal dies out on the way.
    """
    if init in VIRGO:
        draw_virgo(blocks, virgo_variances(blocks, init, *_seen(task), operator=operator, signal=signal))
    else:
        for weight in (weight for block in blocks for place in block.maps() for weight in place):
            CLASSICAL[init](weight.T)  # torch's routines take [out, in]
    for bias in (bias for block in blocks for bias in block.biases()):
        nn.init.zeros_(bias)


def draw_virgo(blocks: Sequence[Propagating], variances: Sequence[Sequence[float]]) -> None:
    """W ~ Uniform(-sqrt(3 v), sqrt(3 v)), with v for each block's maps."""
    for block, of_maps in zip(blocks, variances, strict=True):
        for matrices, variance in zip(block.maps(), of_maps, strict=True):
            for weight in matrices:
                nn.init.uniform_(weight, -((3 * variance) ** 0.5), (3 * variance) ** 0.5)


@torch.no_grad()
def virgo_variances(
    blocks: Sequence[Propagating], init: str, x: Tensor, graph: Graph, *, operator: Operator, signal: Signal
) -> list[list[float]]:
    """v of each block's maps.

    ``operator="own"`` takes the blocks' own propagation, once a block. ``"gcn"`` is what the released code does
    whatever the blocks: GCN's A_hat, and the layer's value for each of its maps.

    Raises:
        BadInput: the signal is zero, or dies out on the way.
    """
    own = operator == "own"
    chain, averaged = [], []
    for block in blocks:
        first, *further = (_map(block, matrices, first=not place) for place, matrices in enumerate(block.maps()))
        last = further[-1] if further else first
        chain += [first, *further] if own else [Map(first.fan_in, last.fan_out, aggregates=True)]
        averaged += [block.averaged if own else 1] * (1 + len(further) if own else 1)
    matrix = blocks[0].operator(graph) if own else graph.symmetric
    with_self = own and blocks[0].with_self
    start = x if signal == "features" else x.mean(1)
    forward_energy = energies(matrix, start, len(blocks), with_self=with_self)
    backward_energy = energies(matrix.transposed, x.new_ones(x.shape[0]), len(blocks), with_self=with_self)
    if not (forward_energy > 0).all():  # A keeps each node itself in some way: ones can't die out
        raise BadInput(
            f"model.init={init}: the signal ({signal}) is zero within {len(blocks)} "
            "aggregations of this graph; use model.init_signal=features, or one of " + ", ".join(CLASSICAL)
        )
    values = [
        VIRGO[init](forward, backward) * heads
        for forward, backward, heads in zip(
            forward_variances(chain, forward_energy, factor=RELU),
            backward_variances(chain, backward_energy, factor=RELU),
            averaged,
            strict=True,
        )
    ]
    left = iter(values)
    if own:
        return [[next(left) for _ in block.maps()] for block in blocks]
    return [[value] * len(block.maps()) for block, value in zip(blocks, values, strict=True)]


def _map(block: Propagating, matrices: Sequence[Tensor], *, first: bool) -> Map:
    fan_in, columns = matrices[0].shape
    return Map(fan_in, columns // block.averaged, aggregates=first)


def _seen(task: Task) -> tuple[Tensor, Graph]:
    """Features and graph that a network meets in training; of many graphs, all training ones side by side."""
    if isinstance(task, NodeClassification):
        return task.x, Graph(task.edge_index, task.num_nodes, task.x.dtype)
    if isinstance(task, LinkPrediction):
        return task.x, Graph(task.message_edges("train"), task.num_nodes, task.x.dtype)
    if isinstance(task, GraphClassification):
        batch = GraphBatches(task)(task.train)
        return task.x[batch.nodes], batch.graph
    raise BadInput(
        f"model.init: Virgo has no graph to look at in a task of kind {type(task).__name__}; "
        f"use one of {', '.join(CLASSICAL)}"
    )
