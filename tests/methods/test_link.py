"""Link prediction: ForwardGNN's layer-wise methods, and back-propagation beside them."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch.nn import functional
from torch_geometric.nn import GATConv, GCNConv

from runner.errors import BadInput
from runner.methods.graph.backprop_link import BackpropLink
from runner.methods.graph.forwardgnn.layer import unit_rows
from runner.methods.graph.forwardgnn.link import ForwardGNNLink
from runner.methods.models.gat import GAT
from runner.methods.models.gcn import GCN
from runner.methods.models.sage import SAGE
from runner.methods.ops.graph import Graph
from runner.methods.ops.link_scores import inner_products, pair_products, roc_auc
from tests.methods.conftest import AS_BUILT

OBJECTIVES = ["ce", "ff", "symba"]


def backbone(name: str, num_layers: int = 2, width: int = 16):
    heads = {"heads": 4} if name == "gat" else {}
    return {"gcn": GCN, "sage": SAGE, "gat": GAT}[name](
        hidden_channels=width, num_layers=num_layers, **heads, **AS_BUILT
    )


def link(**changed) -> ForwardGNNLink:
    values = {"objective": "ce", "theta": 2.0, "alpha": 4.0, "epochs": 60, "lr": 0.02, "weight_decay": 5e-4}
    return ForwardGNNLink(**values | {"patience": 30, "validate_every": 2} | changed)


def backprop(**changed) -> BackpropLink:
    values = {"epochs": 60, "lr": 0.02, "weight_decay": 5e-4, "patience": 30, "validate_every": 2}
    return BackpropLink(**values | changed)


def trained(method, task, run):
    torch.manual_seed(0)
    method.build(task, run)
    method.fit(task, run)
    return method


def loss_by_hand(objective: str, h: torch.Tensor, task) -> torch.Tensor:
    """The card's formulas, pair by pair."""
    positive, negative = ((h[i] * h[j]) for i, j in (task.train_pos, task.train_neg))
    if objective == "ce":
        scores = torch.cat([positive.sum(1), negative.sum(1)]).sigmoid()
        return functional.binary_cross_entropy(scores, task.labels("train"))
    good, bad = positive.square().sum(1), negative.square().sum(1)
    if objective == "ff":
        return -(good - 2.0).sigmoid().log().mean() - (1 - (bad - 2.0).sigmoid()).log().mean()
    return (1 + (-4.0 * (good - bad)).exp()).log().mean()


# Pairs and the area under the curve


def test_scores_are_symmetric(double) -> None:
    h, pairs = torch.randn(9, 4), torch.randint(0, 9, (2, 20))
    assert torch.equal(pair_products(h, pairs), pair_products(h, pairs.flip(0)))
    torch.testing.assert_close(inner_products(h, pairs), (h @ h.T)[pairs[0], pairs[1]])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auc_is_that_of_scikit_learn_ties_too(drawn: list[tuple[int, bool]]) -> None:
    scores = torch.tensor([score for score, _ in drawn], dtype=torch.float64)
    labels = torch.tensor([label for _, label in drawn]).long()
    if labels.unique().numel() == 2:
        assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), layers=st.integers(1, 4), constant=st.floats(0, 1))
def test_auc_does_not_see_constants_in_the_mean(seed: int, layers: int, constant: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 64, (50,), generator=draw).double() / 64
    labels = torch.arange(50) % 2
    assert roc_auc((scores + layers * constant) / (layers + 1), labels) == roc_auc(scores, labels)


