"""NBFNet on genuine FB15k-237: compiled passes over the edges against gather and scatter, and against public layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from benchmarks.measure import Row, interleaved, seconds
from runner import registry
from runner.contracts import KnowledgeGraphCompletion
from runner.hardware.activations import LiveBytes, storage_bytes
from runner.methods.graph.nbfnet.network import BellmanFordLayer, NBFNet, weighted_loss
from runner.methods.ops.edge_messages import LEAST_VARIANCE, gathered_and_scattered
from runner.methods.ops.relational import Answers, RelationalGraph, with_inverses

ROUNDS = 3
WIDTH, LAYERS, NEGATIVES, TEMPERATURE = 32, 6, 32, 0.5
"""The published setting of FB15k-237."""


def messages_against_scatter() -> list[Row]:
    """One layer's messages of one source, forward and backward: seconds, and the most bytes held at once."""
    from runner.methods.ops import edge_messages

    torch.set_num_threads(1)
    _, graph = _fb15k237()
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


def epoch_against_scatter() -> list[Row]:
    """The published network's training step: hours of an epoch, and the most bytes held at once, one thread.

    A pass serves one question, and an epoch has one for each of 272 115 triples: what a step takes is multiplied up.
    The others hold the messages of all layers at once, so that their step is of one question; ours is of one, and of 8.
    """
    torch.set_num_threads(1)
    task, graph = _fb15k237()
    relations = len(task.relations)
    known = Answers(with_inverses(task.train, relations), len(task.entities), 2 * relations)
    torch.manual_seed(0)
    model = NBFNet(WIDTH, LAYERS, 2 * relations, "distmult", "pna", dependent=True)
    order = torch.randperm(len(task.train))

    def step(layers: Callable[[BellmanFordLayer], nn.Module], questions: int) -> Tensor:
        asked = task.train[order[:questions]]
        own, model.layers = model.layers, nn.ModuleList(map(layers, model.layers))
        others = known.draw_others(asked[:, 0], asked[:, 1], NEGATIVES, torch.Generator().manual_seed(0))
        candidates = torch.cat([asked[:, 2:], others], dim=1)
        h, query = model(asked[:, 0], asked[:, 1], graph)
        logits = model.score(model.features(h, query, candidates))
        torch.autograd.grad(weighted_loss(logits, TEMPERATURE), list(model.parameters()))
        model.layers = own
        return logits.detach()

    ways: dict[str, Callable[[BellmanFordLayer], nn.Module]] = {
        "ours": lambda layer: layer,
        "gather and scatter": Scattered,
        "PyG's layers": Public,
    }
    found: dict[str, Tensor] = {}
    held = {name: _most_bytes(lambda: found.setdefault(name, step(way, 1))) / 1e9 for name, way in ways.items()}  # noqa: B023
    for logits in found.values():
        torch.testing.assert_close(logits, found["ours"], rtol=1e-3, atol=1e-3)
    times = {name: seconds(partial(step, way, 1)) for name, way in ways.items()}
    of_eight = seconds(partial(step, ways["ours"], 8)) / 8
    hours = len(task.train) / 3600
    rows = []
    for name in list(ways)[1:]:
        what, reference = f"NBFNet's step, FB15k-237, against {name}", times[name] * hours
        rows += [
            Row(f"{what}: an epoch, one question a step", times["ours"] * hours, "h", reference, 1 / 3),
            Row(f"{what}: an epoch, ours 8 a step", of_eight * hours, "h", reference, 1 / 3),
            Row(f"{what}: most held at once", held["ours"], "GB", held[name], 1 / 5),
        ]
    return rows


class Scattered(nn.Module):
    """A layer whose messages are gathered and scattered."""

    def __init__(self, layer: BellmanFordLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self, h: Tensor, source: Tensor, query: Tensor, graph: RelationalGraph, scale: Tensor, weight: None
    ) -> Tensor:
        """[N, B, D] -> [N, B, D]."""
        layer = self.layer
        w = layer.relation_vectors(query)
        aggregate = gathered_and_scattered(graph, h, w, source, query, layer.message, layer.statistics)
        out: Tensor = layer.norm(layer.transform(h, aggregate, scale)).relu() + h
        return out


class Public(MessagePassing):
    """The same layer in the ordinary way of PyTorch Geometric: ``message``, its aggregations, all 12 D features."""

    def __init__(self, layer: BellmanFordLayer) -> None:
        super().__init__(aggr=["mean", "max", "min", "var"], node_dim=0)
        self.layer = layer

    def forward(
        self, h: Tensor, source: Tensor, query: Tensor, graph: RelationalGraph, scale: Tensor, weight: None
    ) -> Tensor:
        """[N, B, D] -> [N, B, D]."""
        passes = torch.arange(len(source))
        boundary = torch.zeros_like(h).index_put((source, passes), query)
        edges = torch.stack([graph.source, graph.target])
        out = self.propagate(edges, h=h, w=self.layer.relation_vectors(query), relation=graph.relation, own=boundary)
        mean, high, low, variance = out.chunk(4, dim=2)
        found = torch.cat([mean, high, low, variance.clamp(min=LEAST_VARIANCE).sqrt()], dim=2)
        scale = scale.view(-1, 1, 1, 1)
        scaled = torch.cat([found.unsqueeze(3) * by for by in (1, scale, 1 / scale.clamp(min=0.01))], dim=3)
        layer = self.layer
        updated: Tensor = layer.norm(layer.linear(torch.cat([h, scaled.flatten(2)], dim=2))).relu() + h
        return updated

    def message(self, h_j: Tensor, w: Tensor, relation: Tensor) -> Tensor:
        """[E, B, D]."""
        return h_j * w.index_select(0, relation)

    def aggregate(self, inputs: Tensor, index: Tensor, own: Tensor) -> Tensor:
        """The boundary is one message more."""
        nodes = torch.arange(len(own))
        found: Tensor = self.aggr_module(torch.cat([inputs, own]), torch.cat([index, nodes]), dim=0)
        return found


def _fb15k237() -> tuple[KnowledgeGraphCompletion, RelationalGraph]:
    task = registry.build(registry.read("dataset", "fb15k237")).load("KnowledgeGraphCompletion")
    relations = len(task.relations)
    return task, RelationalGraph(with_inverses(task.train, relations), len(task.entities), 2 * relations)


def _most_bytes(call: Callable[[], object]) -> float:
    with LiveBytes(storage_bytes) as live:
        call()
    return float(live.most(without=[]))
