"""The unit checks of ForwardGNN's single forward (SF)."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch_geometric.nn import GCNConv

from runner.methods.graph.forwardgnn.layer import FixedInputLayer, unit_rows
from runner.methods.graph.forwardgnn.method import ForwardGNN
from runner.methods.graph.forwardgnn.virtual_nodes import augmented_graph, with_virtual
from runner.methods.models.gat import GAT
from runner.methods.models.gcn import GCN
from runner.methods.models.sage import SAGE
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import SparseMatrix, compact, stack
from tests.methods.conftest import AS_BUILT


def backbone(name: str, num_layers: int = 2, width: int = 16):
    heads = {"heads": 4} if name == "gat" else {}
    return {"gcn": GCN, "sage": SAGE, "gat": GAT}[name](
        hidden_channels=width, num_layers=num_layers, **heads, **AS_BUILT
    )


def forwardgnn(**changed) -> ForwardGNN:
    values = {
        "append_label": "none",
        "epochs": 60,
        "lr": 0.02,
        "weight_decay": 5e-4,
        "patience": 30,
        "validate_every": 2,
    }
    return ForwardGNN(**values | {"temperature": 1.0, "edge_direction": "bidirection"} | changed)


def built(method: ForwardGNN, task, run) -> ForwardGNN:
    torch.manual_seed(0)
    method.build(task, run)
    return method


def trained(method: ForwardGNN, task, run) -> ForwardGNN:
    built(method, task, run).fit(task, run)
    return method


def dense_loss(method: ForwardGNN, task, depth: int, detach: bool) -> torch.Tensor:
    """Loss of layer ``depth``, everything dense and nothing cached; inputs detached or one end-to-end graph."""
    graph = augmented_graph(task, method.edge_direction)
    h = torch.cat([task.x, method.model.virtual_features])
    for block in method.model.layers[:depth]:
        h = block(unit_rows(h.detach() if detach else h), graph).relu()
    logits = h[task.train] @ h[task.num_nodes :].T / method.temperature
    return functional.cross_entropy(logits, task.y[task.train])


# The augmented graph


@pytest.mark.parametrize(("direction", "edges_a_node"), [("bidirection", 2), ("unidirection", 1)])
def test_augmented_graph(direction: str, edges_a_node: int, sparse_task) -> None:
    task = sparse_task
    graph = augmented_graph(task, direction)
    source, target = graph.edge_index
    assert graph.num_nodes == 60 + 4
    assert graph.edge_index.shape[1] == task.edge_index.shape[1] + edges_a_node * len(task.train)
    virtual = (source >= 60) | (target >= 60)
    real_end, class_end = torch.minimum(source, target)[virtual], torch.maximum(source, target)[virtual]
    assert set(real_end.tolist()) == set(task.train.tolist())
    assert torch.equal(task.y[real_end], class_end - 60)
    if direction == "unidirection":
        assert (source < 60).all()


def test_only_training_labels_make_edges(sparse_task) -> None:
    other = sparse_task.y.clone()
    other[sparse_task.val] = 0
    other[sparse_task.test] = 1
    changed = dataclasses.replace(sparse_task, y=other)
    assert torch.equal(
        augmented_graph(sparse_task, "bidirection").edge_index, augmented_graph(changed, "bidirection").edge_index
    )


def test_virtual_features_stay_as_drawn_and_are_no_parameters(sparse_task, make_run) -> None:
    run = make_run(backbone("gcn"))
    method = built(forwardgnn(epochs=6), sparse_task, run)
    drawn = method.model.virtual_features.clone()
    method.fit(sparse_task, run)
    assert drawn.shape == (4, 24)
    assert torch.equal(method.model.virtual_features, drawn)
    assert "virtual_features" not in dict(method.model.named_parameters())


# norm(h)


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 8), columns=st.integers(1, 8), scale=st.floats(1e-2, 1e2), seed=st.integers(0, 99))
def test_rows_have_unit_norm_whatever_their_scale(rows: int, columns: int, scale: float, seed: int) -> None:
    h = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    h[0] = 0.0
    out = unit_rows(h)
    torch.testing.assert_close(out[1:].norm(dim=1), torch.ones(rows - 1, dtype=torch.float64), atol=1e-5, rtol=0)
    assert (out[0] == 0).all()
    torch.testing.assert_close(unit_rows(scale * h), out, atol=1e-4, rtol=0)
    sparse = unit_rows(SparseMatrix.from_dense(h)) @ torch.eye(columns, dtype=torch.float64)
    torch.testing.assert_close(sparse, out)


@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
def test_layers_do_not_see_the_scale_of_their_input(name: str, double, sparse_task) -> None:
    torch.manual_seed(0)
    block, graph = backbone(name).block(24, 16), Graph(sparse_task.edge_index, 60, torch.float64)
    out = [FixedInputLayer(block, unit_rows(scale * sparse_task.x), graph)() for scale in (1.0, 7.5)]
    torch.testing.assert_close(*out)


# Nothing is computed twice, and nothing changes by it


@pytest.mark.parametrize("direction", ["bidirection", "unidirection"])
@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
def test_selected_rows_have_the_same_values_and_gradients(name: str, direction: str, double, any_task) -> None:
    """The layer on selected rows of a cached aggregate against the whole block on dense features."""
    torch.manual_seed(0)
    task, graph = any_task, augmented_graph(any_task, direction)
    virtual = torch.randn(4, 24)
    block = backbone(name).block(24, 16)
    rows = with_virtual(task.train, task)
    for x in (stack(unit_rows(compact(task.x)), unit_rows(virtual)), torch.rand(64, 24)):
        whole = unit_rows(torch.cat([task.x, virtual])) if not isinstance(x, torch.Tensor) else x
        results = []
        for z in (FixedInputLayer(block, x, graph).at(rows)(), block(whole, graph).relu()[rows]):
            z[:-4].mul(z[-4:].sum(0)).sum().backward()
            results.append([z.detach(), *(parameter.grad.clone() for parameter in block.parameters())])
            block.zero_grad()
        torch.testing.assert_close(*results)


def test_training_steps_equal_an_uncached_pyg_loop(double, any_task, make_run) -> None:
    """GCNConv on dense features and the augmented edge_index, Adam unfused: the same weights after each step."""
    task, steps = any_task, 10
    run = make_run(backbone("gcn", num_layers=3))
    method = built(forwardgnn(epochs=steps, patience=100), task, run)
    convs = []
    for block in method.model.layers:
        conv = GCNConv(*block.weight.shape)
        with torch.no_grad():
            conv.lin.weight.copy_(block.weight.T)
        convs.append(conv)
    method.fit(task, run)
    edges = augmented_graph(task, "bidirection").edge_index
    h = torch.cat([task.x, method.model.virtual_features])
    for number, conv in enumerate(convs, start=1):
        x = h / (h.norm(dim=1, keepdim=True) + 1e-8)
        optimizer = torch.optim.Adam(conv.parameters(), lr=0.02, weight_decay=5e-4)
        for step in range(steps):
            optimizer.zero_grad()
            z = conv(x, edges).relu()
            functional.cross_entropy(z[task.train] @ z[60:].T, task.y[task.train]).backward()
            optimizer.step()
            state = run.history[f"layer{number}"][step]
            torch.testing.assert_close(state["weight"], conv.lin.weight.T.detach(), atol=1e-8, rtol=0)
            torch.testing.assert_close(state["bias"], conv.bias.detach(), atol=1e-8, rtol=0)
        with torch.no_grad():  # the best state of the validation, as the method restored it
            conv.lin.weight.copy_(method.model.layers[number - 1].weight.T)
            conv.bias.copy_(method.model.layers[number - 1].bias)
            h = conv(x, edges).relu()


# Locality


def test_only_the_layer_in_training_has_gradients(sparse_task, make_run) -> None:
    method = forwardgnn(epochs=6)
    seen = []

    def check(name: str, _: int) -> None:
        with_gradient = {
            f"layer{number}"
            for number, layer in enumerate(method.model.layers, start=1)
            for parameter in layer.parameters()
            if parameter.grad is not None
        }
        seen.append(with_gradient == {name})

    trained(method, sparse_task, make_run(backbone("gcn", num_layers=3), after_epoch=check))
    assert seen == [True] * 18


def test_layers_below_stay_frozen_and_layers_above_as_initialised(sparse_task, make_run) -> None:
    method = forwardgnn(epochs=6)
    states = {}

    def keep(name: str, epoch: int) -> None:
        states[name, epoch] = {key: value.clone() for key, value in method.model.state_dict().items()}

    trained(method, sparse_task, make_run(backbone("gcn", num_layers=3), after_epoch=keep))
    for key in ("layers.0.weight", "layers.2.weight"):
        assert torch.equal(states["layer2", 1][key], states["layer2", 6][key])
    assert not torch.equal(states["layer2", 1]["layers.1.weight"], states["layer2", 6]["layers.1.weight"])


def test_layer_losses_are_the_end_to_end_ones_cut_at_the_layer(double, sparse_task, make_run) -> None:
    method = built(forwardgnn(), sparse_task, make_run(backbone("gcn", num_layers=2)))
    first, second = method.model.layers

    def gradients(depth: int, detach: bool):
        method.model.zero_grad()
        dense_loss(method, sparse_task, depth, detach).backward()
        return first.weight.grad, second.weight.grad

    one_local, one_end_to_end = gradients(1, detach=True)[0], gradients(1, detach=False)[0]
    torch.testing.assert_close(one_local, one_end_to_end)
    two_local, two_end_to_end = gradients(2, detach=True), gradients(2, detach=False)
    assert two_local[0] is None
    assert two_end_to_end[0] is not None
    torch.testing.assert_close(two_local[1], two_end_to_end[1])


@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
def test_first_loss_is_that_of_the_formula(name: str, double, any_task, make_run) -> None:
    run = make_run(backbone(name, num_layers=1))
    method = built(forwardgnn(epochs=1, temperature=0.5), any_task, run)
    expected = dense_loss(method, any_task, 1, detach=True).item()
    method.fit(any_task, run)
    assert run.logged["loss"] == [pytest.approx(expected, rel=1e-9)]


# Prediction


def test_a_deep_run_holds_the_shallow_ones(sparse_task, make_run) -> None:
    metrics = {}
    for depth in (2, 4):
        run = make_run(backbone("gcn", num_layers=depth))
        metrics[depth] = trained(forwardgnn(epochs=10), sparse_task, run).evaluate(sparse_task, run)
    assert metrics[2]["test_acc"] == metrics[2]["test_acc/depth2"] == metrics[4]["test_acc/depth2"]
    assert metrics[2]["test_acc/depth1"] == metrics[4]["test_acc/depth1"]
    assert metrics[4]["val_acc"] == metrics[4]["val_acc/depth4"]


@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
def test_learns_and_restores_the_best_accumulated_validation(name: str, any_task, make_run) -> None:
    losses = []
    run = make_run(backbone(name, width=32), after_epoch=lambda name, epoch: losses.append((name, epoch)))
    method = trained(forwardgnn(), any_task, run)
    metrics = method.evaluate(any_task, run)
    last_layer = sum(1 for loop, epoch in losses if loop == "layer2" and epoch % 2 == 0)
    assert run.logged["loss"][-1] < run.logged["loss"][0]
    assert metrics["val_acc"] == max(run.logged["val_acc"][-last_layer:])
    assert metrics["test_acc"] > 0.5


def test_karate_club(karate, make_run) -> None:
    run = make_run(backbone("gcn"))
    assert trained(forwardgnn(), karate, run).evaluate(karate, run)["test_acc"] >= 0.8


def test_probabilities_of_the_layers_sum_to_their_number(sparse_task, make_run) -> None:
    run = make_run(backbone("gcn", num_layers=3))
    metrics = trained(forwardgnn(epochs=10), sparse_task, run).evaluate(sparse_task, run)
    saved = run.saved["predictions"]
    torch.testing.assert_close(3 * saved["probability"].sum(1), torch.full((len(sparse_task.test),), 3.0))
    hits = (saved["probability"].argmax(1) == sparse_task.y[saved["index"]]).double().mean()
    assert metrics["test_acc"] == pytest.approx(hits.item())


def test_permuted_classes_permute_predictions(double, sparse_task, make_run) -> None:
    order = torch.tensor([2, 0, 3, 1])  # class c becomes order[c]
    permuted = dataclasses.replace(sparse_task, y=order[sparse_task.y])
    probabilities = []
    for task in (sparse_task, permuted):
        run = make_run(backbone("gcn"))
        method = built(forwardgnn(epochs=10), task, run)
        if task is permuted:
            drawn = method.model.virtual_features.clone()
            method.model.virtual_features[order] = drawn
        method.fit(task, run)
        method.evaluate(task, run)
        probabilities.append(run.saved["predictions"]["probability"])
    torch.testing.assert_close(probabilities[1][:, order], probabilities[0])


def test_state_dict_is_all_that_evaluation_needs(sparse_task, make_run) -> None:
    run = make_run(backbone("sage"))
    method = trained(forwardgnn(epochs=10), sparse_task, run)
    again = forwardgnn(epochs=10)
    again.build(sparse_task, run)
    again.model.load_state_dict(method.model.state_dict())
    assert again.evaluate(sparse_task, run) == method.evaluate(sparse_task, run)


# Appended labels


def test_appended_labels_are_part_of_the_normalised_input(double, any_task, make_run) -> None:
    task = any_task
    labels = torch.full((64, 4), 1 / 4)
    labels[task.train] = functional.one_hot(task.y[task.train], 4).double()
    labels[60:] = torch.eye(4)
    for where, widths in (("none", [24, 16]), ("input", [28, 16]), ("all", [28, 20])):
        run = make_run(backbone("gcn"))
        method = built(forwardgnn(epochs=1, append_label=where), task, run)
        assert [block.weight.shape[0] for block in method.model.layers] == widths
        h = torch.cat([task.x, method.model.virtual_features])
        expected, graph = [], augmented_graph(task, "bidirection")
        before = {key: value.clone() for key, value in method.model.state_dict().items()}
        method.fit(task, run)
        trained_state = method.model.state_dict()
        for number, block in enumerate(method.model.layers):
            h = torch.cat([h, labels], dim=1) if block.weight.shape[0] in (28, 20) else h
            weights = [
                (state[f"layers.{number}.weight"], state[f"layers.{number}.bias"]) for state in (before, trained_state)
            ]
            z, h = ((graph.symmetric @ (unit_rows(h) @ weight) + bias).relu() for weight, bias in weights)
            expected.append(functional.cross_entropy(z[task.train] @ z[60:].T, task.y[task.train]).item())
        assert run.logged["loss"] == pytest.approx(expected, rel=1e-9)


# Memory


@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
def test_saved_activations_do_not_grow_with_depth(name: str, sparse_task, make_run) -> None:
    run = make_run(backbone(name, num_layers=4, width=64))
    trained(forwardgnn(epochs=4), sparse_task, run)
    bytes_of_layers = list(run.activation_bytes.values())
    assert len(bytes_of_layers) == 4
    assert max(bytes_of_layers) <= 1.05 * bytes_of_layers[0]
    assert run.fixed_bytes["layer2"] == run.fixed_bytes["layer4"] > 0
