"""Which nodes to attack: every strategy of the paper, under the same bar on their degree.

Letters: N nodes, r nodes to choose. Degrees count the node itself. All of it is on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from runner.errors import BadInput
from runner.methods.graph.practical_attack.centrality import betweenness, pagerank
from runner.methods.graph.practical_attack.greedy import greedy
from runner.methods.graph.practical_attack.walk import Walk
from runner.methods.ops.sparse import SparseMatrix

Strategy = Literal["random", "degree", "pagerank", "betweenness", "rwcs", "gc_rwcs", "infmax_uniform", "infmax_normal"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
Memo = Callable[[str, Any, Callable[[], Tensor]], Tensor]
"""``Run.memo``, or what stands for it."""


@dataclass(frozen=True)
class Bar:
    """What an attacker may touch."""

    degree: int
    """The highest degree allowed, after it was lowered for the strategy ``degree``."""
    first: int
    """The highest degree allowed by the threshold alone."""

    @classmethod
    def of(cls, degree: Tensor, threshold: float, count: int) -> Bar:
        """The degree at place floor(threshold N) of all, from the highest; lowered till r nodes are at or above it.

        The nodes between ``degree`` and ``first`` are what the strategy ``degree`` takes.

        Raises:
            BadInput: fewer than r nodes are below the threshold.
        """
        place = math.floor(len(degree) * threshold)
        if place >= len(degree):
            raise BadInput("method.threshold=1 leaves no node to attack; it is the share of nodes that are protected")
        first = int(degree.sort(descending=True).values[place])
        allowed = degree[degree <= first].sort(descending=True).values
        if len(allowed) < count:
            raise BadInput(
                f"only {len(allowed)} nodes have a degree that method.threshold={threshold} allows, and {count} are to "
                "be attacked; a smaller method.budget or threshold leaves enough"
            )
        return cls(degree=int(allowed[count - 1]), first=first)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The strategies on one graph; what they share is computed once."""

    walk: Walk
    count: int
    """r."""
    bar: Bar
    top: int
    """Entries of a row of M^L that count for GC-RWCS (l)."""
    hops: int
    """Around a chosen node, within which no other is chosen (k)."""
    saturation: float
    """Of both InfMax strategies: the influence at which a node gives way."""
    generator: torch.Generator
    """Draws for ``random`` and ``degree``."""
    memo: Memo
    content: dict[str, Any]
    """Names the graph, for ``memo``."""

    def nodes(self, strategy: Strategy) -> Tensor:
        """r nodes [r], int64.

        Raises:
            BadInput: ``hops`` leaves too few.
        """
        chosen: Tensor = getattr(self, f"_{strategy}")()
        return chosen

    @cached_property
    def allowed(self) -> Tensor:
        """[N], bool: of a degree that may be touched."""
        return self.walk.degree <= self.bar.degree

    @cached_property
    def column_sums(self) -> Tensor:
        """What RWCS ranks by [N]."""
        return self.walk.column_sums()

    @cached_property
    def covers(self) -> SparseMatrix:
        """Q^T [N, N]: row i marks whom node i covers."""
        content = {**self.content, "steps": self.walk.steps, "top": self.top}
        places = self.memo("walk-largest", content, self._places).cpu()
        ones = torch.ones(places.shape[1], dtype=torch.float64)
        return SparseMatrix.from_entries(places[1], places[0], ones, (self.walk.num_nodes, self.walk.num_nodes))

    def covered(self, nodes: Tensor) -> int:
        """Rows of Q with a one in the columns of ``nodes`` [r]: whom they reach among the strongest."""
        return len(self.covers[nodes].indices.unique())

    def _places(self) -> Tensor:
        largest = self.walk.largest(self.top)
        return torch.stack([largest.row_of, largest.indices])

    def _random(self) -> Tensor:
        return self._drawn(self.allowed, self.count)

    def _degree(self) -> Tensor:
        """All nodes above the lowered bar that the first one allows, and random ones at it."""
        degree = self.walk.degree
        above = ((degree > self.bar.degree) & (degree <= self.bar.first)).nonzero()[:, 0]
        return torch.cat([above, self._drawn(degree == self.bar.degree, self.count - len(above))])

    def _pagerank(self) -> Tensor:
        return self._highest(self.memo("pagerank", self.content, lambda: pagerank(self.walk.adjacency)).cpu())

    def _betweenness(self) -> Tensor:
        return self._highest(self.memo("betweenness", self.content, lambda: betweenness(self.walk.adjacency)).cpu())

    def _rwcs(self) -> Tensor:
        return self._highest(self.column_sums.round(decimals=9))

    def _gc_rwcs(self) -> Tensor:
        """Greedy coverage: f(s) = min(s, 1) of Q, so that a row with a one is done with."""
        return self._greedy("gc_rwcs", self.covers.__getitem__, lambda reached: reached.clamp(max=1), self.top)

    def _infmax_uniform(self) -> Tensor:
        """f(s) = min(s, theta) of M^L, theta the saturation: how much a node bears is uniform in 0..theta."""
        theta = self.saturation
        return self._greedy("infmax_uniform", self.walk.columns, lambda reached: reached.clamp(max=theta), theta)

    def _infmax_normal(self) -> Tensor:
        """f(s) = erf(s / (theta sqrt 2)) of M^L: how much a node bears is half-normal."""
        theta = self.saturation
        return self._greedy(
            "infmax_normal", self.walk.columns, lambda reached: torch.erf(reached / (theta * math.sqrt(2))), theta
        )

    def _greedy(
        self,
        name: str,
        columns: Callable[[Tensor], SparseMatrix],
        saturated: Callable[[Tensor], Tensor],
        parameter: float,
    ) -> Tensor:
        """The same for every victim and replicate, so that it is kept."""
        content = {
            **self.content,
            "steps": self.walk.steps,
            "hops": self.hops,
            "count": self.count,
            "bar": self.bar.degree,
            "parameter": parameter,
        }
        return self.memo(
            name,
            content,
            lambda: greedy(
                self.allowed, columns, saturated, count=self.count, adjacency=self.walk.adjacency, hops=self.hops
            ),
        ).cpu()

    def _highest(self, score: Tensor) -> Tensor:
        """The r allowed nodes of the highest score [N]; of ties, those with the larger number."""
        order = len(score) - 1 - score.where(self.allowed, -torch.inf).flip(0).argsort(descending=True, stable=True)
        return order[: self.count]

    def _drawn(self, among: Tensor, count: int) -> Tensor:
        nodes = among.nonzero()[:, 0]
        order = torch.randperm(len(nodes), generator=self.generator)[:count]
        return nodes[order]
