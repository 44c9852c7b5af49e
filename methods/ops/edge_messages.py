"""Messages along edges with relations, gathered at their targets, without a tensor of the messages.

Letters: B sources (each a graph pass of its own), N nodes, E edges, R relations, D width, S statistics.

A node v gathers the multiset M_bv of ``message(h_bx, w_br)`` over its edges (x, r, v) and of its boundary value, which
is ``boundary[b]`` at the source of pass b, 0 elsewhere. Where numba is installed and the tensors are on the CPU, one
compiled pass over the edges computes all statistics, and another one all gradients, from messages computed anew: memory
is O(N B S D). Elsewhere, and as the reference in tests and benchmarks, messages are gathered and scattered: O(E B D).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from runner.methods.ops.relational import RelationalGraph

Message = Literal["transe", "distmult", "rotate"]
Statistic = Literal["sum", "mean", "max", "min", "std"]

LEAST_VARIANCE = 1e-6
"""std = sqrt(max(E[m^2] - E[m]^2, this))."""


def gathered(
    graph: RelationalGraph,
    h: Tensor,
    w: Tensor,
    source: Tensor,
    boundary: Tensor,
    message: Message,
    statistics: tuple[Statistic, ...],
) -> Tensor:
    """Statistics of each M_bv, side by side in the given order: [N, B, S D].

    Where several messages are the largest (or smallest), they share its gradient evenly.

    Args:
        graph: its edges, E of them.
        h: states [N, B, D].
        w: relations [R, B, D], or [R, 1, D] for all passes.
        source: of each pass [B], int64.
        boundary: [B, D].
        message: transe h + w; distmult h w; rotate: the product of complex numbers, whose real parts are the first
            half of a row.
        statistics: what is computed; ``std`` only beside ``mean``.
    """
    if h.device.type == "cpu" and find_spec("numba"):
        out: Tensor = _Gathered.apply(h, w, boundary, graph, source, message, statistics)  # type: ignore[no-untyped-call]
        return out
    return gathered_and_scattered(graph, h, w, source, boundary, message, statistics)


def gathered_and_scattered(
    graph: RelationalGraph,
    h: Tensor,
    w: Tensor,
    source: Tensor,
    boundary: Tensor,
    message: Message,
    statistics: tuple[Statistic, ...],
    weight: Tensor | None = None,
) -> Tensor:
    """The same from messages [E, B, D]; ``weight`` [E] multiplies them."""
    messages = _MESSAGES[message](h.index_select(0, graph.source), w.index_select(0, graph.relation))
    if weight is not None:
        messages = messages * weight.view(-1, 1, 1)
    own = h.new_zeros(h.shape).index_put((source, torch.arange(len(source), device=h.device)), boundary)
    total = own.index_add(0, graph.target, messages)
    count = (graph.in_degree + 1).to(h.dtype).view(-1, 1, 1)
    places = graph.target.view(-1, 1, 1).expand_as(messages)
    found: dict[str, Tensor] = {"sum": total, "mean": total / count}
    for name, reduce in (("max", "amax"), ("min", "amin")):
        if name in statistics:
            found[name] = own.scatter_reduce(0, places, messages, reduce)
    if "std" in statistics:
        square = (own * own).index_add(0, graph.target, messages * messages) / count
        found["std"] = (square - found["mean"] ** 2).clamp(min=LEAST_VARIANCE).sqrt()
    return torch.cat([found[name] for name in statistics], dim=2)


def _rotated(h: Tensor, w: Tensor) -> Tensor:
    (a, b), (c, d) = h.chunk(2, dim=2), w.chunk(2, dim=2)
    return torch.cat([a * c - b * d, a * d + b * c], dim=2)


_MESSAGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "transe": torch.add,
    "distmult": torch.mul,
    "rotate": _rotated,
}


class _Gathered(torch.autograd.Function):
    """Both passes over the edges are in ``edge_kernels``."""

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        w: Tensor,
        boundary: Tensor,
        graph: RelationalGraph,
        source: Tensor,
        message: Message,
        statistics: tuple[Statistic, ...],
    ) -> Tensor:
        from runner.methods.ops import edge_kernels

        ctx.kernel = edge_kernels.backward(message, statistics)
        ctx.shared = w.shape[1] < h.shape[1]
        h, w, boundary = h.contiguous(), w.expand(-1, h.shape[1], -1).contiguous(), boundary.contiguous()
        out = h.new_empty(*h.shape[:2], len(statistics), h.shape[2])
        tensors = (graph.indptr, graph.source, graph.relation, source, h.flatten(1), w.flatten(1), boundary, out)
        _in_threads(edge_kernels.forward(message, statistics), tensors, h.shape[1])
        ctx.save_for_backward(*tensors)
        return out.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        h, w, boundary, out = tensors[4:]
        d_h, d_w, d_boundary = torch.zeros_like(h), torch.zeros_like(w), torch.zeros_like(boundary)
        passes = (len(boundary), boundary.shape[1])
        _in_threads(ctx.kernel, (*tensors, gradient.contiguous().view_as(out), d_h, d_w, d_boundary), passes[0])
        d_w = d_w.unflatten(1, passes)
        return d_h.unflatten(1, passes), d_w.sum(1, keepdim=True) if ctx.shared else d_w, d_boundary, *[None] * 4


def _in_threads(kernel: Callable[..., None], tensors: tuple[Tensor, ...], passes: int) -> None:
    """Each thread has passes of its own: the result does not hang on the number of threads."""
    arrays = [tensor.detach().numpy() for tensor in tensors]
    arrays = [array.view(np.uint64) if array.dtype == np.int64 else array for array in arrays]
    threads = min(torch.get_num_threads(), passes)
    ends = [np.uint64(passes * number // threads) for number in range(threads + 1)]
    if threads == 1:
        kernel(*arrays, *ends)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(kernel, *arrays, *span) for span in pairwise(ends)]:
            done.result()
