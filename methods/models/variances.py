"""Weight variances that keep a graph network's signal equally strong in all layers (Virgo).

Li et al., ICML 2023, arXiv 2312.02622. Letters: N nodes, L layers, A the layers' propagation operator [N, N].
Weights are independent with mean 0, and a path through the network is open with chance 1/2 at each ReLU; then
the mean square of a layer's output is a product of fan-ins and variances times an *energy* of A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from runner.methods.ops.sparse import SparseMatrix, sparse_times_dense

RELU = 2.0
"""What a ReLU divides the mean square by; 1 in a linear network."""


@dataclass(frozen=True)
class Map:
    """One weight matrix of the chain from input to output (or several side by side, whose outputs are added)."""

    fan_in: int
    fan_out: int
    aggregates: bool
    """Whether A stands before it: each block's first map. An MLP's further ones follow without."""


def energies(operator: SparseMatrix, signal: Tensor, depth: int, *, with_self: bool) -> Tensor:
    """e_0, …, e_depth in float64, with e_p = ||A^p s||^2.

    ``with_self``: each layer adds a node's own input by a weight of its own. Both weights are independent, so
    that e_p = sum_k binom(p, k) ||A^k s||^2.

    Args:
        operator: A.
        signal: s, [N] or [N, F] (Frobenius norm).
        depth: most applications.
        with_self: see above.
    """
    h = signal.double().reshape(signal.shape[0], -1)
    operator = operator.with_values(operator.values.double())
    norms = [h.square().sum()]
    for _ in range(depth):
        h = sparse_times_dense(operator, h)
        norms.append(h.square().sum())
    if not with_self:
        return torch.stack(norms)
    return torch.stack([sum(comb(p, k) * norms[k] for k in range(p + 1)) for p in range(depth + 1)])


def forward_variances(chain: Sequence[Map], energy: Tensor, *, factor: float) -> list[float]:
    """Virgofor: v_1 = c / m_0, v_k = c / fan_in_k * e_{p_{k-1}} / e_{p_k}, with p_k aggregations up to map k.

    Then sum_i E||h_i||^2 is the same after each map, for an input whose features all equal the signal's.

    Args:
        chain: the maps, from the input.
        energy: :func:`energies` of the input's signal, up to the number of aggregations.
        factor: c, ``RELU`` or 1.
    """
    variances, place = [], 0
    for number, part in enumerate(chain):
        below, place = place, place + part.aggregates
        ratio = float(energy[below] / energy[place]) if number else 1.0
        variances.append(factor / part.fan_in * ratio)
    return variances


def backward_variances(chain: Sequence[Map], energy: Tensor, *, factor: float) -> list[float]:
    """Virgoback: v_K = N / ((C - 1) e_{b_K}), v_k = c / fan_out_k * e_{b_{k+1}} / e_{b_k}.

    b_k counts the aggregations from map k to the output. The last value is that of the cross-entropy's gradient
    where all C classes are about equally likely; C is the chain's output width.

    Args:
        chain: the maps, from the input.
        energy: :func:`energies` of A^T and the vector of ones, whose e_0 is N.
        factor: c, ``RELU`` or 1.
    """
    variances, place = [], 0
    for number, part in enumerate(reversed(chain)):
        above, place = place, place + part.aggregates
        if number:
            variances.append(factor / part.fan_out * float(energy[above] / energy[place]))
        else:
            variances.append(float(energy[0] / energy[place]) / max(part.fan_out - 1, 1))
    return variances[::-1]


def harmonic_mean(one: float, other: float) -> float:
    """2 / (1 / f + 1 / b): Virgo's default."""
    return 2 / (1 / one + 1 / other)


def arithmetic_mean(one: float, other: float) -> float:
    """(f + b) / 2: ``normal`` in the released code."""
    return (one + other) / 2
