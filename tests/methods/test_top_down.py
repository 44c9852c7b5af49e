"""The unit checks of ForwardGNN's top-down variants."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from runner.errors import BadInput
from runner.methods.graph.forwardgnn.labels import label_rows_with_virtual
from runner.methods.graph.forwardgnn.layer import unit_rows
from runner.methods.graph.forwardgnn.layer_states import LayerStates, input_widths, update_groups
from runner.methods.graph.forwardgnn.top_down import TopDown
from runner.methods.models.gat import GAT
from runner.methods.models.gcn import GCN
from runner.methods.models.sage import SAGE
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Beside, Remembered, Repeated, SparseMatrix, Stacked, aggregated
from tests.methods.conftest import AS_BUILT
from tests.methods.reference_forwardgnn import TopToInputReference, TopToLossReference, gcn_layers

VARIANTS = ["to_input", "to_loss"]


def backbone(name: str = "gcn", num_layers: int = 2, width: int = 16):
    heads = {"heads": 4} if name == "gat" else {}
    return {"gcn": GCN, "sage": SAGE, "gat": GAT}[name](
        hidden_channels=width, num_layers=num_layers, **heads, **AS_BUILT
    )


def method_of(variant: str, **changed) -> TopDown:
    values = {"variant": variant, "epochs": 60, "lr": 0.01, "weight_decay": 5e-4, "patience": 100, "validate_every": 2}
    values |= {"temperature": 1.0, "edge_direction": "bidirection", "alternating": True}
    return TopDown(**values | {"test_steps": 10, "first_test_step": 2, "clip_norm": 1.0} | changed)


def built(method: TopDown, task, run) -> TopDown:
    torch.manual_seed(0)
    method.build(task, run)
    return method


def trained(method: TopDown, task, run) -> TopDown:
    built(method, task, run).fit(task, run)
    return method


# Inputs and states


def test_layer_inputs_are_as_wide_as_both_neighbours(sparse_task, make_run) -> None:
    assert input_widths(24, 16, 3, 4) == [24 + 16, 16 + 16, 16 + 4]
    assert input_widths(24, 16, 1, 4) == [24 + 4]
    assert input_widths(24, 16, 2, 0) == [24 + 16, 16]
    method = built(method_of("to_input"), sparse_task, make_run(backbone(num_layers=3)))
    assert [layer.weight.shape[0] for layer in method.model.layers] == [40, 32, 20]
    method = built(method_of("to_loss"), sparse_task, make_run(backbone(num_layers=3)))
    assert [layer.weight.shape[0] for layer in method.model.layers] == [24, 16, 16]


def test_label_state(sparse_task) -> None:
    task, labels = sparse_task, label_rows_with_virtual(sparse_task)
    assert (labels[torch.cat([task.val, task.test])] == 1 / 4).all()
    assert torch.equal(labels[task.train].argmax(1), task.y[task.train])
    assert torch.equal(labels[60:], torch.eye(4))
    assert (labels[task.train].sum(1) == 1).all()
    torch.testing.assert_close(unit_rows(labels)[task.val], torch.full((len(task.val), 4), 4**-0.5))


def test_odd_layers_come_before_even_ones() -> None:
    assert [list(group) for group in update_groups(5, alternating=True)] == [[0, 2, 4], [1, 3]]
    assert [list(group) for group in update_groups(1, alternating=True)] == [[0]]
    assert [list(group) for group in update_groups(3, alternating=False)] == [[0, 1, 2]]


@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
@pytest.mark.parametrize("with_top", [True, False])
def test_layers_see_the_normalised_states_of_their_neighbours(name: str, with_top: bool, double, any_task) -> None:
    """Cached halves and shared aggregates, against the whole block on concatenated dense states."""
    torch.manual_seed(0)
    task = any_task
    top = unit_rows(torch.rand(60, 4)) if with_top else None
    graph = Graph(task.edge_index, 60, torch.float64)
    blocks = [backbone(name).block(width, 16) for width in input_widths(24, 16, 3, 4 if with_top else 0)]
    bottom = unit_rows(SparseMatrix.from_dense(task.x))
    states = LayerStates(blocks, 16, graph, bottom, top)
    with torch.no_grad():
        h, expected = [unit_rows(task.x)], []
        for layer, block in enumerate(blocks):  # the pass upwards, zeros from above
            above = torch.zeros(60, [16, 16, 4][layer]) if with_top or layer < 2 else torch.zeros(60, 0)
            h.append(unit_rows(block(torch.cat([h[-1], above], dim=1), graph).relu()))
        states.start()
        torch.testing.assert_close(states.state_dict()["states"], h[1:])
        ends = [h[0], *h[1:], top if with_top else torch.zeros(60, 0)]
        expected = [block(torch.cat([ends[k], ends[k + 2]], 1), graph).relu() for k, block in enumerate(blocks)]
        inference = states.for_inference()
        for _ in range(2):
            torch.testing.assert_close([states.output(layer) for layer in range(3)], expected)
            torch.testing.assert_close([inference.output(layer) for layer in range(3)], expected)
        inference.store({1: expected[1]})
        torch.testing.assert_close(states.output(0), expected[0])  # the other states are not touched
        changed = torch.cat([h[0], unit_rows(expected[1])], 1)
        torch.testing.assert_close(inference.output(0), blocks[0](changed, graph).relu())


def test_remembered_products_follow_the_weight() -> None:
    features, weight = torch.rand(5, 3), torch.rand(3, 2, requires_grad=True)
    remembered = Remembered(features)
    assert (remembered @ weight).requires_grad
    with torch.no_grad():
        first = remembered @ weight[:3]
        assert (remembered @ weight[:3]) is first
        weight += 1.0
        torch.testing.assert_close(remembered @ weight[:3], features @ weight)


def test_parts_beside_and_repeated_equal_dense_ones(double) -> None:
    upper, lower, right = torch.rand(4, 5) * (torch.rand(4, 5) < 0.5), torch.rand(2, 5), torch.rand(12, 3)
    left = Repeated(Stacked((SparseMatrix.from_dense(upper), lower)), 2)
    whole = torch.cat([torch.cat([upper, lower]).repeat(2, 1), right], dim=1)
    beside, rows = Beside([left, right]), torch.tensor([0, 5, 2, 7, 11])
    operator = torch.rand(12, 12) * (torch.rand(12, 12) < 0.5)
    ours = aggregated(SparseMatrix.from_dense(operator), beside)
    assert beside.shape == (12, 8)
    assert ours.shape == (12, 8)
    for part, dense in ((beside, whole), (beside[rows], whole[rows]), (ours[rows], (operator @ whole)[rows])):
        weight = torch.rand(8, 4, requires_grad=True)
        out, expected = part @ weight, dense @ weight
        torch.testing.assert_close(out, expected)
        direction = torch.rand(out.shape)
        gradients = [torch.autograd.grad((z * direction).sum(), weight)[0] for z in (out, expected)]
        torch.testing.assert_close(*gradients)


# Whole training, against the direct one


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("alternating", [True, False])
def test_to_input_equals_a_direct_loop(alternating: bool, num_layers: int, double, any_task, make_run) -> None:
    run = make_run(backbone(num_layers=num_layers))
    method = built(method_of("to_input", alternating=alternating, epochs=8), any_task, run)
    convs, virtual = gcn_layers(method.model.layers), method.model.virtual_features
    compare(method, run, any_task, TopToInputReference(any_task, convs, virtual=virtual, alternating=alternating))


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_to_loss_equals_a_direct_loop(num_layers: int, double, any_task, make_run) -> None:
    run = make_run(backbone(num_layers=num_layers))
    # Not smaller: norm(norm(s)) is norm(s) but for the 1e-8 of rows that have nearly vanished.
    method = built(method_of("to_loss", epochs=8), any_task, run)
    convs, virtual = gcn_layers(method.model.layers), method.model.virtual_features
    compare(method, run, any_task, TopToLossReference(any_task, convs, virtual=virtual))


def compare(method: TopDown, run, task, reference) -> None:
    """Losses, weights after each time step, validation scores and final probabilities."""
    method.fit(task, run)
    method.evaluate(task, run)
    for number, state in enumerate(run.history["train"], start=1):
        assert run.logged["loss"][number - 1] == pytest.approx(reference.epoch(), rel=1e-6)
        for layer, conv in enumerate(reference.convs):
            expected = conv.lin.weight.T.detach()
            torch.testing.assert_close(state[f"layers.{layer}.weight"], expected, atol=1e-6, rtol=0)
        if number % 2 == 0:
            scores = reference.probabilities(task.val)
            hits = (scores.argmax(1) == task.y[task.val]).double().mean().item()
            assert run.logged["val_acc"][number // 2 - 1] == pytest.approx(hits)
    for block, conv in zip(method.model.layers, reference.convs, strict=True):  # the restored, best state
        with torch.no_grad():
            conv.lin.weight.copy_(block.weight.T)
            conv.bias.copy_(block.bias)
    torch.testing.assert_close(run.saved["predictions"]["probability"], reference.probabilities(task.test))


# Locality and honesty


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_loss_reaches_its_own_layer_only(variant: str, sparse_task, make_run) -> None:
    method = built(method_of(variant), sparse_task, make_run(backbone(num_layers=3)))
    layers = method._layers(sparse_task, make_run(backbone(num_layers=3)))
    layers.start()

    class Optimizer:
        """Looks at who has gradients when it is asked to step, and steps nowhere."""

        def __init__(self, layer: int) -> None:
            self.layer = layer

        def zero_grad(self) -> None:
            pass

        def step(self) -> None:
            having = [k for k, block in enumerate(method.model.layers) if block.weight.grad is not None]
            assert having == [self.layer]
            method.model.zero_grad()

    layers.step([Optimizer(layer) for layer in range(3)])
    assert not any(state.requires_grad for state in layers.state_dict()["states"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_label_of_validation_or_test_nodes_is_read(variant: str, sparse_task, make_run) -> None:
    task = sparse_task
    other = task.y.clone()
    hidden = torch.cat([task.val, task.test])
    other[hidden] = (other[hidden] + 1) % 4
    results = []
    for changed in (task, dataclasses.replace(task, y=other)):
        run = make_run(backbone())
        method = built(method_of(variant, epochs=5, validate_every=5), changed, run)
        method.fit(changed, run)
        method.evaluate(changed, run)
        results.append((run.logged["loss"], run.saved["predictions"]["probability"]))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_learns_and_restores_the_best_validation(variant: str, name: str, sparse_task, make_run) -> None:
    run = make_run(backbone(name, width=32))
    metrics = trained(method_of(variant), sparse_task, run).evaluate(sparse_task, run)
    assert run.logged["loss"][-1] < run.logged["loss"][0]
    assert metrics["val_acc"] == max(run.logged["val_acc"])
    assert metrics["test_acc"] > 0.4
    total = run.saved["predictions"]["probability"].sum(1)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dict_is_all_that_evaluation_needs(variant: str, sparse_task, make_run) -> None:
    run = make_run(backbone("sage"))
    method = trained(method_of(variant, epochs=4), sparse_task, run)
    again = method_of(variant, epochs=4)
    again.build(sparse_task, run)
    again.model.load_state_dict(method.model.state_dict())
    assert again.evaluate(sparse_task, run) == method.evaluate(sparse_task, run)


@pytest.mark.parametrize("variant", VARIANTS)
def test_states_can_be_put_back(variant: str, sparse_task, make_run) -> None:
    """What a killed run needs: training goes on from the same states."""
    run = make_run(backbone(num_layers=3))
    method = trained(method_of(variant, epochs=4), sparse_task, run)
    kept = run.tracked["states"].state_dict()
    other = method._layers(sparse_task, run)
    other.load_state_dict(kept)
    optimizers = [torch.optim.SGD(block.parameters(), lr=0.0) for block in method.model.layers]
    assert other.step(optimizers) == run.tracked["states"].step(optimizers)


def test_inference_needs_a_step_that_counts() -> None:
    with pytest.raises(BadInput, match="first_test_step=10"):
        method_of("to_input", first_test_step=10)
