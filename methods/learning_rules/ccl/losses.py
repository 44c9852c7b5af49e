"""Local losses of counter-current learning (Kao & Hariharan, NeurIPS 2024, arXiv 2409.19841).

Letters: B images, K classes, D width of a layer, R rows: K, or B where feedback saw the batch's own labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMALL = 1e-8
REFERENCE_WIDTH = 256
"""Width at which the products of rows that are not normalised have weight 1."""


def unit_rows(a: Tensor) -> Tensor:
    """Rows [n, D] divided by their length; a row of zeros stays one."""
    return functional.normalize(a, dim=1, eps=SMALL)


def meeting(a: Tensor, b: Tensor, matches: Tensor, *, normalise: bool) -> Tensor:
    """mean((A B^T - M)^2): an activity is like its own class's and unlike the others'.

    Without ``normalise`` it is multiplied by 256 / D, for products grow with the width.

    Args:
        a: [B, D].
        b: [R, D].
        matches: M [B, R], 1 where image and row are of one class.
        normalise: rows are divided by their lengths.
    """
    if normalise:
        return functional.mse_loss(unit_rows(a) @ unit_rows(b).T, matches)
    return functional.mse_loss(a @ b.T, matches) * (REFERENCE_WIDTH / a.shape[1])


def meeting_of_batch(a: Tensor, b: Tensor, *, normalise: bool) -> Tensor:
    """||A B^T - I||, the Frobenius norm, for a and b [B, D]: the paper's formula."""
    if normalise:
        a, b = unit_rows(a), unit_rows(b)
    return torch.linalg.matrix_norm(a @ b.T - identity(a))


def spread(a: Tensor) -> Tensor:
    """mean((A A^T - I)^2) of normalised rows [n, D]: rows are unlike one another.

    It can't be 0 for n > D: the Gram matrix has rank D at most, so that at least n - D eigenvalues of A A^T - I are -1,
    and the mean is (n - D) / n^2 or more.
    """
    rows = unit_rows(a)
    return functional.mse_loss(rows @ rows.T, identity(a))


def identity(a: Tensor) -> Tensor:
    """I [n, n], for a [n, D]."""
    return torch.eye(len(a), dtype=a.dtype, device=a.device)


def centralise(gradient: Tensor) -> None:
    """Subtract, in place, each output unit's mean: over the inputs, and for convolutions over the kernel."""
    if gradient.ndim > 1:
        gradient -= gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True)
