"""Forward-forward on images: closed forms against autograd, prediction against label by label."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from runner import registry
from runner.compose import compose
from runner.methods.learning_rules.forward_forward import unit_mean_square
from tests.conftest import Result
from tests.methods.test_noprop import CLASSES, task_of

Cli = Callable[..., Result]


def built(*overrides: str) -> Any:
    line = ["method=forward_forward", "dataset=digits", "model.hidden=[9,8,7]", *overrides]
    config = compose(line).config
    method, backbone = registry.build(config["method"]), registry.build(config["model"])
    run = SimpleNamespace(
        backbone=backbone, block=lambda *widths: backbone.block(*widths).to(torch.get_default_dtype())
    )
    torch.manual_seed(0)
    method.build(task_of(), run)
    return method


@pytest.mark.parametrize("goodness", ["mean", "sum"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_updates_are_each_layers_own_gradient(goodness: str, activation: str, double: None) -> None:
    method, task = built(f"method.goodness={goodness}", f"model.activation={activation}"), task_of()
    x, y = task.train_x[:12], task.train_y[:12]
    torch.manual_seed(1)
    loss = method.set_gradients(x, y)
    torch.manual_seed(1)
    wrong = (y + torch.randint(1, CLASSES, y.shape)) % CLASSES
    assert not (wrong == y).any()
    states = [method.labelled(x, y), method.labelled(x, wrong)]
    total = torch.zeros(())
    for layer in method.model:
        inputs = [unit_mean_square(state.detach()) for state in states]
        states = [getattr(torch, activation)(layer(below)) for below in inputs]
        right, other = (state.square().mean(1) if goodness == "mean" else state.square().sum(1) for state in states)
        own = (functional.softplus(method.theta - right) + functional.softplus(other - method.theta)).mean()
        weight, bias = torch.autograd.grad(own, [layer.weight, layer.bias])
        torch.testing.assert_close(layer.weight.grad, weight)
        torch.testing.assert_close(layer.bias.grad, bias)
        total = total + own.detach()
    torch.testing.assert_close(loss, total)


@pytest.mark.parametrize("hidden", ["[9]", "[9,8]", "[9,8,7]"])
def test_prediction_is_the_goodness_with_each_label(hidden: str, double: None) -> None:
    method, task = built(f"model.hidden={hidden}"), task_of()
    found = method.predict(task.test_x)
    for label in range(CLASSES):
        a = method.labelled(task.test_x, torch.full_like(task.test_y, label))
        goodness = []
        for layer in method.model:
            a = method.activation.function(layer(unit_mean_square(a)))
            goodness.append(method.good(a))
        expected = torch.stack(goodness[1:] or goodness).sum(0)
        torch.testing.assert_close(found[:, label], expected)


def test_a_label_replaces_the_first_pixels() -> None:
    method, task = built(), task_of()
    written = method.labelled(task.test_x, task.test_y)
    assert torch.equal(written[:, :CLASSES], functional.one_hot(task.test_y, CLASSES).float())
    assert torch.equal(written[:, CLASSES:], task.test_x.flatten(1)[:, CLASSES:])


def test_a_layer_can_not_see_how_active_the_one_below_was() -> None:
    a = torch.rand(5, 9)
    torch.testing.assert_close(unit_mean_square(3 * a), unit_mean_square(a))
    assert torch.equal(unit_mean_square(torch.zeros(2, 9)), torch.zeros(2, 9))


def test_digits_are_learned(cli: Cli) -> None:
    line = ["method=forward_forward", "dataset=digits", "model.hidden=[200,200]", "method.batch_size=64"]
    result = cli(*line, "model.activation=relu", "progress=false")
    assert result.status == 0, result.err
    assert float(result.out.split("test_acc")[1].split()[0]) >= 85


@pytest.mark.parametrize("line", [["model=none"], ["model.hidden=[]"]])
def test_a_network_without_hidden_affine_layers_is_refused(line: list[str], cli: Cli) -> None:
    result = cli("method=forward_forward", "dataset=digits", "progress=false", *line)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "model=perceptron 'model.hidden=[500,500]'" in result.err
