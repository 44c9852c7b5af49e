"""The five folds, and the uniform split."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.datasets.node_splits import kfold, uniform
from runner.errors import BadInput


@settings(deadline=None, max_examples=50)
@given(num_nodes=st.integers(5, 500), split=st.integers(0, 4))
def test_parts_are_disjoint_cover_and_have_their_sizes(num_nodes: int, split: int) -> None:
    parts = kfold(num_nodes, split)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(num_nodes))
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    assert len(parts.test) - num_nodes // 5 in (0, 1)
    assert len(parts.val) == math.ceil(0.2 * (num_nodes - len(parts.test)))
    assert all(map(np.array_equal, parts, kfold(num_nodes, split)))


def test_folds_partition_the_nodes() -> None:
    assert np.array_equal(np.sort(np.concatenate([kfold(101, split).test for split in range(5)])), np.arange(101))


def test_does_not_drift() -> None:
    """Split 1 of Cora_ML's 2995 nodes, pinned: another version of scikit-learn must not change a published split."""
    digest = hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in kfold(2995, 1))).hexdigest()
    assert digest == "a736f6bb05831f3d874288e9ba44fa34e9ea8d7fde394b35acba316f9227231b"


@pytest.mark.parametrize("split", [-1, 5, 17])
def test_only_five(split: int) -> None:
    with pytest.raises(BadInput, match=rf"split must be 0\.\.4 \(five folds\); got {split}"):
        kfold(100, split)


def test_too_few_nodes() -> None:
    with pytest.raises(BadInput, match="at least five nodes"):
        kfold(4, 0)


@given(st.integers(5, 400), st.integers(0, 1000))
def test_uniform_is_60_20_20_rounded_down(num_nodes: int, split: int) -> None:
    parts = uniform(num_nodes, split)
    assert [len(part) for part in parts] == [int(share * num_nodes) for share in (0.6, 0.2, 0.2)]
    whole = np.concatenate(parts)
    assert len(np.unique(whole)) == len(whole) >= num_nodes - 2
    assert whole.max() < num_nodes
    assert all((np.diff(part) > 0).all() and part.dtype == np.int64 for part in parts)
    assert all(map(np.array_equal, parts, uniform(num_nodes, split)))


def test_uniform_splits_differ() -> None:
    assert not np.array_equal(uniform(100, 0).test, uniform(100, 1).test)
    with pytest.raises(BadInput, match="at least five nodes; got 4"):
        uniform(4, 0)