# Objectives and training steps


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
def test_first_loss_is_that_of_the_formula(name: str, objective: str, double, link_task, make_run) -> None:
    run = make_run(backbone(name, num_layers=1))
    method = link(epochs=1, objective=objective)
    torch.manual_seed(0)
    method.build(link_task, run)
    block, graph = method.model.layers[0], Graph(link_task.train_edge_index, 60, torch.float64)
    with torch.no_grad():
        expected = loss_by_hand(objective, block(unit_rows(link_task.x), graph).relu(), link_task).item()
    method.fit(link_task, run)
    assert run.logged["loss"] == [pytest.approx(expected, rel=1e-9)]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_steps_equal_an_uncached_pyg_loop(objective: str, double, link_task, make_run) -> None:
    """GCNConv on dense features and all nodes, Adam unfused: the same weights after each step, in each layer."""
    task, steps = link_task, 6
    run = make_run(backbone("gcn"))
    method = link(epochs=steps, patience=100, objective=objective)
    torch.manual_seed(0)
    method.build(task, run)
    convs = [GCNConv(*block.weight.shape) for block in method.model.layers]
    with torch.no_grad():
        for conv, block in zip(convs, method.model.layers, strict=True):
            conv.lin.weight.copy_(block.weight.T)
    method.fit(task, run)
    h = task.x
    for number, conv in enumerate(convs, start=1):
        x = h / (h.norm(dim=1, keepdim=True) + 1e-8)
        optimizer = torch.optim.Adam(conv.parameters(), lr=0.02, weight_decay=5e-4)
        for step in range(steps):
            optimizer.zero_grad()
            loss_by_hand(objective, conv(x, task.train_edge_index).relu(), task).backward()
            optimizer.step()
            state = run.history[f"layer{number}"][step]
            torch.testing.assert_close(state["weight"], conv.lin.weight.T.detach(), atol=1e-8, rtol=0)
            torch.testing.assert_close(state["bias"], conv.bias.detach(), atol=1e-8, rtol=0)
        with torch.no_grad():  # the best state of the validation, as the method restored it
            conv.lin.weight.copy_(method.model.layers[number - 1].weight.T)
            conv.bias.copy_(method.model.layers[number - 1].bias)
            h = conv(x, task.train_edge_index).relu()


def test_only_the_layer_in_training_has_gradients(link_task, make_run) -> None:
    method = link(epochs=6)
    seen = []

    def check(name: str, _: int) -> None:
        with_gradient = {
            f"layer{number}"
            for number, layer in enumerate(method.model.layers, start=1)
            for parameter in layer.parameters()
            if parameter.grad is not None
        }
        seen.append(with_gradient == {name})

    trained(method, link_task, make_run(backbone("gcn", num_layers=3), after_epoch=check))
    assert seen == [True] * 18


def test_symba_needs_couples(link_task, make_run) -> None:
    odd = dataclasses.replace(link_task, train_neg=link_task.train_neg[:, 1:])
    with pytest.raises(BadInput, match="symba couples pairs"):
        link(objective="symba").build(odd, make_run(backbone("gcn")))
    link(objective="ff").build(odd, make_run(backbone("gcn")))


# Scores


def test_cross_entropy_has_a_floor(link_task, make_run) -> None:
    """Outputs of a ReLU have no negative inner product: no score below 1/2, no loss below log(2)/2."""
    run = make_run(backbone("gcn", num_layers=3))
    trained(link(), link_task, run).evaluate(link_task, run)
    assert run.saved["predictions"]["score"].min() >= 0.5
    assert min(run.logged["loss"]) >= math.log(2) / 2


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_score_is_the_mean_of_the_layers_on_each_splits_own_edges(objective: str, double, link_task, make_run) -> None:
    task, run = link_task, make_run(backbone("sage", num_layers=3))
    method = trained(link(epochs=10, objective=objective), task, run)
    metrics = method.evaluate(task, run)
    for split, edges in (("val", task.train_edge_index), ("test", task.test_edge_index)):
        h, scores = task.x, []
        graph = Graph(edges, 60, torch.float64)
        i, j = task.pairs(split)
        for block in method.model.layers:
            h = block(unit_rows(h), graph).relu()
            e = h[i] * h[j]
            scores.append((e.sum(1) if objective == "ce" else e.square().sum(1) - 2.0).sigmoid())
            mean = torch.stack(scores).mean(0).detach()
            assert metrics[f"{split}_auc/depth{len(scores)}"] == pytest.approx(roc_auc(mean, task.labels(split)))
    torch.testing.assert_close(run.saved["predictions"]["score"], mean)
    assert torch.equal(run.saved["predictions"]["pairs"], task.pairs("test"))


def test_a_deep_run_holds_the_shallow_ones(link_task, make_run) -> None:
    metrics = {}
    for depth in (2, 4):
        run = make_run(backbone("gcn", num_layers=depth))
        metrics[depth] = trained(link(epochs=10), link_task, run).evaluate(link_task, run)
    assert metrics[2]["test_auc"] == metrics[2]["test_auc/depth2"] == metrics[4]["test_auc/depth2"]
    assert metrics[2]["test_auc/depth1"] == metrics[4]["test_auc/depth1"]
    assert metrics[4]["val_auc"] == metrics[4]["val_auc/depth4"]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
