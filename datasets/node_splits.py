"""Splits of a graph's nodes into train, validation and test."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.errors import BadInput

FOLDS = 5
TRAIN_SHARE, VAL_SHARE, TEST_SHARE = 0.6, 0.2, 0.2
"""Of a uniform split."""
PER_CLASS = 20
VAL_NODES = 500


class Split(NamedTuple):
    """Disjoint node indices, int64, sorted."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


def kfold(num_nodes: int, split: int) -> Split:
    """Split number ``split`` of five: 64 % train, 16 % validation, 20 % test.

    The test nodes are one fold of a shuffled 5-fold partition (random state 101); a fifth of the rest, drawn with
    random state 127·split, is for validation. It gives the index files published with ForwardGNN (ICLR 2024).

    Args:
        num_nodes: N, at least 5.
        split: 0..4.

    Raises:
        BadInput: ``split`` or ``num_nodes`` is out of range.
    """
    if not 0 <= split < FOLDS:
        raise BadInput(f"split must be 0..{FOLDS - 1} (five folds); got {split} (dataset.fold, which follows the seed)")
    if num_nodes < FOLDS:
        raise BadInput(f"five folds need at least five nodes; got {num_nodes}")
    from sklearn.model_selection import KFold, train_test_split  # a second of imports, needed by `load` only

    folds = KFold(FOLDS, shuffle=True, random_state=101).split(np.arange(num_nodes))
    rest, test = next(pair for number, pair in enumerate(folds) if number == split)
    train, val = train_test_split(rest, test_size=0.2, random_state=127 * split)
    return Split(*(np.sort(index).astype(np.int64) for index in (train, val, test)))


def uniform(num_nodes: int, split: int) -> Split:
    """Random split number ``split``: 60 % train, 20 % validation, 20 % test, whatever the classes.

    Sizes are rounded down, so that up to two nodes are in no part; the test nodes are drawn first (Ma, Ding & Mei,
    NeurIPS 2020).

    Args:
        num_nodes: N, at least 5.
        split: 0 or more; seeds the draw.

    Raises:
        BadInput: ``num_nodes`` is too small.
    """
    if num_nodes < FOLDS:
        raise BadInput(f"a split into 60/20/20 % needs at least five nodes; got {num_nodes}")
    order = np.random.default_rng(split).permutation(num_nodes)
    ends = np.cumsum([int(share * num_nodes) for share in (TEST_SHARE, VAL_SHARE, TRAIN_SHARE)])
    test, val, train, _ = (np.sort(part).astype(np.int64) for part in np.split(order, ends))
    return Split(train=train, val=val, test=test)


DRAWN: dict[str, Callable[[int, int], Split]] = {"kfold": kfold, "uniform": uniform}
"""Splits that any graph can have, by their names in ``dataset.split``: of N nodes, number ``fold``."""


def random_nodes(num_nodes: int, split: int, *, train_share: float, val_share: float) -> Split:
    """Split number ``split``: nodes in a random order, cut at these shares; what is left is for the test.

    Raises:
        BadInput: a part would be empty.
    """
    order = np.random.default_rng(split).permutation(num_nodes)
    ends = [round(train_share * num_nodes), round((train_share + val_share) * num_nodes)]
    parts = [np.sort(part).astype(np.int64) for part in np.split(order, ends)]
    if not all(part.size for part in parts):
        raise BadInput(f"shares of {train_share:g} and {val_share:g} of {num_nodes} nodes leave a part empty")
    return Split(*parts)


def per_class(y: NDArray[np.int64], split: int) -> Split:
    """Split number ``split``: 20 random nodes of each class to train, 500 of the rest to validate, the others to test.

    The protocol of DiGCN and MagNet for citation graphs; their own index files were not to be had.

    Raises:
        BadInput: a class has too few nodes, or none are left for the test.
    """
    if np.bincount(y).min() <= PER_CLASS or y.size <= PER_CLASS * (int(y.max()) + 1) + VAL_NODES:
        raise BadInput(f"split=per_class takes {PER_CLASS} nodes a class and {VAL_NODES} more; this graph has too few")
    order = np.random.default_rng(split).permutation(y.size)
    train = np.concatenate([order[y[order] == label][:PER_CLASS] for label in range(int(y.max()) + 1)])
    rest = order[~np.isin(order, train)]
    return Split(*(np.sort(part).astype(np.int64) for part in (train, rest[:VAL_NODES], rest[VAL_NODES:])))
