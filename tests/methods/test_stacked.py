"""Networks trained side by side: every figure as one by one."""

from __future__ import annotations

import gc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import Backbone, NodeClassification
from runner.methods.models.gcn import GCN
from runner.methods.models.gcn_dropout import DroppedStack
from runner.methods.models.gin import GIN
from runner.methods.models.mlp import MLP
from runner.methods.models.sage import SAGE
from runner.methods.models.side_by_side import COLUMNS, SideBySide, unfit
from runner.methods.models.stack import Stack
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.adam import step_together
from runner.methods.ops.graph import Graph
from runner.methods.ops.node_loss import NodeLoss
from runner.methods.ops.sparse import compact
from tests.methods.conftest import AS_BUILT, random_task

SEEDS = 5
EPOCHS = 10
FAMILIES: dict[str, type[Backbone]] = {"gcn": GCN, "sage": SAGE, "mlp": MLP}


def networks(family: str, task: NodeClassification, *, hidden: int, layers: int, dropout: float) -> list[nn.Module]:
    built: list[nn.Module] = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        backbone = FAMILIES[family](hidden_channels=hidden, num_layers=layers, **AS_BUILT)  # type: ignore[call-arg]
        network = backbone.network(task.num_features, task.num_classes).to(task.x.dtype)
        built.append(DroppedStack([*network.blocks], dropout) if dropout else network)  # type: ignore[union-attr, arg-type]
    return built


def adam(network: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=5e-4, fused=True)


def one_by_one(network: nn.Module, task: NodeClassification, seed: int) -> list[tuple[float, float, float]]:
    """Training loss, then validation accuracy and loss, of each epoch."""
    x, graph, optimizer = compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype), adam(network)
    found = []
    torch.manual_seed(100 + seed)
    for _ in range(EPOCHS):
        network.train()
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(x, graph)[task.train], task.y[task.train])
        loss.backward()
        optimizer.step()
        network.eval()
        with torch.no_grad():
            logits, labels = network(x, graph)[task.val], task.y[task.val]
        found.append((loss.item(), accuracy(logits, labels), functional.cross_entropy(logits, labels).item()))
    return found