def test_learns_and_restores_the_best_accumulated_validation(name: str, objective: str, link_task, make_run) -> None:
    epochs = []
    run = make_run(backbone(name, width=32), after_epoch=lambda name, epoch: epochs.append((name, epoch)))
    metrics = trained(link(objective=objective, epochs=30), link_task, run).evaluate(link_task, run)
    last_layer = sum(1 for loop, epoch in epochs if loop == "layer2" and epoch % 2 == 0)
    first = sum(1 for loop, _ in epochs if loop == "layer1")
    assert run.logged["loss"][first - 1] < run.logged["loss"][0]
    assert metrics["val_auc"] == pytest.approx(max(run.logged["val_auc"][-last_layer:]), abs=2e-3)  # float32 rounding
    assert metrics["val_auc"] > 0.5


@pytest.mark.parametrize("make", [link, backprop])
def test_state_dict_is_all_that_evaluation_needs(make, link_task, make_run) -> None:
    run = make_run(backbone("gat"))
    method = trained(make(epochs=10), link_task, run)
    again = make(epochs=10)
    again.build(link_task, run)
    again.model.load_state_dict(method.model.state_dict())
    assert again.evaluate(link_task, run) == method.evaluate(link_task, run)


def test_hidden_edges_carry_no_message_in_training(link_task, make_run) -> None:
    """Whatever the test's edges and pairs are, training is the same."""
    other = dataclasses.replace(
        link_task,
        test_edge_index=link_task.test_edge_index[:, :8],
        test_pos=link_task.test_pos[:, :2],
        test_neg=link_task.test_neg[:, :2],
    )
    for make in (link, backprop):
        weights = [
            trained(make(epochs=6), task, make_run(backbone("gcn"))).model.state_dict() for task in (link_task, other)
        ]
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_saved_activations_do_not_grow_with_depth(link_task, make_run) -> None:
    run = make_run(backbone("gcn", num_layers=4, width=64))
    trained(link(epochs=4), link_task, run)
    bytes_of_layers = list(run.activation_bytes.values())
    assert len(bytes_of_layers) == 4
    assert max(bytes_of_layers) <= 1.05 * bytes_of_layers[0]


# Back-propagation


def test_backprop_steps_equal_a_plain_pyg_loop(double, link_task, make_run) -> None:
    task, run, steps = link_task, make_run(backbone("gcn")), 6
    method = backprop(epochs=steps, patience=100)
    torch.manual_seed(0)
    method.build(task, run)
    first, second = GCNConv(24, 16), GCNConv(16, 16)
    with torch.no_grad():
        for conv, block in zip((first, second), method.model.blocks, strict=True):
            conv.lin.weight.copy_(block.weight.T)
    optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=0.02, weight_decay=5e-4)
    method.fit(task, run)
    i, j = task.pairs("train")
    for step in range(steps):
        optimizer.zero_grad()
        h = second(first(task.x, task.train_edge_index).relu(), task.train_edge_index)
        functional.binary_cross_entropy_with_logits((h[i] * h[j]).sum(1), task.labels("train")).backward()
        optimizer.step()
        state = run.history["train"][step]
        torch.testing.assert_close(state["blocks.0.weight"], first.lin.weight.T.detach(), atol=1e-9, rtol=0)
        torch.testing.assert_close(state["blocks.1.weight"], second.lin.weight.T.detach(), atol=1e-9, rtol=0)


def test_gat_concatenates_its_heads_in_the_last_layer_too(link_task, make_run) -> None:
    method = backprop()
    method.build(link_task, make_run(backbone("gat")))
    theirs = GATConv(16, 4, heads=4)
    assert method.model.blocks[-1].weight.shape == theirs.lin.weight.T.shape
    assert not method.model.blocks[-1].average


@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
def test_backprop_learns_and_restores_the_best_validation(name: str, link_task, make_run) -> None:
    run = make_run(backbone(name))
    metrics = trained(backprop(), link_task, run).evaluate(link_task, run)
    assert run.logged["loss"][-1] < run.logged["loss"][0]
    assert metrics["val_auc"] == max(run.logged["val_auc"])
    saved = run.saved["predictions"]
    assert metrics["test_auc"] == pytest.approx(roc_auc(saved["score"], saved["label"]), abs=2e-3)
