"""Greedy choice of nodes whose joint influence saturates: coverage (GC-RWCS) and its smooth relatives (InfMax).

Letters: N nodes, B candidates of a block, r nodes to choose, k hops.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from runner.errors import BadInput
from runner.methods.graph.practical_attack.walk import DECIMALS
from runner.methods.ops.sparse import SparseMatrix

BLOCK = 256
AGAIN = 32
"""Candidates whose gain is computed anew at a time."""


def greedy(
    candidates: Tensor,
    columns: Callable[[Tensor], Tensor],
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
        columns: [N, B], the influences a_ji of the given nodes i [B], at least 0.
        saturated: f, elementwise, f(0) = 0.
        count: r.
        adjacency: A + I; a chosen node's neighbours within ``hops`` are no candidates any more.
        hops: k; 0 takes out the node alone.

    Returns:
        [r], int64, in the order of choice.

    Raises:
        BadInput: there are no r candidates that far apart.
    """
    reached = torch.zeros(len(candidates), 1, dtype=torch.float64, device=candidates.device)
    never = -torch.inf

    def gains(nodes: Tensor) -> Tensor:
        more = saturated(reached + columns(nodes)).sub_(saturated(reached))
        return more.sum(0).round(decimals=DECIMALS - 3)

    bound = torch.full_like(reached[:, 0], never)
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
        reached += columns(best.view(1))
        bound[near(best, adjacency, hops)] = never
        known = torch.zeros_like(known)
    return torch.tensor(chosen, device=candidates.device)


def last_highest(score: Tensor) -> Tensor:
    """Index of the highest value, the last of equal ones; [] int64."""
    return len(score) - 1 - score.flip(0).argmax()


def near(node: Tensor, adjacency: SparseMatrix, hops: int) -> Tensor:
    """[N], bool: whom a node reaches in at most ``hops`` steps, itself in any case."""
    found = torch.zeros(adjacency.shape[0], 1, dtype=adjacency.dtype, device=node.device)
    found[node] = 1
    for _ in range(hops):
        found = (adjacency @ found > 0).to(found.dtype)
    return found[:, 0] > 0
