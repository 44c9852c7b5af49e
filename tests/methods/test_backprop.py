from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch
from torch.nn import functional
from torch_geometric.nn import GCNConv

from runner.methods.graph.backprop import Backprop
from runner.methods.models.gat import GAT
from runner.methods.models.gcn import GCN
from runner.methods.models.mlp import MLP
from runner.methods.models.sage import SAGE
from runner.methods.ops.graph import Graph
from tests.methods.conftest import AS_BUILT

BACKBONES = {
    "gcn": GCN(hidden_channels=16, num_layers=2, **AS_BUILT),
    "sage": SAGE(hidden_channels=16, num_layers=2, **AS_BUILT),
    "gat": GAT(hidden_channels=16, num_layers=2, heads=4, **AS_BUILT),
    "mlp": MLP(hidden_channels=16, num_layers=2, **AS_BUILT),
}


def backprop(**changed) -> Backprop:
    chosen = {"epochs": 60, "lr": 0.02, "weight_decay": 5e-4, "monitor": "val_acc", "patience": 30, "validate_every": 2}
    return Backprop(**chosen | changed)


def trained(method: Backprop, task, run) -> Backprop:
    torch.manual_seed(0)
    method.build(task, run)
    method.fit(task, run)
    return method


@pytest.mark.parametrize("name", BACKBONES)
def test_learns_and_restores_the_best_validation(name: str, any_task, make_run) -> None:
    run = make_run(BACKBONES[name])
    method = trained(backprop(), any_task, run)
    metrics = method.evaluate(any_task, run)
    assert run.logged["loss"][-1] < 0.5 * run.logged["loss"][0]
    assert metrics["val_acc"] == max(run.logged["val_acc"])
    assert len(run.logged["val_acc"]) == len(run.logged["loss"]) // 2


def test_may_stop_by_the_loss(sparse_task, make_run) -> None:
    run = make_run(BACKBONES["gcn"])
    method = trained(backprop(monitor="val_loss", epochs=200, lr=0.1, patience=5), sparse_task, run)
    losses = run.logged["val_loss"]
    assert len(losses) < 100, "it stops"
    logits = method.model(sparse_task.x, Graph(sparse_task.edge_index, 60, torch.float32))[sparse_task.val]
    restored = functional.cross_entropy(logits, sparse_task.y[sparse_task.val])
    assert float(restored.detach()) == pytest.approx(min(losses), abs=1e-5)
    assert losses[-1] > min(losses)


def test_karate_club(karate, make_run) -> None:
    run = make_run(BACKBONES["gcn"])
    metrics = trained(backprop(), karate, run).evaluate(karate, run)
    assert metrics["test_acc"] >= 0.8


def test_predictions_are_saved_for_test_nodes(sparse_task, make_run) -> None:
    run = make_run(BACKBONES["gcn"])
    metrics = trained(backprop(epochs=10), sparse_task, run).evaluate(sparse_task, run)
    saved = run.saved["predictions"]
    assert torch.equal(saved["index"], sparse_task.test)
    assert torch.equal(saved["label"], sparse_task.y[sparse_task.test])
    torch.testing.assert_close(saved["probability"].sum(1), torch.ones(len(sparse_task.test)))
    hits = (saved["probability"].argmax(1) == saved["label"]).double().mean()
    assert metrics["test_acc"] == pytest.approx(hits.item())


def test_state_dict_is_all_that_evaluation_needs(sparse_task, make_run) -> None:
    run = make_run(BACKBONES["gat"])
    method = trained(backprop(epochs=10), sparse_task, run)
    again = backprop(epochs=10)
    again.build(sparse_task, run)
    again.model.load_state_dict(method.model.state_dict())
    assert again.evaluate(sparse_task, run) == method.evaluate(sparse_task, run)


def test_steps_equal_a_plain_pyg_loop(double, any_task, make_run) -> None:
    """Two GCNConv on dense features and edge_index, PyTorch's Adam unfused: the same weights after each step."""
    task, run, steps = any_task, make_run(BACKBONES["gcn"]), 8
    method = backprop(epochs=steps, patience=100)
    torch.manual_seed(0)
    method.build(task, run)
    first, second = GCNConv(24, 16), GCNConv(16, task.num_classes)
    with torch.no_grad():
        for conv, block in zip((first, second), method.model.blocks, strict=True):
            conv.lin.weight.copy_(block.weight.T)
    optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=0.02, weight_decay=5e-4)
    method.fit(task, run)
    for step in range(steps):
        optimizer.zero_grad()
        logits = second(first(task.x, task.edge_index).relu(), task.edge_index)
        functional.cross_entropy(logits[task.train], task.y[task.train]).backward()
        optimizer.step()
        state = run.history["train"][step]
        torch.testing.assert_close(state["blocks.0.weight"], first.lin.weight.T.detach(), atol=1e-9, rtol=0)
        torch.testing.assert_close(state["blocks.1.weight"], second.lin.weight.T.detach(), atol=1e-9, rtol=0)


def test_mlp_does_not_see_the_graph(sparse_task, make_run) -> None:
    rewired = dataclasses.replace(sparse_task, edge_index=sparse_task.edge_index[:, :10])
    probabilities = []
    for task in (sparse_task, rewired):
        run = make_run(BACKBONES["mlp"])
        trained(backprop(epochs=10), task, run).evaluate(task, run)
        probabilities.append(run.saved["predictions"]["probability"])
    assert torch.equal(*probabilities)


def test_saved_activations_grow_with_depth(sparse_task, make_run) -> None:
    counted = []
    for num_layers in (1, 2, 3, 4):
        run = make_run(GCN(hidden_channels=64, num_layers=num_layers, **AS_BUILT))
        trained(backprop(epochs=4), sparse_task, run)
        counted.append(run.activation_bytes["train"])
    hidden_output = 60 * 64 * 4
    assert [deeper - shallower for shallower, deeper in pairwise(counted)] == [hidden_output] * 3
