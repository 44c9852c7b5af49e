"""Splits of a graph's edges into train, validation and test, with as many pairs without an edge."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from runner.errors import BadInput

VAL_SHARE = 0.16
TEST_SHARE = 0.2


class Links(NamedTuple):
    """The tensors of a :class:`~runner.contracts.LinkPrediction` beside the features, under its names."""

    train_edge_index: Tensor
    test_edge_index: Tensor
    train_pos: Tensor
    train_neg: Tensor
    val_pos: Tensor
    val_neg: Tensor
    test_pos: Tensor
    test_neg: Tensor


def random_links(
    edge_index: Tensor, num_nodes: int, split: int, val_share: float = VAL_SHARE, test_share: float = TEST_SHARE
) -> Links:
    """Split number ``split`` of the undirected edges: 16 % for validation, 20 % for the test, or other shares.

    ForwardGNN's recipe (ICLR 2024): PyTorch Geometric's ``RandomLinkSplit`` after seeding Python, NumPy and PyTorch
    with 101·split. It is regenerated, not the published files: which edges are drawn hangs on the versions of these
    libraries. A pair without an edge may be drawn in both orders, as (i, j) and as (j, i).

    Args:
        edge_index: [2, E], sorted by (source, target), both directions of each edge, no self-loops or duplicates.
        num_nodes: N.
        split: 0 or more; the paper has five.
        val_share: of the edges, for validation; likewise ``test_share``.

    Raises:
        BadInput: the graph is directed, or too small or too dense to be split so.
    """
    source, target = edge_index
    if not torch.equal(source * num_nodes + target, (target * num_nodes + source).sort().values):
        raise BadInput("link prediction takes undirected graphs; set dataset.undirected=true where there is the choice")
    num_edges = edge_index.shape[1] // 2
    hidden = int(val_share * num_edges), int(test_share * num_edges)
    if min(*hidden, num_edges - sum(hidden)) <= 0:
        raise BadInput(f"link prediction splits the edges in three; {num_edges} are too few, or a share is none")
    if num_edges > num_nodes * (num_nodes - 1) - 2 * num_edges:
        raise BadInput(
            f"link prediction needs as many pairs without an edge as with one ({num_edges}); there are fewer"
        )
    from torch_geometric.data import Data  # seconds of imports, needed by `load` only
    from torch_geometric.transforms import RandomLinkSplit

    # split_labels only names positive and negative pairs apart; the draws are the same without it.
    divide = RandomLinkSplit(num_val=val_share, num_test=test_share, is_undirected=True, split_labels=True)
    with _seeded(101 * split):
        train, val, test = divide(Data(edge_index=edge_index, num_nodes=num_nodes))
    return Links(
        train_edge_index=_sorted(train.edge_index, num_nodes),
        test_edge_index=_sorted(test.edge_index, num_nodes),
        train_pos=train.pos_edge_label_index,
        train_neg=train.neg_edge_label_index,
        val_pos=val.pos_edge_label_index,
        val_neg=val.neg_edge_label_index,
        test_pos=test.pos_edge_label_index,
        test_neg=test.neg_edge_label_index,
    )


def _sorted(edge_index: Tensor, num_nodes: int) -> Tensor:
    """The same edges by (source, target)."""
    return edge_index[:, torch.argsort(edge_index[0] * num_nodes + edge_index[1])]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Python's, NumPy's and PyTorch's (CPU) generators begin at ``seed``, and go on afterwards where they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
