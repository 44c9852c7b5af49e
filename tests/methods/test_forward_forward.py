"""The unit checks of ForwardGNN's forward-forward (FF-LA, FF-VN, FF-SymBa)."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.methods.graph.forwardgnn.forward_forward import ForwardForward, wrong_labels
from runner.methods.graph.forwardgnn.layer import FixedInputLayer, unit_rows
from runner.methods.models.gat import GAT
from runner.methods.models.gcn import GCN
from runner.methods.models.sage import SAGE
from runner.methods.ops.graph import Graph
from tests.methods.conftest import AS_BUILT
from tests.methods.reference_forwardgnn import ForwardForwardReference, gcn_layers

VARIANTS = ["la", "vn"]
OBJECTIVES = ["bce", "symba"]


def backbone(name: str = "gcn", num_layers: int = 2, width: int = 16):
    heads = {"heads": 4} if name == "gat" else {}
    return {"gcn": GCN, "sage": SAGE, "gat": GAT}[name](
        hidden_channels=width, num_layers=num_layers, **heads, **AS_BUILT
    )


def method_of(variant: str, **changed) -> ForwardForward:
    values = {"variant": variant, "objective": "bce", "epochs": 60, "lr": 0.01, "weight_decay": 5e-4, "patience": 100}
    values |= {"validate_every": 2, "theta": 2.0, "alpha": 4.0, "edge_direction": "bidirection"}
    return ForwardForward(**values | changed)


def run_of(make_run, *arguments, **keywords):
    run = make_run(*arguments, **keywords)
    run.generator = torch.Generator().manual_seed(0)
    return run


def built(method: ForwardForward, task, run) -> ForwardForward:
    torch.manual_seed(0)
    method.build(task, run)
    return method


def reference_of(method: ForwardForward, task, **keywords) -> ForwardForwardReference:
    wrong = wrong_labels(task.y[task.train], task.num_classes, torch.Generator().manual_seed(0))
    labels = torch.cat([task.y[task.train].unsqueeze(0), wrong])
    keywords = {"variant": method.variant, "objective": method.objective, "lr": method.lr} | keywords
    virtual = method.model.virtual_features
    return ForwardForwardReference(task, gcn_layers(method.model.layers), labels, virtual=virtual, **keywords)


# The loss


def test_loss_of_zero_outputs() -> None:
    zeros = torch.zeros(4, 5, dtype=torch.float64)
    positive, negative = math.log1p(math.exp(2.0)), math.log1p(math.exp(-2.0))
    assert method_of("la").loss(zeros).item() == pytest.approx(positive + negative, rel=1e-12)
    far = torch.full((1, 5), -1e4, dtype=torch.float64)  # its own term vanishes
    assert method_of("la").loss(torch.cat([zeros[:1], far])).item() == pytest.approx(positive, rel=1e-12)
    assert method_of("la").loss(torch.cat([-far, zeros[1:]])).item() == pytest.approx(negative, rel=1e-12)
    assert method_of("la", objective="symba").loss(zeros).item() == pytest.approx(math.log(2.0))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_step_raises_positive_and_lowers_negative_goodness(objective: str) -> None:
    z = torch.rand(3, 5, 8, requires_grad=True)
    method_of("la", objective=objective).loss(z.square().sum(2)).backward()
    change = (z - 0.01 * z.grad).square().sum(2) - z.square().sum(2)
    assert (change[0] > 0).all()
    assert (change[1:] < 0).all()


# The negatives


@settings(max_examples=50, deadline=None)
@given(classes=st.integers(2, 9), nodes=st.integers(1, 30), seed=st.integers(0, 999))
def test_wrong_labels_are_each_wrong_class_once(classes: int, nodes: int, seed: int) -> None:
    y = torch.randint(classes, (nodes,), generator=torch.Generator().manual_seed(seed))
    wrong = wrong_labels(y, classes, torch.Generator().manual_seed(seed))
    assert wrong.shape == (classes - 1, nodes)
    every = torch.cat([y.unsqueeze(0), wrong]).sort(0).values
    assert torch.equal(every, torch.arange(classes).unsqueeze(1).expand(-1, nodes))


def test_wrong_labels_come_in_every_order() -> None:
    wrong = wrong_labels(torch.zeros(6000, dtype=torch.int64), 4, torch.Generator().manual_seed(0))
    _, counts = wrong.unique(dim=1, return_counts=True)
    assert len(counts) == 6
    assert counts.min() > 850


def test_virtual_edges_of_the_passes(sparse_task) -> None:
    """Each pass has its own edges; none leaves its copy, and none joins a virtual and an unlabelled node."""
    task, method = sparse_task, method_of("vn")
    method.model = torch.nn.Module()
    method.model.virtual_features = torch.randn(4, 24)
    passes = method._passes_of_classes(task, [task.train], task.val)
    source, target = passes.graph.edge_index
    assert passes.graph.num_nodes == 4 * 64
    assert torch.equal(source // 64, target // 64)
    per_copy = task.edge_index.shape[1] + 2 * (len(task.train) + len(task.val))
    assert source.numel() == 4 * per_copy
    to_virtual = target % 64 >= 60
    node, label = source[to_virtual] % 64, target[to_virtual] % 64 - 60
    assert not set(node.tolist()) & set(task.test.tolist())
    in_val = torch.isin(node, task.val)
    assert torch.equal(label[in_val], source[to_virtual][in_val] // 64)
    assert torch.equal(label[~in_val], task.y[node[~in_val]])


# All passes at once are the passes one by one


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_training_and_prediction_equal_a_direct_loop(variant, objective, double, any_task, make_run) -> None:
    """Losses, weights after each step and scores at each depth, against PyTorch Geometric, pass by pass."""
    task, steps = any_task, 8
    run = run_of(make_run, backbone(num_layers=3))
    method = built(method_of(variant, objective=objective, epochs=steps), task, run)
    reference = reference_of(method, task)
    method.fit(task, run)
    method.evaluate(task, run)
    losses = []
    for layer, conv in enumerate(reference.convs):
        for step in range(steps):
            losses.append(reference.epoch(layer))
            state = run.history[f"layer{layer + 1}"][step]
            torch.testing.assert_close(state["weight"], conv.lin.weight.T.detach(), atol=1e-8, rtol=0)
            torch.testing.assert_close(state["bias"], conv.bias.detach(), atol=1e-8, rtol=0)
        with torch.no_grad():  # the best state of the validation, as the method restored it
            conv.lin.weight.copy_(method.model.layers[layer].weight.T)
            conv.bias.copy_(method.model.layers[layer].bias)
        reference.freeze(layer)
    assert run.logged["loss"] == pytest.approx(losses, rel=1e-8)
    known = torch.cat([task.train, task.val])
    torch.testing.assert_close(run.saved["predictions"]["score"], reference.scores(known, task.test, 3))


@pytest.mark.parametrize("name", ["sage", "gat"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_passes_of_other_convolutions_equal_single_ones(variant: str, name: str, double, any_task, make_run) -> None:
    """Loss and gradients of two layers on all passes against the whole block on each pass alone."""
    task, run = any_task, run_of(make_run, backbone(name))
    method = built(method_of(variant), task, run)
    wrong = wrong_labels(task.y[task.train], 4, torch.Generator().manual_seed(0))
    labels = torch.cat([task.y[task.train].unsqueeze(0), wrong])
    passes = method._passes(task, [], task.train, labels)
    alone = reference_of_inputs(method, task, labels)
    for block in method.model.layers:
        layer = FixedInputLayer(block, passes.x, passes.graph)
        results = []
        single = [block(unit_rows(h), graph).relu() for h, graph in alone]
        both = (passes.goodness(layer.at(passes.rows)()), torch.stack([z.square().sum(1)[task.train] for z in single]))
        for goodness in both:
            loss = method.loss(goodness)
            loss.backward()
            results.append([loss.detach(), *(parameter.grad.clone() for parameter in block.parameters())])
            block.zero_grad()
        torch.testing.assert_close(*results)
        with torch.no_grad():
            passes = passes.onward(method._next_training_input(layer, passes))
        shared = variant == "vn"
        alone = [((single[0] if shared else z).detach(), graph) for z, (_, graph) in zip(single, alone, strict=True)]


def reference_of_inputs(method: ForwardForward, task, labels: torch.Tensor) -> list[tuple[torch.Tensor, Graph]]:
    reference = ForwardForwardReference(task, [], labels, variant=method.variant, virtual=method.model.virtual_features)
    return [(h, Graph(edges, h.shape[0], h.dtype)) for h, edges in reference.passes]


# Locality, labels, prediction


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_the_layer_in_training_has_gradients(variant: str, sparse_task, make_run) -> None:
    method, seen = method_of(variant, epochs=4), []

    def check(name: str, _: int) -> None:
        grads = {
            f"layer{number}"
            for number, layer in enumerate(method.model.layers, start=1)
            for parameter in layer.parameters()
            if parameter.grad is not None
        }
        seen.append(grads == {name})

    run = run_of(make_run, backbone(num_layers=3), after_epoch=check)
    built(method, sparse_task, run).fit(sparse_task, run)
    assert seen == [True] * 12


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_and_prediction_read_no_label_that_they_may_not(variant: str, sparse_task, make_run) -> None:
    """Test labels change nothing, validation labels only the choice of epochs (here: none) and the test phase."""
    task = sparse_task
    other = task.y.clone()
    other[task.test] = (other[task.test] + 1) % 4
    results = []
    for changed in (task, dataclasses.replace(task, y=other)):
        run = run_of(make_run, backbone())
        method = built(method_of(variant, epochs=4), changed, run)
        method.fit(changed, run)
        method.evaluate(changed, run)
        results.append((method.model.state_dict(), run.logged, run.saved["predictions"]["score"]))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_learns_and_a_deep_run_holds_the_shallow_ones(variant: str, name: str, sparse_task, make_run) -> None:
    metrics = {}
    for depth in (1, 2):
        run = run_of(make_run, backbone(name, num_layers=depth, width=32))
        method = built(method_of(variant, epochs=120, weight_decay=0.0), sparse_task, run)
        method.fit(sparse_task, run)
        metrics[depth] = method.evaluate(sparse_task, run)
    last_loop = run.logged["val_acc"][60:]
    assert metrics[2]["val_acc"] == metrics[2]["val_acc/depth2"] == max(last_loop)
    assert metrics[1]["test_acc"] == metrics[1]["test_acc/depth1"] == metrics[2]["test_acc/depth1"]
    assert max(metrics[2].values()) > 0.5


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dict_is_all_that_evaluation_needs(variant: str, sparse_task, make_run) -> None:
    run = run_of(make_run, backbone("sage"))
    method = built(method_of(variant, epochs=4), sparse_task, run)
    method.fit(sparse_task, run)
    again = method_of(variant, epochs=4)
    again.build(sparse_task, run)
    again.model.load_state_dict(method.model.state_dict())
    assert again.evaluate(sparse_task, run) == method.evaluate(sparse_task, run)
