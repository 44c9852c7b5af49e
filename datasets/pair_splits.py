"""Splits of a directed graph's edges into pairs with classes: which way an edge goes, whether there is one.

The conventions of PyTorch Geometric Signed Directed (He et al., arXiv 2202.10793) and MagNet (arXiv 2102.11391).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.errors import BadInput

Question = Literal["direction", "existence", "three_class"]
Absent = Literal["unlinked", "unlinked_or_reversed"]
CLASSES: dict[str, int] = {"direction": 2, "existence": 2, "three_class": 3}


class Pairs(NamedTuple):
    """Ordered pairs [2, P] and their classes [P], by split; and the edges [2, E] that stay in the graph."""

    observed: NDArray[np.int64]
    train: tuple[NDArray[np.int64], NDArray[np.int64]]
    val: tuple[NDArray[np.int64], NDArray[np.int64]]
    test: tuple[NDArray[np.int64], NDArray[np.int64]]


def directed_pairs(
    edge_index: NDArray[np.int64],
    num_nodes: int,
    question: Question,
    *,
    val_share: float,
    test_share: float,
    split: int,
    absent: Absent,
) -> Pairs:
    """Draw split number ``split``.

    Val and test take their shares of all edges, drawn from the one-way ones outside a random undirected spanning
    forest, so that the graph stays connected; train has the other one-way edges. Mutual edges have no class, and stay
    in the graph. As many pairs without an edge in either direction as edges are drawn for each split, no pair twice.

    - ``direction``: each edge u -> v as (u, v), class 0, and as (v, u), class 1.
    - ``existence``: each edge u -> v as (u, v), class 0; the pairs without an edge, class 1: as many as edges.
    - ``three_class``: both of direction's, and the pairs without an edge, class 2.

    Args:
        edge_index: [2, E], no self-loops or duplicates.
        num_nodes: N.
        question: what is asked.
        val_share: of all edges.
        test_share: likewise.
        split: seeds the draws.
        absent: ``existence``'s class 1; ``unlinked_or_reversed``: drawn from the unlinked pairs and the reverse of each
            edge together (MagNet's convention), instead of from pairs without an edge either way.

    Raises:
        BadInput: too few edges outside the forest, or too few pairs without an edge.
    """
    draw = np.random.default_rng([split, 1])
    source, target = edge_index
    one_way = ~np.isin(source * num_nodes + target, target * num_nodes + source)
    free = np.flatnonzero(one_way & ~_in_forest(edge_index, num_nodes, draw))
    sizes = [int(share * source.size) for share in (test_share, val_share)]
    if not all(sizes) or sum(sizes) > free.size:
        raise BadInput(
            f"of {source.size} edges {free.size} are one-way and outside a spanning forest; val and test would take "
            f"{sum(sizes)}, at least one each: choose other shares (dataset.pair_val_share, dataset.pair_test_share)"
        )
    order = draw.permutation(free)
    test, val = order[: sizes[0]], order[sizes[0] : sum(sizes)]
    hidden = np.zeros(source.size, bool)
    hidden[order[: sum(sizes)]] = True
    train = np.flatnonzero(one_way & ~hidden)
    parts = [train, val, test]
    unlinked = np.split(
        _absent(edge_index, num_nodes, sum(map(len, parts)), draw), np.cumsum([len(p) for p in parts])[:2], 1
    )
    made = []
    for part, none in zip(parts, unlinked, strict=True):
        if absent == "unlinked_or_reversed" and question == "existence":
            both = np.concatenate([none, edge_index[::-1, part]], axis=1)
            none = both[:, draw.permutation(both.shape[1])[: part.size]]
        made.append(_classes(edge_index[:, part], none, question))
    return Pairs(edge_index[:, ~hidden], *made)


def _classes(
    edges: NDArray[np.int64], absent: NDArray[np.int64], question: Question
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    groups = {
        "direction": (edges, edges[::-1]),
        "existence": (edges, absent),
        "three_class": (edges, edges[::-1], absent),
    }[question]
    return np.concatenate(groups, axis=1), np.repeat(np.arange(len(groups)), [group.shape[1] for group in groups])


def _in_forest(edge_index: NDArray[np.int64], num_nodes: int, draw: np.random.Generator) -> NDArray[np.bool_]:
    """Whether each edge [E] belongs to a spanning forest of the undirected graph; random weights make it random."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    pair = np.sort(edge_index, axis=0)
    number = pair[0] * num_nodes + pair[1]
    low, high = np.divmod(np.unique(number), num_nodes)
    weights = 1 + draw.random(low.size)
    tree = minimum_spanning_tree(coo_matrix((weights, (low, high)), shape=(num_nodes, num_nodes)).tocsr()).tocoo()
    return np.isin(number, tree.row.astype(np.int64) * num_nodes + tree.col)


def _absent(edge_index: NDArray[np.int64], num_nodes: int, wanted: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """``wanted`` different pairs without an edge in either direction, each in a random order [2, wanted]."""
    pair = np.sort(edge_index, axis=0)
    linked = np.unique(pair[0] * num_nodes + pair[1])
    if wanted > num_nodes * (num_nodes - 1) // 2 - linked.size:
        raise BadInput(f"{wanted} pairs without an edge are needed; this graph has fewer")
    found = np.zeros(0, np.int64)
    while found.size < wanted:
        drawn = np.sort(draw.integers(num_nodes, size=(2, 2 * wanted)), axis=0)
        number = np.unique(drawn[0, drawn[0] != drawn[1]] * num_nodes + drawn[1, drawn[0] != drawn[1]])
        found = np.union1d(found, number[~np.isin(number, linked)])
    pairs = np.stack(np.divmod(draw.permutation(found)[:wanted], num_nodes))
    turned = draw.random(wanted) < 0.5
    pairs[:, turned] = pairs[::-1, turned]
    return pairs