@torch.no_grad()
def side_by_side(
    models: list[nn.Module], tasks: list[NodeClassification], every: int = 1
) -> list[list[tuple[float, float, float]]]:
    """The same of all of them; Adam's states begin at 0, as its first step makes them."""
    task = tasks[0]
    draws = [torch.Generator().manual_seed(100 + seed) for seed in range(len(models))]
    optimizers = [adam(model) for model in models]
    for optimizer in optimizers:
        for parameter in optimizer.param_groups[0]["params"]:
            zeros = torch.zeros_like(parameter)
            optimizer.state[parameter] = {"step": torch.zeros(()), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
    graph = Graph(task.edge_index, task.num_nodes, task.x.dtype)
    networks, losses = SideBySide(models, compact(task.x), graph, draws), NodeLoss(tasks)
    found: list[list[tuple[float, float, float]]] = [[] for _ in models]
    for epoch in range(EPOCHS):
        logits = networks.forward(training=True)
        values, gradients = losses.losses(logits), networks.backward(losses.slopes(logits))
        step_together(optimizers, networks.parameters(), gradients)
        networks.stepped()
        figures = [(0.0, 0.0)] * len(models)
        if epoch % every == 0:
            logits = networks.forward(training=False)
            figures = list(zip(losses.val_accuracies(logits), losses.val_losses(logits), strict=True))
        for line, value, figure in zip(found, values, figures, strict=True):
            line.append((value, *figure))
    return found


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("hidden", [9, 20, 130], ids=["narrow", "shared", "alone"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ten_epochs_are_those_of_one_by_one(
    family: str, hidden: int, dropout: float, any_task: NodeClassification
) -> None:
    """``hidden``: transposed products; several networks in a product; one."""
    assert (hidden > COLUMNS) == (hidden == 130)
    alone = networks(family, any_task, hidden=hidden, layers=3, dropout=dropout)
    expected = [one_by_one(network, any_task, seed) for seed, network in enumerate(alone)]
    found = side_by_side(networks(family, any_task, hidden=hidden, layers=3, dropout=dropout), [any_task] * SEEDS)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=0, atol=1e-5)


def test_a_validation_now_and_then_changes_nothing(any_task: NodeClassification) -> None:
    lines = [
        side_by_side(networks("sage", any_task, hidden=20, layers=2, dropout=0.5), [any_task] * SEEDS, every)
        for every in (1, 3)
    ]
    for often, seldom in zip(*lines, strict=True):
        assert [loss for loss, *_ in often] == [loss for loss, *_ in seldom]


def test_splits_of_other_sizes(sparse_task: NodeClassification) -> None:
    import dataclasses

    tasks = [
        dataclasses.replace(sparse_task, train=sparse_task.train[: 10 + seed], val=sparse_task.val[: 3 + seed])
        for seed in range(SEEDS)
    ]
    alone = networks("gcn", sparse_task, hidden=20, layers=2, dropout=0)
    expected = [one_by_one(network, tasks[seed], seed) for seed, network in enumerate(alone)]
    found = side_by_side(networks("gcn", sparse_task, hidden=20, layers=2, dropout=0), tasks)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=0, atol=1e-5)


@given(
    family=st.sampled_from(sorted(FAMILIES)),
    hidden=st.integers(1, 40),
    layers=st.integers(1, 4),
    density=st.sampled_from([0.05, 0.9]),
)
def test_gradients_are_autograds(family: str, hidden: int, layers: int, density: float) -> None:
    """In float64, for any gradient that a loss may send."""
    torch.set_default_dtype(torch.float64)
    try:
        task = random_task(density=density)
        models = networks(family, task, hidden=hidden, layers=layers, dropout=0.0)
        x, graph = compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype)
        slopes = torch.randn(SEEDS, task.num_classes, task.num_nodes)
        for model, slope in zip(models, slopes, strict=True):
            model(x, graph).backward(slope.T)
        with torch.no_grad():
            networks_ = SideBySide(models, x, graph, [])
            logits = networks_.forward(training=True)
            gradients = networks_.backward(slopes)
            expected = torch.stack([model(x, graph).T for model in models])
        torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-12)
        for parameter, gradient in zip(networks_.parameters(), gradients, strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-10, atol=1e-12)
    finally:
        torch.set_default_dtype(torch.float32)


@torch.no_grad()
def test_equal_scores_count_as_argmax_counts_them() -> None:
    task = random_task(density=0.9)
    logits = torch.randint(3, (SEEDS, task.num_classes, task.num_nodes)).float()
    expected = [accuracy(scores[:, task.val].T, task.y[task.val]) for scores in logits]
    assert NodeLoss([task] * SEEDS).val_accuracies(logits) == expected


@torch.no_grad()
def test_a_pass_leaves_nothing_for_the_collector(sparse_task: NodeClassification) -> None:
    """What waits for it makes every pass ask the system for new memory: measured, a third of the time."""
    models = networks("gcn", sparse_task, hidden=20, layers=2, dropout=0.0)
    graph = Graph(sparse_task.edge_index, sparse_task.num_nodes, sparse_task.x.dtype)
    networks_ = SideBySide(models, compact(sparse_task.x), graph, [])

    def step() -> int:
        networks_.stepped()
        networks_.backward(torch.zeros_like(networks_.forward(training=True)))
        return sum(issubclass(type(item), Tensor) for item in gc.get_objects())  # asks no weak proxy for its class

    step()
    gc.collect()
    gc.disable()
    try:
        assert step() == step()
    finally:
        gc.enable()


def test_what_is_trained_alone_is_told() -> None:
    gin = GIN(hidden_channels=4, num_layers=2, mlp_layers=2, **AS_BUILT).network(3, 2)
    gcn = GCN(hidden_channels=4, num_layers=2, **AS_BUILT).network(3, 2)
    assert unfit(gin) == "a GINBlock is trained alone"
    assert unfit(nn.Linear(2, 2)) == "a Linear is trained alone"
    assert unfit(DroppedStack([*gcn.blocks], 1.0)) == "with dropout of 1 nothing is trained"
    assert unfit(Stack([*gcn.blocks])) == ""
