"""How alike the two networks have become.

Letters: n images, D and E widths.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from runner.methods.learning_rules.ccl.pair import CounterCurrentPair


def linear_cka(x: Tensor, y: Tensor) -> float:
    """||X^T Y||^2 / (||X^T X|| ||Y^T Y||), Frobenius norms, columns centred; in 0..1, 0 where one is constant.

    Args:
        x: [n, D].
        y: [n, E].

    Kornblith et al., ICML 2019, arXiv 1905.00414.
    """
    x, y = x.float(), y.float()  # beyond an emulated format, in which these sums would be infinite
    x, y = x - x.mean(0), y - y.mean(0)
    norm = torch.linalg.matrix_norm
    scale = float(norm(x.T @ x) * norm(y.T @ y))
    return float(norm(x.T @ y) ** 2) / scale if scale > 0 else 0.0


def weight_cosines(pair: CounterCurrentPair) -> dict[str, float]:
    """Cosine of U_l and the transposed V_l, by ``layer<l>``, l = 1..L; a convolution's kernel is turned round."""
    upward = [parameter for parameter in pair.network.parameters() if parameter.ndim > 1]
    downward = [parameter for parameter in pair.feedback.parameters() if parameter.ndim > 1][::-1]
    return {
        f"layer{place}": float(functional.cosine_similarity(u.detach().flatten(), _transposed(v).flatten(), dim=0))
        for place, (u, v) in enumerate(zip(upward, downward, strict=True), start=1)
    }


def _transposed(weight: Tensor) -> Tensor:
    swapped = weight.detach().transpose(0, 1)
    return swapped.flip(2, 3) if weight.ndim == 4 else swapped
