"""Which paths decided a score: gradients of the edges' weights, and the best paths by beam search.

Letters: E edges, N nodes, L layers, K paths that are kept at a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runner.methods.graph.nbfnet.network import NBFNet
from runner.methods.ops.relational import RelationalGraph


@dataclass(frozen=True)
class Path:
    """Edges (source, relation, target) from the source to the target, and the mean gradient of their weights."""

    edges: list[tuple[int, int, int]]
    weight: float


def edge_gradients(model: NBFNet, graph: RelationalGraph, triple: Tensor) -> list[Tensor]:
    """d score / d weight [E] for each layer, at weights of 1, for the tail of ``triple`` [3]."""
    ones = next(model.parameters()).new_ones(len(graph.triples))
    weights = [ones.clone().requires_grad_() for _ in model.layers]
    source, relation, target = triple.unsqueeze(1)
    with torch.enable_grad():
        h, query = model(source, relation, graph, weights)
        score = model.score(model.features(h, query, target.unsqueeze(1)))
        return list(torch.autograd.grad(score.sum(), weights))


def explained(model: NBFNet, graph: RelationalGraph, triple: Tensor, count: int, beam: int) -> list[Path]:
    """The best ``count`` paths of at most L edges from head to tail, by the mean gradient of their edges."""
    gradients = [gradient.cpu().numpy().astype(np.float64) for gradient in edge_gradients(model, graph, triple)]
    return best_paths(
        graph.triples.cpu().numpy(), graph.num_nodes, gradients, int(triple[0]), int(triple[2]), count, beam
    )


def best_paths(
    edges: NDArray[np.int64],
    num_nodes: int,
    gradients: Sequence[NDArray[np.float64]],
    source: int,
    target: int,
    count: int,
    beam: int,
) -> list[Path]:
    """Paths that begin at the first layer and reach ``target`` after any, best first; none goes on through it.

    After layer l a node keeps its K = ``beam`` best paths of l edges by the sum of their gradients. What is kept
    counts walks: two edges of one pair of nodes make two.
    """
    open_ = np.flatnonzero(edges[:, 0] != target)
    kept_edge: list[NDArray[np.int64]] = []
    kept_from: list[NDArray[np.int64]] = []
    sums = np.full((num_nodes, beam), -np.inf)
    sums[source, 0] = 0.0
    found: list[tuple[float, int, int]] = []
    for length, gradient in enumerate(gradients, start=1):
        candidates = sums[edges[open_, 0]] + gradient[open_, None]
        row, slot = np.nonzero(candidates > -np.inf)
        value, node = candidates[row, slot], edges[open_[row], 2]
        order = np.lexsort((-value, node))
        node = node[order]
        rank = np.arange(len(node)) - np.searchsorted(node, node)
        order, node, rank = order[rank < beam], node[rank < beam], rank[rank < beam]
        sums = np.full((num_nodes, beam), -np.inf)
        by_edge, by_slot = np.full((2, num_nodes, beam), -1)
        sums[node, rank] = value[order]
        by_edge[node, rank], by_slot[node, rank] = open_[row[order]], slot[order]
        kept_edge.append(by_edge)
        kept_from.append(by_slot)
        ends = np.flatnonzero(sums[target] > -np.inf)
        found += [(sums[target, end] / length, length, int(end)) for end in ends]
    best = sorted(found, key=lambda end: -end[0])[:count]
    return [Path(_traced(edges, kept_edge, kept_from, target, *end[1:]), float(end[0])) for end in best]


def _traced(
    edges: NDArray[np.int64],
    kept_edge: Sequence[NDArray[np.int64]],
    kept_from: Sequence[NDArray[np.int64]],
    node: int,
    length: int,
    slot: int,
) -> list[tuple[int, int, int]]:
    """Back from the end of a path."""
    path = []
    for by_edge, by_slot in zip(reversed(kept_edge[:length]), reversed(kept_from[:length]), strict=True):
        head, relation, tail = edges[by_edge[node, slot]].tolist()
        path.append((head, relation, tail))
        node, slot = head, int(by_slot[node, slot])
    return path[::-1]


def described(paths: Sequence[Path], triple: Tensor, entities: Sequence[str], relations: Sequence[str]) -> str:
    """The triple, and a line for each path; an edge against its relation's direction is ``<-relation-``."""
    head, relation, tail = triple.tolist()
    lines = [f"{entities[head]} -{relations[relation]}-> {entities[tail]}"]
    for path in paths:
        text = entities[path.edges[0][0]]
        for _, number, end in path.edges:
            forward = number < len(relations)
            name = relations[number % len(relations)]
            text += f" -{name}-> {entities[end]}" if forward else f" <-{name}- {entities[end]}"
        lines.append(f"  {path.weight:8.3f}  {text}")
    return "\n".join(lines if paths else [*lines, "  no path of as many edges as layers"])
