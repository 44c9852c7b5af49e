"""Graphs whose edges have relations, as message passing sees them, and what is known of a question's answers.

Letters: N nodes, E edges, R relations, T triples (head, relation, tail), B questions (head, relation, ?).
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor


def with_inverses(triples: Tensor, num_relations: int) -> Tensor:
    """The triples [T, 3] and after them their inverses (t, r + R, h): [2 T, 3]."""
    return torch.cat([triples, inverted(triples, num_relations)])


def inverted(triples: Tensor, num_relations: int) -> Tensor:
    """(h, r, t) -> (t, r^-1, h) [T, 3], where r^-1 is r + R, and the inverse of that is r."""
    head, relation, tail = triples.T
    return torch.stack([tail, (relation + num_relations) % (2 * num_relations), head], dim=1)


class RelationalGraph:
    """Edges by compressed rows: those into node v are ``indptr[v]`` to ``indptr[v + 1]``, from head to tail."""

    def __init__(self, triples: Tensor, num_nodes: int, num_relations: int) -> None:
        """``triples`` [E, 3], int64, in any order; relations in 0..R-1, inverses among them if they are to be."""
        order = torch.argsort(triples[:, 2], stable=True)
        self._set(triples[order], num_nodes, num_relations)

    def _set(self, triples: Tensor, num_nodes: int, num_relations: int) -> None:
        self.triples = triples
        self.num_nodes = num_nodes
        self.num_relations = num_relations
        self.source, self.relation, self.target = (column.contiguous() for column in triples.T)
        self.indptr = torch.searchsorted(self.target, torch.arange(num_nodes + 1, device=triples.device))

    @cached_property
    def in_degree(self) -> Tensor:
        """Edges into each node [N], int64."""
        return self.indptr.diff()

    def without(self, edges: Tensor) -> RelationalGraph:
        """Another graph that lacks the edges of these places [any]; this one stays as it is."""
        keep = torch.ones(len(self.triples), dtype=torch.bool, device=self.triples.device)
        keep[edges] = False
        graph = RelationalGraph.__new__(RelationalGraph)
        graph._set(self.triples[keep], self.num_nodes, self.num_relations)
        return graph

    def with_self_loops(self, relation: int) -> RelationalGraph:
        """Another graph with an edge of ``relation`` from each node to itself."""
        node = torch.arange(self.num_nodes, device=self.triples.device)
        loops = torch.stack([node, torch.full_like(node, relation), node], dim=1)
        return RelationalGraph(torch.cat([self.triples, loops]), self.num_nodes, self.num_relations)

    def places_of(self, triples: Tensor) -> Tensor:
        """Places of the edges that are among ``triples`` [any, 3]."""
        return self._by_triple.places(self._key(*triples.T))

    def places_between(self, source: Tensor, target: Tensor) -> Tensor:
        """Places of the edges of any relation from ``source[i]`` to ``target[i]`` [any]."""
        return self._by_pair.places(source * self.num_nodes + target)

    def _key(self, source: Tensor, relation: Tensor, target: Tensor) -> Tensor:
        return (source * self.num_relations + relation) * self.num_nodes + target

    @cached_property
    def _by_triple(self) -> _Index:
        return _Index(self._key(self.source, self.relation, self.target))

    @cached_property
    def _by_pair(self) -> _Index:
        return _Index(self.source * self.num_nodes + self.target)


class _Index:
    """Finds all places of a value in a list."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.order = torch.sort(values, stable=True)

    def ranges(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """For each of ``wanted`` [B]: where it begins in the sorted list, and how often it is there."""
        begin = torch.searchsorted(self.values, wanted)
        return begin, torch.searchsorted(self.values, wanted, right=True) - begin

    def rows_and_places(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """All (row, place) with ``values[place] == wanted[row]``: two [any]."""
        begin, count = self.ranges(wanted)
        row = torch.repeat_interleave(torch.arange(len(wanted), device=wanted.device), count)
        within = torch.arange(len(row), device=wanted.device) - (count.cumsum(0) - count)[row]
        return row, self.order[begin[row] + within]

    def places(self, wanted: Tensor) -> Tensor:
        """All places of any of ``wanted``."""
        return self.rows_and_places(wanted)[1]


class Answers:
    """What answers a question (entity, relation, ?), by a set of triples."""

    def __init__(self, triples: Tensor, num_entities: int, num_relations: int) -> None:
        """``triples`` [T, 3], with inverses where these are asked too; ``num_relations`` counts them."""
        self._num_entities, self._num_relations = num_entities, num_relations
        head, relation, tail = triples.T
        # Once each, and by answer within a question: `stable` keeps that order.
        keys = torch.unique((head * num_relations + relation) * num_entities + tail)
        self._answer = keys % num_entities
        self._index = _Index(keys // num_entities)

    def of(self, entity: Tensor, relation: Tensor) -> tuple[Tensor, Tensor]:
        """All (row, answer) for questions [B], by row and then answer, each once: two [any]."""
        row, place = self._index.rows_and_places(entity * self._num_relations + relation)
        return row, self._answer[place]

    def draw_others(self, entity: Tensor, relation: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """For each question ``count`` entities [B, count] that don't answer it, uniformly, with replacement.

        The k-th non-answer of answers a_0 < a_1 < … is k + #{i : a_i - i <= k}.
        """
        row, answer = self.of(entity, relation)
        answers = torch.bincount(row, minlength=len(entity))
        within = torch.arange(len(row), device=row.device) - (answers.cumsum(0) - answers)[row]
        shifted = answer.new_full((len(entity), max(1, int(answers.max()))), self._num_entities)
        shifted[row, within] = answer - within
        others = (self._num_entities - answers).unsqueeze(1)
        draw = torch.rand(len(entity), count, generator=generator, dtype=torch.float64).to(row.device)
        k = (draw * others).long().minimum(others - 1)
        return k + torch.searchsorted(shifted, k, right=True)
