"""What a training step holds: tensors from birth to death, whoever keeps them."""

from __future__ import annotations

import torch
from torch import Tensor

from runner.hardware.activations import LiveBytes, SavedActivations

SIZE = 100
BYTES = 4 * SIZE


def test_what_is_dropped_no_longer_counts() -> None:
    x = torch.randn(SIZE)
    with LiveBytes() as live:
        a = x * 2
        b = a + 1
        del a
        c = b * 3
        del b
        c.exp()
    assert live.most() == 2 * BYTES


def test_what_is_kept_counts() -> None:
    x = torch.randn(SIZE)
    with LiveBytes() as live:
        kept = [x * 2]
        for _ in range(3):
            kept.append(kept[-1] + 1)
    assert live.most() == 4 * BYTES
    assert live.most(without=kept[:2]) == 2 * BYTES


def test_views_and_changes_in_place_hold_nothing_more() -> None:
    x = torch.randn(SIZE)
    with LiveBytes() as live:
        a = x * 2
        a.view(10, 10).T.add_(1)
        a[:50].mul_(2)
    assert live.most() == BYTES


def test_what_autograd_saves_is_held_until_it_is_used() -> None:
    x = torch.randn(SIZE, requires_grad=True)

    def chain(start: Tensor) -> Tensor:
        for _ in range(5):
            start = start.tanh()  # saves its result
        return start.sum()

    with LiveBytes() as live:
        loss = chain(x)
        loss.backward()
    with LiveBytes() as plain, torch.no_grad():
        chain(x)
    assert plain.most() == 2 * BYTES
    assert 5 * BYTES <= live.most(without=[x.grad]) <= 8 * BYTES  # type: ignore[list-item]


def test_bytes_are_those_of_the_target() -> None:
    x = torch.randn(SIZE, dtype=torch.float64)
    with LiveBytes(lambda tensor: tensor.numel() * 2) as live:
        kept = x * 2
    assert live.most() == 2 * SIZE
    assert kept.numel() == SIZE


def test_the_dead_of_a_step_are_counted_and_let_go() -> None:
    x, layer = torch.randn(64, 16), torch.nn.Linear(16, 32)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with SavedActivations() as saved:
        for _ in range(5):
            optimizer.zero_grad()
            layer(x).tanh().sum().backward()
            optimizer.step()
    kept = [reference for step in saved._steps for reference, _ in step.alive.values()]
    assert not any(reference.expired() for reference in kept), "a reference to a dead storage pins its place in memory"
    assert saved.settle(3)
    assert saved.bytes == 64 * 32 * 4  # what tanh gave
    assert saved.fixed_bytes == 64 * 16 * 4  # the input
