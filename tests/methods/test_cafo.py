"""CaFo: blocks that stay as they are, and predictors that learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from runner.methods.graph.cafo import CaFo
from runner.methods.models.gat import GAT
from runner.methods.models.gcn import GCN
from runner.methods.models.mlp import MLP
from runner.methods.models.sage import SAGE
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import compact
from tests.methods.conftest import AS_BUILT


def backbone(name: str, num_layers: int = 2):
    heads = {"heads": 4} if name == "gat" else {}
    return {"gcn": GCN, "sage": SAGE, "gat": GAT, "mlp": MLP}[name](
        hidden_channels=16, num_layers=num_layers, **heads, **AS_BUILT
    )


def cafo(**changed) -> CaFo:
    return CaFo(**{"epochs": 60, "lr": 0.02, "weight_decay": 5e-4, "patience": 30, "validate_every": 2} | changed)


def trained(method: CaFo, task, run) -> CaFo:
    torch.manual_seed(0)
    method.build(task, run)
    method.fit(task, run)
    return method


@pytest.mark.parametrize("name", ["gcn", "sage", "gat", "mlp"])
def test_blocks_stay_as_drawn(name: str, sparse_task, make_run) -> None:
    run, method = make_run(backbone(name)), cafo(epochs=6)
    torch.manual_seed(0)
    method.build(sparse_task, run)
    drawn = {key: value.clone() for key, value in method.model.state_dict().items()}
    method.fit(sparse_task, run)
    trained_state = method.model.state_dict()
    for key, value in drawn.items():
        assert torch.equal(trained_state[key], value) == key.startswith("blocks"), key
    assert not any(parameter.requires_grad for parameter in method.model.blocks.parameters())
    assert all(parameter.grad is None for parameter in method.model.parameters())


def test_outputs_have_unit_mean_square_whatever_the_scale_of_a_block(double, any_task, make_run) -> None:
    method = cafo()
    method.build(any_task, make_run(backbone("gcn", num_layers=3)))
    x, graph = compact(any_task.x), Graph(any_task.edge_index, 60, torch.float64)
    before = list(method.model.outputs(x, graph))
    for h in before:
        square = h.square().mean(1)
        assert (torch.isclose(square, torch.ones_like(square)) | (square == 0)).all()
    for block in method.model.blocks:
        block.weight.mul_(37.0)
    torch.testing.assert_close(list(method.model.outputs(x, graph)), before)


def test_steps_equal_a_loop_by_hand(double, any_task, make_run) -> None:
    """Softmax regression on each block's dense output, Adam unfused: the same weights after each step."""
    task, run, steps = any_task, make_run(backbone("gcn")), 6
    method = cafo(epochs=steps, patience=100)
    torch.manual_seed(0)
    method.build(task, run)
    start = [{key: value.clone() for key, value in layer.state_dict().items()} for layer in method.model.predictors]
    method.fit(task, run)
    h, graph = task.x, Graph(task.edge_index, 60, torch.float64)
    for number, block in enumerate(method.model.blocks, start=1):
        z = (graph.symmetric @ h @ block.weight + block.bias).clamp(min=0)
        h = z / z.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)
        predictor = nn.Linear(16, task.num_classes)
        predictor.load_state_dict(start[number - 1])
        optimizer = torch.optim.Adam(predictor.parameters(), lr=0.02, weight_decay=5e-4)
        for step in range(steps):
            optimizer.zero_grad()
            functional.cross_entropy(predictor(h)[task.train], task.y[task.train]).backward()
            optimizer.step()
            for key, value in run.history[f"layer{number}"][step].items():
                torch.testing.assert_close(value, predictor.state_dict()[key], atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["gcn", "sage", "gat", "mlp"])
def test_learns_and_restores_the_best_accumulated_validation(name: str, any_task, make_run) -> None:
    epochs = []
    run = make_run(backbone(name), after_epoch=lambda name, epoch: epochs.append((name, epoch)))
    metrics = trained(cafo(), any_task, run).evaluate(any_task, run)
    last_layer = sum(1 for loop, epoch in epochs if loop == "layer2" and epoch % 2 == 0)
    first = sum(1 for loop, _ in epochs if loop == "layer1")
    assert run.logged["loss"][first - 1] < 0.8 * run.logged["loss"][0]
    assert metrics["val_acc"] == max(run.logged["val_acc"][-last_layer:])


def test_prediction_is_the_sum_and_a_deep_run_holds_the_shallow_ones(sparse_task, make_run) -> None:
    metrics = {}
    for depth in (2, 3):
        run = make_run(backbone("gcn", num_layers=depth))
        metrics[depth] = trained(cafo(epochs=10), sparse_task, run).evaluate(sparse_task, run)
    assert metrics[2]["test_acc"] == metrics[2]["test_acc/depth2"] == metrics[3]["test_acc/depth2"]
    assert metrics[3]["test_acc"] == metrics[3]["test_acc/depth3"]
    saved = run.saved["predictions"]
    torch.testing.assert_close(saved["probability"].sum(1), torch.ones(len(sparse_task.test)))
    hits = (saved["probability"].argmax(1) == saved["label"]).double().mean()
    assert metrics[3]["test_acc"] == pytest.approx(hits.item())


def test_state_dict_is_all_that_evaluation_needs(sparse_task, make_run) -> None:
    run = make_run(backbone("gat"))
    method = trained(cafo(epochs=10), sparse_task, run)
    again = cafo(epochs=10)
    again.build(sparse_task, run)
    again.model.load_state_dict(method.model.state_dict())
    assert again.evaluate(sparse_task, run) == method.evaluate(sparse_task, run)


def test_no_block_saves_activations(sparse_task, make_run) -> None:
    run = make_run(backbone("gcn", num_layers=4))
    trained(cafo(epochs=4), sparse_task, run)
    assert len(set(run.activation_bytes.values())) == 1
