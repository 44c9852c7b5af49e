"""NBFNet's messages on genuine FB15k-237: compiled passes over the edges against gather and scatter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Row, interleaved, seconds
from runner import registry
from runner.hardware.activations import LiveBytes, storage_bytes

ROUNDS = 3
WIDTH = 32


def messages_against_scatter() -> list[Row]:
    """One layer's messages of one source, forward and backward: seconds, and the most bytes held at once."""
    from runner.methods.ops import edge_messages
    from runner.methods.ops.relational import RelationalGraph, with_inverses

    torch.set_num_threads(1)
    task = registry.build(registry.read("dataset", "fb15k237")).load("KnowledgeGraphCompletion")
    relations = len(task.relations)
    graph = RelationalGraph(with_inverses(task.train, relations), len(task.entities), 2 * relations)
    draw = torch.Generator().manual_seed(0)
    shapes = [(graph.num_nodes, 1, WIDTH), (graph.num_relations, 1, WIDTH), (1, WIDTH)]
    h, w, boundary = (torch.randn(shape, generator=draw).requires_grad_() for shape in shapes)
    source = torch.zeros(1, dtype=torch.int64)

    def step(gathered: Callable[..., Tensor], statistics: tuple[str, ...]) -> None:
        out = gathered(graph, h, w, source, boundary, "distmult", statistics)
        torch.autograd.grad(out.sum(), [h, w, boundary])

    rows = []
    for name, statistics in (("PNA", ("mean", "max", "min", "std")), ("sum", ("sum",))):
        ways: tuple[Any, ...] = (edge_messages.gathered, edge_messages.gathered_and_scattered)
        calls = [partial(step, way, statistics) for way in ways]
        times = interleaved([partial(seconds, call) for call in calls], ROUNDS)
        what = f"DistMult messages, {name}, FB15k-237, one source, width {WIDTH}"
        rows.append(Row(f"{what}: time against gather and scatter", times[0], "s", times[1], 1 / 3))
        ours, naive = (_most_bytes(call) / 1e6 for call in calls)
        rows.append(Row(f"{what}: most held at once", ours, "MB", naive, 1 / 5))
    return rows


def _most_bytes(call: Callable[[], object]) -> float:
    with LiveBytes(storage_bytes) as live:
        call()
    return float(live.most(without=[]))
