"""From arrays, as a file gave them, to a task: node classification or link prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runner import fingerprint
from runner.contracts import LinkPrediction, NodeClassification
from runner.datasets.edge_splits import TEST_SHARE, VAL_SHARE, random_links
from runner.datasets.node_splits import DRAWN, Split, kfold


def simple_edges(
    edge_index: NDArray[Any], num_nodes: int, *, undirected: bool = True, loops: bool = False
) -> NDArray[np.int64]:
    """Edges without duplicates, and without self-loops, sorted by (source, target); int64 [2, E].

    Args:
        edge_index: [2, any], node numbers in 0..num_nodes-1.
        num_nodes: N.
        undirected: add the reverse of every edge.
        loops: keep self-loops.
    """
    source, target = edge_index.astype(np.int64)
    proper = (source != target) | loops
    source, target = source[proper], target[proper]
    if undirected:
        source, target = np.concatenate([source, target]), np.concatenate([target, source])
    return np.stack(np.divmod(np.unique(source * num_nodes + target), num_nodes))


def normalize_rows_(x: Tensor) -> Tensor:
    """In place: each row divided by its sum, after the matrix's smallest value is taken off, as in PyTorch Geometric.

    Sums below 1 count as 1, so that empty rows stay zero.
    """
    x -= x.min()
    x /= x.sum(dim=1, keepdim=True).clamp_(min=1)
    return x


def graph_task(
    kind: str,
    *,
    name: str,
    x: NDArray[Any],
    edge_index: NDArray[np.int64],
    y: NDArray[Any],
    published: Split | None,
    split: str,
    fold: int,
    normalize_features: bool,
    link_val_share: float = VAL_SHARE,
    link_test_share: float = TEST_SHARE,
) -> NodeClassification | LinkPrediction:
    """The task, with the fingerprint of what came from the file: taken before features are normalised.

    The fingerprint is one for both kinds: it says which graph, not what is asked of it.

    Args:
        kind: ``"NodeClassification"`` or ``"LinkPrediction"``.
        name: the dataset's own name.
        x: [N, F]; becomes the task's own, and is changed, where it is float32 already.
        edge_index: [2, E] from :func:`simple_edges`.
        y: [N] in 0..C-1.
        published: the split of the nodes that comes with the data, part of the fingerprint.
        split: a name of ``node_splits.DRAWN``, anything else for the published one; edges are split at random always.
        fold: which of the five folds, or which of the edge splits.
        normalize_features: divide each row of ``x`` by its sum.
        link_val_share: of the edges, where links are predicted; likewise ``link_test_share``.

    Raises:
        BadInput: there is no such split of this graph.
    """
    x = np.ascontiguousarray(x, dtype=np.float32)
    y = y.astype(np.int64)
    parts = published._asdict() if published else {}
    content = fingerprint.of_graph(edge_index, x, y, **parts)
    features = torch.from_numpy(x)
    if normalize_features:
        normalize_rows_(features)
    edges = torch.from_numpy(edge_index)
    if kind == LinkPrediction.__name__:
        links = random_links(edges, len(y), fold, link_val_share, link_test_share)
        return LinkPrediction(name=name, fingerprint=content, x=features, **links._asdict())
    chosen = published if published and split not in DRAWN else DRAWN.get(split, kfold)(len(y), fold)
    return NodeClassification(
        name=name,
        fingerprint=content,
        x=features,
        edge_index=edges,
        y=torch.from_numpy(y),
        num_classes=int(y.max()) + 1,
        train=torch.from_numpy(chosen.train),
        val=torch.from_numpy(chosen.val),
        test=torch.from_numpy(chosen.test),
    )
