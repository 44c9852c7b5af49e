"""PEPITA: two forward passes, updates from what changes between them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from runner.errors import BadInput
from runner.methods.graph.pepita import Modulated, Pepita, outer
from runner.methods.models.gat import GAT
from runner.methods.models.gcn import GCN
from runner.methods.models.mlp import MLP
from runner.methods.models.sage import SAGE
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import SparseMatrix, aggregated, compact
from tests.methods.conftest import AS_BUILT


def backbone(name: str, num_layers: int = 2, width: int = 16):
    heads = {"heads": 4} if name == "gat" else {}
    return {"gcn": GCN, "sage": SAGE, "gat": GAT, "mlp": MLP}[name](
        hidden_channels=width, num_layers=num_layers, **heads, **AS_BUILT
    )


def pepita(**changed) -> Pepita:
    values = {"epochs": 60, "lr": 0.02, "weight_decay": 5e-4, "patience": 30, "validate_every": 2}
    return Pepita(**values | {"feedback_scale": 0.05} | changed)


def built(method: Pepita, task, run) -> Pepita:
    torch.manual_seed(0)
    method.build(task, run)
    return method


def trained(method: Pepita, task, run) -> Pepita:
    built(method, task, run).fit(task, run)
    return method


def dense_operators(name: str, task) -> list[torch.Tensor]:
    """What stands before each of a block's weights."""
    graph, eye = Graph(task.edge_index, task.num_nodes, torch.float64), torch.eye(task.num_nodes)
    return {"gcn": [graph.symmetric @ eye], "sage": [graph.mean @ eye, eye], "mlp": [eye]}[name]


def updates_by_hand(method: Pepita, name: str, task) -> list[list[torch.Tensor]]:
    """For each layer [dW …, db]: the formulas, dense, node by node, from the weights as they are."""
    operators = dense_operators(name, task)
    weights = [[p for p in block.parameters() if p.ndim == 2] for block in method.model.blocks]
    biases = [next(p for p in block.parameters() if p.ndim == 1) for block in method.model.blocks]

    def forward(x):
        inputs, outputs = [x], []
        for number, (ws, b) in enumerate(zip(weights, biases, strict=True), start=1):
            y = sum(a @ inputs[-1] @ w for a, w in zip(operators, ws, strict=True)) + b
            outputs.append(y if number == len(weights) else y.clamp(min=0))
            inputs.append(outputs[-1])
        return inputs, outputs

    _, h = forward(task.x)
    error = torch.zeros(task.num_nodes, task.num_classes)
    for node in task.train:
        error[node] = h[-1][node].softmax(0) - functional.one_hot(task.y[node], task.num_classes)
    below, modulated = forward(task.x + error @ method.feedback.T)
    updates = []
    for layer in range(len(weights)):
        delta = error if layer == len(weights) - 1 else h[layer] - modulated[layer]
        update = [
            sum(torch.outer((a @ below[layer])[node], delta[node]) for node in task.train) / len(task.train)
            for a in operators
        ]
        updates.append([*update, delta[task.train].mean(0)])
    return updates


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("name", ["gcn", "sage", "mlp"])
@torch.no_grad()
def test_updates_are_those_of_the_formulas(name: str, num_layers: int, double, any_task, make_run) -> None:
    task = any_task
    method = built(pepita(feedback_scale=1.0), task, make_run(backbone(name, num_layers)))
    graph = Graph(task.edge_index, 60, torch.float64)
    method._set_updates(method.layers[0].aggregate(compact(task.x), graph), task, graph)
    for layer, expected in zip(method.layers, updates_by_hand(method, name, task), strict=True):
        found = [weight.grad for weight in layer.weights] + [layer.bias.grad]
        torch.testing.assert_close(found, expected)


def test_steps_equal_a_loop_by_hand(double, sparse_task, make_run) -> None:
    task, run, steps = sparse_task, make_run(backbone("gcn", num_layers=3)), 5
    method = built(pepita(epochs=steps, patience=100), task, run)
    again = built(pepita(epochs=steps, patience=100), task, run)
    optimizer = torch.optim.AdamW(again.model.parameters(), lr=0.02, weight_decay=5e-4)
    method.fit(task, run)
    with torch.no_grad():
        for step in range(steps):
            for block, (weight, bias) in zip(again.model.blocks, updates_by_hand(again, "gcn", task), strict=True):
                block.weight.grad, block.bias.grad = weight, bias
            optimizer.step()
            for key, value in run.history["train"][step].items():
                torch.testing.assert_close(value, again.model.state_dict()[key], atol=1e-8, rtol=0)


@torch.no_grad()
def test_the_last_layers_update_is_the_gradient_where_nothing_is_modulated(double, sparse_task, make_run) -> None:
    """With B = 0 both passes are one: hidden layers get no update, the last one the gradient of the cross-entropy."""
    task = sparse_task
    method = built(pepita(), task, make_run(backbone("gcn")))
    method.feedback.zero_()
    x, graph = compact(task.x), Graph(task.edge_index, 60, torch.float64)
    loss = method._set_updates(method.layers[0].aggregate(x, graph), task, graph)
    found = [parameter.grad for parameter in method.model.parameters()]
    assert not found[0].any()
    assert not found[1].any()
    with torch.enable_grad():
        expected = functional.cross_entropy(method.model(x, graph)[task.train], task.y[task.train])
        gradients = torch.autograd.grad(expected, list(method.model.parameters())[2:])
    torch.testing.assert_close(found[2:], list(gradients))
    torch.testing.assert_close(loss, expected.detach())


def test_modulated_features_are_not_multiplied_out_but_mean_that(double) -> None:
    x, error, feedback = torch.rand(6, 5), torch.rand(6, 2), torch.rand(5, 2)
    operator, weight, delta = SparseMatrix.from_dense(torch.rand(6, 6).round()), torch.rand(5, 3), torch.rand(6, 3)
    whole = operator @ (x + error @ feedback.T)
    for features in (x, SparseMatrix.from_dense(x)):
        part = Modulated(aggregated(operator, features), aggregated(operator, error), feedback)
        torch.testing.assert_close(part @ weight, whole @ weight)
        torch.testing.assert_close(outer(part, delta), whole.T @ delta)


def test_nothing_is_kept_for_a_backward_pass(sparse_task, make_run) -> None:
    run = make_run(backbone("gcn", num_layers=3))
    trained(pepita(epochs=4), sparse_task, run)
    assert run.activation_bytes["train"] == 0


def test_only_training_labels_are_seen(sparse_task, make_run) -> None:
    y = sparse_task.y.clone()
    y[sparse_task.test] = 0
    states = [
        trained(pepita(epochs=6), task, make_run(backbone("sage"))).model.state_dict()
        for task in (sparse_task, dataclasses.replace(sparse_task, y=y))
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", ["gcn", "sage", "mlp"])
def test_learns_and_restores_the_best_validation(name: str, any_task, make_run) -> None:
    run = make_run(backbone(name, width=64))
    metrics = trained(pepita(epochs=100, lr=0.01), any_task, run).evaluate(any_task, run)
    assert min(run.logged["loss"]) < 0.8 * run.logged["loss"][0]
    assert metrics["val_acc"] == max(run.logged["val_acc"])
    assert run.saved["predictions"]["probability"].shape == (len(any_task.test), 4)


def test_attention_is_refused(sparse_task, make_run) -> None:
    with pytest.raises(BadInput, match=r"GATBlock.*use model=gcn, sage or mlp"):
        pepita().build(sparse_task, make_run(backbone("gat")))
