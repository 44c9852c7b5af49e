"""Messages gathered without a tensor of them: values and gradients are those of gather and scatter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runner.methods.ops import edge_messages
from runner.methods.ops.edge_messages import Message, Statistic, gathered, gathered_and_scattered
from runner.methods.ops.relational import RelationalGraph

ALL: tuple[Statistic, ...] = ("sum", "mean", "max", "min", "std")
CASES: list[tuple[Message, tuple[Statistic, ...]]] = [
    ("transe", ALL),
    ("distmult", ALL),
    ("rotate", ALL),
    ("distmult", ("sum",)),
    ("distmult", ("min",)),
]
"""Each is compiled by itself, which takes seconds."""


def case(
    seed: int, nodes: int, edges: int, shared: bool, rounded: bool
) -> tuple[RelationalGraph, list[Tensor], Tensor]:
    """A random graph, with parallel edges and nodes without any, and inputs; ``rounded`` ones are often equal."""
    draw = torch.Generator().manual_seed(seed)
    triples = torch.stack([torch.randint(high, (edges,), generator=draw) for high in (nodes, 3, nodes)], dim=1)
    graph = RelationalGraph(triples, nodes, 3)
    shapes = [(nodes, 2, 4), (3, 1 if shared else 2, 4), (2, 4)]
    inputs = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
    inputs = [value.round() if rounded else value for value in inputs]
    return graph, [value.requires_grad_() for value in inputs], torch.randint(nodes, (2,), generator=draw)


@pytest.mark.parametrize(("message", "statistics"), CASES, ids=str)
@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(0, 30), st.booleans(), st.booleans())
def test_values_and_gradients_are_those_of_gather_and_scatter(
    message: Message, statistics: tuple[Statistic, ...], seed: int, nodes: int, edges: int, shared: bool, rounded: bool
) -> None:
    pytest.importorskip("numba", reason="the compiled passes need the extra 'packed'")
    graph, inputs, source = case(seed, nodes, edges, shared, rounded)
    h, w, boundary = inputs
    ours = gathered(graph, h, w, source, boundary, message, statistics)
    naive = gathered_and_scattered(graph, h, w, source, boundary, message, statistics)
    assert ours.grad_fn is not None
    assert ours.grad_fn.name() == "_GatheredBackward"
    torch.testing.assert_close(ours, naive, rtol=1e-9, atol=1e-9)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if not rounded or "std" not in statistics:  # exactly at the clamp a derivative is a matter of rounding
        theirs = torch.autograd.grad((naive * weights).sum(), inputs)
        for gradient, expected in zip(torch.autograd.grad((ours * weights).sum(), inputs), theirs, strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-8)


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    pytest.importorskip("numba", reason="the compiled passes need the extra 'packed'")
    graph, (h, w, boundary), source = case(3, 9, 40, True, False)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out = gathered(graph, h, w, source, boundary, "rotate", ALL)
        found.append([out, *torch.autograd.grad(out.square().sum(), [h, w, boundary])])
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)


def test_without_numba_the_same_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_messages, "find_spec", lambda name: None)
    graph, (h, w, boundary), source = case(1, 6, 20, True, False)
    out = gathered(graph, h, w, source, boundary, "distmult", ("max",))
    assert torch.equal(out, gathered_and_scattered(graph, h, w, source, boundary, "distmult", ("max",)))


def test_any_node_may_be_the_last() -> None:
    """Renumbering nodes renumbers what is gathered: no end of a row is off by one."""
    graph, (h, w, boundary), source = case(5, 7, 25, True, False)
    out = gathered(graph, h, w, source, boundary, "distmult", ALL)
    for last in range(7):
        new = torch.tensor([node for node in range(7) if node != last] + [last]).argsort()
        triples = torch.stack([new[graph.source], graph.relation, new[graph.target]], dim=1)
        moved = gathered(RelationalGraph(triples, 7, 3), h[new.argsort()], w, new[source], boundary, "distmult", ALL)
        torch.testing.assert_close(moved[new], out)
