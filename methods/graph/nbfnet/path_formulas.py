"""What NBFNet generalises: Bellman-Ford over a semiring, with nothing learned, as scores of pairs.

The paths from u to v are summed with (+), the edges of a path multiplied with (x)::

    h^0(u, v) = unit if u = v else zero          h^t(u, v) = (+)_{(x, v)} h^{t-1}(u, x) (x) w(x, v)  (+)  h^0(u, v)

Letters: N nodes, E edges, U sources, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

from runner.contracts import LinkPrediction, LinkSplit, Method
from runner.methods.ops.link_scores import average_precision, roc_auc
from runner.types import PositiveFloat, PositiveInt, Probability

if TYPE_CHECKING:
    from runner.run import Run

_SOURCES = 256
"""Columns of the state at a time."""


class Semiring(NamedTuple):
    """How paths are summed ("sum", "amin" or "amax"), how edges are multiplied, and the two neutral values."""

    plus: Literal["sum", "amin", "amax"]
    times: Callable[[Tensor, Tensor], Tensor]
    zero: float
    unit: float


SEMIRINGS = {
    "sum_product": Semiring("sum", torch.mul, 0.0, 1.0),
    "shortest": Semiring("amin", torch.add, torch.inf, 0.0),
    "widest": Semiring("amax", torch.minimum, -torch.inf, torch.inf),
    "most_reliable": Semiring("amax", torch.mul, 0.0, 1.0),
}


def bellman_ford(
    edge_index: Tensor, weight: Tensor, sources: Tensor, num_nodes: int, ring: Semiring, steps: int
) -> Tensor:
    """h^steps(u, v) as [N, U], for edges [2, E] with ``weight`` [E] and sources [U]."""
    columns = torch.arange(len(sources), device=sources.device)
    start = weight.new_full((num_nodes, len(sources)), ring.zero)
    start[sources, columns] = ring.unit
    source, target = edge_index
    state = start
    for _ in range(steps):
        messages = ring.times(state.index_select(0, source), weight.unsqueeze(1))
        if ring.plus == "sum":
            state = start.index_add(0, target, messages)
        else:
            state = start.scatter_reduce(0, target.unsqueeze(1).expand_as(messages), messages, ring.plus)
    return state


@dataclass(kw_only=True, eq=False)
class PathFormula(Method[LinkPrediction]):
    """A pair's score is the sum of both directions of a formula over the paths between its nodes.

    katz: sum over walks of beta^length. ppr: personalised PageRank, each edge (x, v) weighing alpha / degree(x), times
    1 - alpha. distance: minus the length of the shortest path, N where there is none of ``steps`` edges or fewer.
    """

    formula: Literal["katz", "ppr", "distance"]
    beta: PositiveFloat
    """Of katz."""
    alpha: Probability
    """Of ppr: the chance to walk on."""
    steps: PositiveInt
    """Longest walks."""

    def build(self, task: LinkPrediction, run: Run) -> None:
        """Nothing is learned."""
        self.model = nn.Module()

    def fit(self, task: LinkPrediction, run: Run) -> None:
        """Nor fitted."""

    def evaluate(self, task: LinkPrediction, run: Run) -> dict[str, float]:
        """``test_auc`` and ``test_ap`` (average precision)."""
        scores, labels = self.scores(task, "test"), task.labels("test")
        run.save("predictions", {"pairs": task.pairs("test"), "label": labels, "score": scores})
        return {"test_auc": roc_auc(scores, labels), "test_ap": average_precision(scores, labels)}

    def scores(self, task: LinkPrediction, split: LinkSplit) -> Tensor:
        """[P], float64, of a split's pairs."""
        edges, pairs = task.message_edges(split), task.pairs(split)
        source, target = torch.cat([pairs, pairs.flip(0)], dim=1)
        nodes, place = source.unique(return_inverse=True)
        found = torch.empty(len(source), dtype=torch.float64, device=edges.device)
        for first in range(0, len(nodes), _SOURCES):
            part = nodes[first : first + _SOURCES]
            state = self._states(edges, part, task.num_nodes)
            here = ((place >= first) & (place < first + len(part))).nonzero().squeeze(1)
            found[here] = state[target[here], place[here] - first]
        return found[: pairs.shape[1]] + found[pairs.shape[1] :]

    def _states(self, edges: Tensor, sources: Tensor, num_nodes: int) -> Tensor:
        """[N, U]: larger is closer."""
        one = torch.ones(edges.shape[1], dtype=torch.float64, device=edges.device)
        if self.formula == "distance":
            return -bellman_ford(edges, one, sources, num_nodes, SEMIRINGS["shortest"], self.steps).clamp(max=num_nodes)
        if self.formula == "katz":
            return bellman_ford(edges, self.beta * one, sources, num_nodes, SEMIRINGS["sum_product"], self.steps)
        weight = self.alpha / torch.bincount(edges[0], minlength=num_nodes)[edges[0]].double()
        state = bellman_ford(edges, weight, sources, num_nodes, SEMIRINGS["sum_product"], self.steps)
        return (1 - self.alpha) * state
