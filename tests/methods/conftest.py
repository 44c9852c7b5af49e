"""Small tasks, and a run that is only what a method sees of one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from runner.contracts import Backbone, LinkPrediction, NodeClassification
from runner.hardware.activations import SavedActivations
from runner.loops import Epoch

AS_BUILT = {"init": "default", "init_operator": "own", "init_signal": "mean"}
"""A graph backbone's initial weights: each block's own."""


class FakeRun:
    """Builds blocks, counts epochs and restores the best state, as the runner does; records what it sees."""

    device = torch.device("cpu")

    def __init__(self, backbone: Backbone, after_epoch: Callable[[str, int], None] | None = None) -> None:
        self.backbone = backbone
        self.after_epoch = after_epoch
        self.tracked: dict[str, Any] = {}
        self.logged: dict[str, list[float]] = {}
        self.history: dict[str, list[dict[str, Tensor]]] = {}
        self.activation_bytes: dict[str, int] = {}
        self.fixed_bytes: dict[str, int] = {}
        self.saved: dict[str, Any] = {}

    def model(self, in_channels: int, out_channels: int) -> nn.Module:
        return self.backbone.network(in_channels, out_channels)

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Module:
        return self.backbone.block(in_channels, out_channels, head=head)

    def adapt(self, module: nn.Module) -> nn.Module:
        return module

    def track(self, **objects: Any) -> None:
        self.tracked = objects

    def log(self, **values: float | Tensor) -> None:
        for name, value in values.items():
            self.logged.setdefault(name, []).append(float(value))

    def save(self, name: str, value: Any) -> None:
        self.saved[name] = value

    def epochs(
        self, n: int, *, name: str, monitor: str, mode: str, patience: int, every: int, restore_best: bool
    ) -> Iterator[Epoch]:
        assert restore_best
        sign = 1 if mode == "max" else -1
        best, misses, best_state = -float("inf"), 0, None
        measured = SavedActivations()
        self.history[name] = []
        for number in range(1, n + 1):
            epoch = Epoch(number, number % every == 0)
            if number == 1:
                with measured:
                    yield epoch
            else:
                yield epoch
            if number <= 3 and measured.settle(epoch):
                self.activation_bytes[name], self.fixed_bytes[name] = measured.bytes, measured.fixed_bytes
            self.history[name].append(copy.deepcopy(self.tracked["model"].state_dict()))
            if self.after_epoch is not None:
                self.after_epoch(name, number)
            if epoch.validates:
                value = sign * self.logged[monitor][-1]
                if value > best:
                    best, misses, best_state = value, 0, self.history[name][-1]
                else:
                    misses += 1
            if misses >= patience:
                break
        if best_state is not None:
            self.tracked["model"].load_state_dict(best_state)


@pytest.fixture
def make_run() -> type[FakeRun]:
    return FakeRun


@pytest.fixture(autouse=True)
def one_thread_and_seeded() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def double() -> Iterator[None]:
    """Float64, where two ways to compute the same are compared over many steps."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def task_of(x: Tensor, edges: Tensor, y: Tensor, train: int, val: int, name: str) -> NodeClassification:
    """A task whose splits are the first ``train`` nodes of a random order, the next ``val``, and the rest."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    train_nodes, val_nodes, test_nodes = (part.sort().values for part in order.tensor_split([train, train + val]))
    both = torch.cat([edges, edges.flip(0)], dim=1).unique(dim=1)
    return NodeClassification(
        name=name,
        fingerprint=name,
        x=x.to(torch.get_default_dtype()),
        edge_index=both,
        y=y,
        num_classes=int(y.max()) + 1,
        train=train_nodes,
        val=val_nodes,
        test=test_nodes,
    )


@pytest.fixture
def karate() -> NodeClassification:
    """Zachary's karate club (1977) as networkx ships it: who went with whom. Features: a node's number, one-hot."""
    import networkx

    club = networkx.karate_club_graph()
    y = torch.tensor([int(club.nodes[node]["club"] != "Mr. Hi") for node in club])
    return task_of(torch.eye(len(y)), torch.tensor(list(club.edges)).T, y, train=16, val=8, name="karate")


def random_task(*, density: float) -> NodeClassification:
    """A random graph of 60 nodes and 4 classes, one of them isolated; edges and features lean to a node's class."""
    draw = torch.Generator().manual_seed(1)
    y = torch.arange(60) % 4
    same = y.unsqueeze(0) == y.unsqueeze(1)
    chance = torch.where(same, 0.2, 0.02).triu(1)
    chance[:, -1] = 0.0
    edges = (torch.rand(60, 60, generator=draw) < chance).nonzero().T
    x = torch.rand(60, 24, generator=draw) * (torch.rand(60, 24, generator=draw) < density)
    x = x + 0.5 * nn.functional.one_hot(y, 24)
    x[3] = 0.0
    return task_of(x, edges, y, train=30, val=12, name=f"random at density {density}")


@pytest.fixture
def sparse_task() -> NodeClassification:
    return random_task(density=0.05)


@pytest.fixture(params=[0.05, 0.9], ids=["sparse", "dense"])
def any_task(request: pytest.FixtureRequest) -> NodeClassification:
    return random_task(density=request.param)


@pytest.fixture(params=[0.05, 0.9], ids=["sparse", "dense"])
def link_task(request: pytest.FixtureRequest) -> LinkPrediction:
    """The random graph's edges: 64 % to train, 16 % to validate, 20 % to test, and as many pairs without an edge."""
    task = random_task(density=request.param)
    draw = torch.Generator().manual_seed(2)
    edge = torch.zeros(60, 60, dtype=torch.bool)
    edge[task.edge_index[0], task.edge_index[1]] = True
    there, absent = edge.triu(1).nonzero().T, (~edge).triu(1).nonzero().T
    ends = [int(share * there.shape[1]) for share in (0.64, 0.8)]
    pos = there[:, torch.randperm(there.shape[1], generator=draw)].tensor_split(ends, dim=1)
    neg = absent[:, torch.randperm(absent.shape[1], generator=draw)[: there.shape[1]]].tensor_split(ends, dim=1)

    def both_ways(*pairs: Tensor) -> Tensor:
        whole = torch.cat(pairs, dim=1)
        return torch.cat([whole, whole.flip(0)], dim=1).unique(dim=1)

    return LinkPrediction(
        name=task.name,
        fingerprint=task.fingerprint,
        x=task.x,
        train_edge_index=both_ways(pos[0]),
        test_edge_index=both_ways(pos[0], pos[1]),
        train_pos=pos[0],
        train_neg=neg[0],
        val_pos=pos[1],
        val_neg=neg[1],
        test_pos=pos[2],
        test_neg=neg[2],
    )
