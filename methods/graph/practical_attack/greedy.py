"""Greedy choice of nodes whose joint influence saturates: coverage (GC-RWCS) and its smooth relatives (InfMax).

Letters: N nodes, B candidates of a block, r nodes to choose, k hops.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from runner.errors import BadInput
from runner.methods.graph.practical_attack.walk import BLOCK
from runner.methods.ops.sparse import SparseMatrix

AGAIN = 32
"""Candidates whose gain is computed anew at a time."""
GAIN_DECIMALS = 9
"""To which gains are rounded before they are compared, so that equal ones tie however they were summed."""


def greedy(
    candidates: Tensor,
    columns: Callable[[Tensor], SparseMatrix],
    saturated: Callable[[Tensor], Tensor],
    *,
    count: int,
    adjacency: SparseMatrix,
    hops: int,
) -> Tensor:
    """Node after node, the one that adds most to sum_j f(sum of a_ji over the chosen i); of ties, the larger one.

    f is concave and increasing, so a candidate's gain never grows as others are chosen (submodularity): the last known
    gains are upper bounds, and only those at the top are computed anew. The choice is that of the plain loop over all.

    Args:
        candidates: [N], bool.
        columns: [B, N], the influences a_ji of the given nodes i [B], a row each, at least 0.
        saturated: f, elementwise, f(0) = 0.
        count: r.
        adjacency: A + I; a chosen node's neighbours within ``hops`` are no candidates any more.
        hops: k; 0 takes out the node alone.

    Returns:
        [r], int64, in the order of choice.

    Raises:
        BadInput: there are no r candidates that far apart.
    """
    reached = torch.zeros(len(candidates), dtype=torch.float64)
    never = -torch.inf

    def gains(nodes: Tensor) -> Tensor:
        """[B]; whom a node does not reach adds nothing."""
        influence = columns(nodes)
        before = reached[influence.indices]
        more = saturated(before + influence.values) - saturated(before)
        return (
            torch.zeros(len(nodes), dtype=more.dtype)
            .index_add_(0, influence.row_of, more)
            .round(decimals=GAIN_DECIMALS)
        )

    bound = torch.full_like(reached, never)
    for nodes in candidates.nonzero()[:, 0].split(BLOCK):
        bound[nodes] = gains(nodes)
    known = candidates.clone()
    chosen: list[int] = []
    while len(chosen) < count:
        best = last_highest(bound)
        if bound[best] == never:
            raise BadInput(
                f"only {len(chosen)} of {count} nodes can be chosen with method.threshold and method.hops as they are; "
                "a smaller method.budget, threshold or hops leaves more"
            )
        if not known[best]:
            nodes = torch.cat([best.view(1), bound.topk(min(AGAIN, len(bound))).indices])
            nodes = nodes[bound[nodes] > never]
            bound[nodes], known[nodes] = gains(nodes), True
            continue
        chosen.append(int(best))
        influence = columns(best.view(1))
        reached[influence.indices] += influence.values
        bound[near(best, adjacency, hops)] = never
        known = torch.zeros_like(known)
    return torch.tensor(chosen)


def last_highest(score: Tensor) -> Tensor:
    """Index of the highest value, the last of equal ones; [] int64."""
    return len(score) - 1 - score.flip(0).argmax()


def near(node: Tensor, adjacency: SparseMatrix, hops: int) -> Tensor:
    """[N], bool: whom a node reaches in at most ``hops`` steps, itself in any case."""
    found = torch.zeros(adjacency.shape[0], 1, dtype=adjacency.dtype)
    found[node] = 1
    for _ in range(hops):
        found = (adjacency @ found > 0).to(found.dtype)
    return found[:, 0] > 0
