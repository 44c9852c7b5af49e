"""Products of fixed sparse matrices with trained dense ones.

Letters: M rows, K columns, Z stored entries, H width of the dense operand.

Why not ``torch.sparse``: ``embedding_bag`` computes the same sums from the same three arrays, bit for
bit. Measured in float32 on two cores (AVX-512), 2,708 rows, 13,264 entries, H=128: 0.10 ms against
0.20 ms (CSR, MKL), 0.8 ms (COO) and 1.8 ms (gather and ``index_add``); in float64 it is the slower one
(1.3 ms against 0.4 ms). It has no beta warning, is deterministic, and needs no second code on CUDA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

DENSITY_LIMIT = 0.2
"""Share of non-zeros below which a sparse feature matrix is the faster one.

Measured at 2,708 x 1,433 times 1,433 x 128 and for its gradient (ms, sparse against dense): 0.15 and 4.0
at a density of 1.3 %, 1.2 and 4.1 at 10 %, 2.7 and 4.5 at 20 %, 3.7 and 4.6 at 30 %, 6.1 and 4.5 at 50 %.
"""


class SparseMatrix:
    """A fixed sparse matrix [M, K] by compressed rows; ``matrix @ dense`` is differentiable in ``dense``."""

    def __init__(self, indptr: Tensor, indices: Tensor, values: Tensor, num_columns: int) -> None:
        """Row i's entries are ``values[indptr[i]:indptr[i + 1]]``, in columns ``indices[…]``: [M + 1], [Z], [Z]."""
        self.indptr = indptr
        self.indices = indices
        self.values = values
        self.shape = (indptr.numel() - 1, num_columns)

    @classmethod
    def from_entries(cls, rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Self:
        """From entries [Z] in any order; each place at most once."""
        order = torch.argsort(rows * shape[1] + columns)
        # A search instead of a count and its cumulative sum: deterministic on every device.
        indptr = torch.searchsorted(rows[order], torch.arange(shape[0] + 1, device=rows.device))
        return cls(indptr, columns[order], values[order], shape[1])

    @classmethod
    def from_dense(cls, dense: Tensor) -> Self:
        """The non-zeros of a dense matrix [M, K]."""
        rows, columns = dense.nonzero(as_tuple=True)
        return cls.from_entries(rows, columns, dense[rows, columns], (dense.shape[0], dense.shape[1]))

    @classmethod
    def zeros(cls, num_rows: int, num_columns: int, like: Tensor) -> Self:
        """No entries; device and type of ``like``."""
        none = torch.zeros(0, dtype=torch.int64, device=like.device)
        return cls(none.new_zeros(num_rows + 1), none, like.new_zeros(0), num_columns)

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.values.dtype

    @cached_property
    def row_of(self) -> Tensor:
        """Row of each entry [Z]."""
        return torch.repeat_interleave(torch.arange(self.shape[0], device=self.indptr.device), self.indptr.diff())

    @cached_property
    def column_order(self) -> Tensor:
        """Order [Z] that sorts the entries by column, then row."""
        return torch.argsort(self.indices, stable=True)

    @cached_property
    def transposed(self) -> SparseMatrix:
        """The transpose [K, M], kept: every backward pass multiplies by it."""
        rows = self.indices[self.column_order]
        indptr = torch.searchsorted(rows, torch.arange(self.shape[1] + 1, device=rows.device))
        return SparseMatrix(indptr, self.row_of[self.column_order], self.values[self.column_order], self.shape[0])

    def with_values(self, values: Tensor) -> SparseMatrix:
        """The same places with other values [Z]."""
        return SparseMatrix(self.indptr, self.indices, values, self.shape[1])

    def folded(self, num_columns: int) -> SparseMatrix:
        """Column k becomes column k modulo ``num_columns``: ``S @ [X; X; …] = folded @ X``."""
        return SparseMatrix(self.indptr, self.indices % num_columns, self.values, num_columns)

    def __getitem__(self, rows: Tensor) -> SparseMatrix:
        """The given rows, in the given order."""
        starts, counts = self.indptr[rows], self.indptr.diff()[rows]
        indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        within = torch.arange(int(indptr[-1]), device=rows.device) - indptr[:-1].repeat_interleave(counts)
        entries = starts.repeat_interleave(counts) + within
        return SparseMatrix(indptr, self.indices[entries], self.values[entries], self.shape[1])

    def __matmul__(self, dense: Tensor) -> Tensor:
        """[M, K] @ [K, H] -> [M, H]."""
        product: Tensor = _SparseTimesDense.apply(self, dense)  # type: ignore[no-untyped-call]
        return product


class _SparseTimesDense(torch.autograd.Function):
    """Y = S X, with dX = S^T dY."""

    @staticmethod
    def forward(ctx: Any, sparse: SparseMatrix, dense: Tensor) -> Tensor:
        if ctx.needs_input_grad[1]:
            # Saved as tensors, so that whoever counts saved bytes sees the fixed operand too.
            ctx.save_for_backward(sparse.transposed.indptr, sparse.transposed.indices, sparse.transposed.values)
            ctx.num_rows = sparse.shape[0]
        return sparse_times_dense(sparse, dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        indptr, indices, values = ctx.saved_tensors
        return None, SparseMatrix(indptr, indices, values, ctx.num_rows) @ gradients[0]


def sparse_times_dense(sparse: SparseMatrix, dense: Tensor) -> Tensor:
    """[M, K] @ [K, H] -> [M, H], by PyTorch's own operation: ``matrix @ dense`` has the faster gradient."""
    return functional.embedding_bag(
        sparse.indices,
        dense.contiguous(),
        sparse.indptr,
        per_sample_weights=sparse.values,
        mode="sum",
        include_last_offset=True,
    )


@dataclass(frozen=True, eq=False)
class Stacked:
    """Rows of several fixed matrices one below the other: ``[A; B] @ W = [A W; B W]``."""

    parts: Sequence[Tensor | SparseMatrix]

    @property
    def shape(self) -> tuple[int, int]:
        """[M, K]."""
        return sum(part.shape[0] for part in self.parts), self.parts[0].shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.parts[0].dtype

    def __getitem__(self, rows: Tensor) -> Stacked:
        """The given rows, in any order within a part, but no row of an upper part after one of a lower part."""
        ends = torch.tensor([part.shape[0] for part in self.parts], device=rows.device).cumsum(0)
        part_of = torch.bucketize(rows, ends, right=True)
        if (part_of.diff() < 0).any():
            raise ValueError("rows of a lower part must come after those of the upper parts")
        selected = []
        for number, part in enumerate(self.parts):
            selected.append(part[rows[part_of == number] - (ends[number] - part.shape[0])])
        return Stacked(selected)

    def __matmul__(self, dense: Tensor) -> Tensor:
        return torch.cat([part @ dense for part in self.parts])


@dataclass(frozen=True, eq=False)
class Product:
    """A fixed sparse matrix times fixed features, not multiplied out: ``(S X) @ W = S @ (X W)``.

    For sparse X, S X has more entries than S and X together (Cora's A_hat X has 124,000 on the training
    rows, its two factors 61,000), and virtual nodes with dense features would make it denser still. For
    dense X it pays where S has many more rows than columns (:class:`Repeated`).
    """

    left: SparseMatrix
    right: Tensor | SparseMatrix | Stacked

    @property
    def shape(self) -> tuple[int, int]:
        """[M, K]."""
        return self.left.shape[0], self.right.shape[1]

    def __getitem__(self, rows: Tensor) -> Product:
        """The given rows of the product."""
        return Product(self.left[rows], self.right)

    def __matmul__(self, dense: Tensor) -> Tensor:
        return self.left @ (self.right @ dense)


@dataclass(frozen=True, eq=False)
class Repeated:
    """The same features [M, K] below one another, multiplied once: ``[X; X; …] @ W = [X W; X W; …]``."""

    features: Tensor | SparseMatrix | Stacked
    copies: int

    @property
    def shape(self) -> tuple[int, int]:
        """[copies M, K]."""
        return self.copies * self.features.shape[0], self.features.shape[1]

    def __getitem__(self, rows: Tensor) -> Product:
        """The given rows, of whichever copy."""
        each = torch.arange(rows.numel() + 1, device=rows.device)
        ones = torch.ones(rows.numel(), dtype=self.features.dtype, device=rows.device)
        return Product(SparseMatrix(each, rows, ones, self.shape[0]).folded(self.features.shape[0]), self.features)

    def __matmul__(self, dense: Tensor) -> Tensor:
        return (self.features @ dense).repeat(self.copies, 1)


@dataclass(frozen=True, eq=False)
class Beside:
    """Columns of several matrices side by side: ``[A | B] @ W = A W_upper + B W_lower``."""

    parts: Sequence[Features | Product]

    @property
    def shape(self) -> tuple[int, int]:
        """[M, K]."""
        return self.parts[0].shape[0], sum(part.shape[1] for part in self.parts)

    def __getitem__(self, rows: Tensor) -> Beside:
        """The given rows."""
        return Beside([part[rows] for part in self.parts])

    def __matmul__(self, dense: Tensor) -> Tensor:
        weights = dense.split([part.shape[1] for part in self.parts])
        return reduce(torch.add, [part @ weight for part, weight in zip(self.parts, weights, strict=True)])


class Remembered:
    """Fixed features [M, K] that keep their products with fixed weights; where gradients are on, they keep none."""

    def __init__(self, features: Features | Product) -> None:
        self.features = features
        self.shape: tuple[int, int] = (features.shape[0], features.shape[1])
        self._products: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def __getitem__(self, rows: Tensor) -> Features | Product:
        """The given rows; they remember nothing."""
        return self.features[rows]

    def __matmul__(self, dense: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self.features @ dense
        # The weight is kept too: no other one can have its address as long as it lives.
        key = (dense.data_ptr(), dense.shape, dense.stride(), dense._version)
        if key not in self._products:
            self._products[key] = (dense, self.features @ dense)
        return self._products[key][1]


Features: TypeAlias = Tensor | SparseMatrix | Stacked | Repeated | Beside | Remembered
"""Input of a block [N, F]: all that it needs is ``features @ weight``."""


def compact(x: Tensor) -> Tensor | SparseMatrix:
    """The same features [N, F] as a sparse matrix where that is the faster form."""
    return SparseMatrix.from_dense(x) if x.count_nonzero() < DENSITY_LIMIT * x.numel() else x


def stack(upper: Tensor | SparseMatrix, lower: Tensor) -> Tensor | Stacked:
    """``[upper; lower]``, which stays in two parts where the upper one is sparse."""
    return torch.cat([upper, lower]) if isinstance(upper, Tensor) else Stacked((upper, lower))


def aggregated(operator: SparseMatrix, features: Features | Product) -> Tensor | Product | Beside:
    """``operator @ features`` for fixed features: multiplied out if they are dense, else kept as two factors."""
    if isinstance(features, Tensor):
        return operator @ features
    if isinstance(features, Beside):
        return Beside([aggregated(operator, part) for part in features.parts])
    if isinstance(features, Repeated):
        return Product(operator.folded(features.features.shape[0]), features.features)
    if isinstance(features, SparseMatrix | Stacked):
        return Product(operator, features)
    raise TypeError(f"{type(features).__name__} is not aggregated again")
