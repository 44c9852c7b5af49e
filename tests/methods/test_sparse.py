from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runner.methods.ops.sparse import Product, SparseMatrix, Stacked, aggregated, compact, stack


def matrix(rows: int, columns: int, density: float, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, columns, generator=draw, dtype=torch.float64)
    return values * (torch.rand(rows, columns, generator=draw) < density)


def dense(sparse: SparseMatrix) -> Tensor:
    return sparse @ torch.eye(sparse.shape[1], dtype=sparse.values.dtype)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    density=st.floats(0, 1),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_sparse_matrix_equals_the_dense_one(rows: int, columns: int, density: float, seed: int, data) -> None:
    original = matrix(rows, columns, density, seed)
    sparse = SparseMatrix.from_dense(original)
    selected = torch.tensor(data.draw(st.lists(st.integers(0, rows - 1), max_size=12)), dtype=torch.int64)
    assert torch.equal(dense(sparse), original)
    assert torch.equal(dense(sparse.transposed), original.T)
    assert torch.equal(dense(sparse[selected]), original[selected])


def test_entries_may_come_in_any_order() -> None:
    rows, columns = torch.tensor([2, 0, 2]), torch.tensor([1, 3, 0])
    sparse = SparseMatrix.from_entries(rows, columns, torch.tensor([1.0, 2.0, 3.0]), (3, 4))
    assert dense(sparse).tolist() == [[0, 0, 0, 2], [0, 0, 0, 0], [3, 1, 0, 0]]


def operands() -> dict[str, tuple[object, Tensor]]:
    """Every fixed operand with the dense matrix that it stands for."""
    x, virtual, operator = matrix(12, 9, 0.2), matrix(3, 9, 1.0, seed=1), matrix(15, 15, 0.3, seed=2)
    sparse, left = SparseMatrix.from_dense(x), SparseMatrix.from_dense(operator)
    stacked = stack(sparse, virtual)
    rows = torch.tensor([7, 0, 0, 3, 14, 12])
    full = torch.cat([x, virtual])
    return {
        "sparse": (sparse, x),
        "stacked": (stacked, full),
        "rows of stacked": (stacked[rows], full[rows]),
        "product": (aggregated(left, stacked), operator @ full),
        "rows of product": (aggregated(left, stacked)[rows], (operator @ full)[rows]),
        "dense product": (aggregated(left, full), operator @ full),
    }


@pytest.mark.parametrize("name", operands())
def test_values_and_gradients_equal_the_dense_product(name: str) -> None:
    fixed, full = operands()[name]
    ours, theirs = (matrix(9, 5, 1.0, seed=3).requires_grad_() for _ in range(2))
    out, expected = fixed @ ours, full @ theirs
    torch.testing.assert_close(out, expected)
    direction = matrix(*expected.shape, 1.0, seed=4)
    (out * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_second_derivatives() -> None:
    sparse = SparseMatrix.from_dense(matrix(6, 4, 0.4))
    point = matrix(4, 3, 1.0, seed=1).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda w: (sparse @ w).pow(3), (point,))


def test_stacked_rows_keep_the_order_of_the_parts() -> None:
    stacked = Stacked((torch.zeros(3, 2), torch.ones(2, 2)))
    with pytest.raises(ValueError, match="after those of the upper parts"):
        stacked[torch.tensor([4, 0])]


def test_form_follows_density() -> None:
    assert isinstance(compact(matrix(50, 50, 0.05)), SparseMatrix)
    assert isinstance(compact(matrix(50, 50, 0.6)), Tensor)
    operator = SparseMatrix.from_dense(torch.eye(52, dtype=torch.float64))
    assert isinstance(aggregated(operator, stack(compact(matrix(50, 50, 0.05)), matrix(2, 50, 1.0))), Product)
    assert isinstance(aggregated(operator, stack(compact(matrix(50, 50, 0.6)), matrix(2, 50, 1.0))), Tensor)


def test_deterministic_mode_is_no_obstacle() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        weight = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
        (SparseMatrix.from_dense(matrix(6, 4, 0.4)) @ weight).sum().backward()
    finally:
        torch.use_deterministic_algorithms(before)
