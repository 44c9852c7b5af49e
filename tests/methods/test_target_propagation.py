"""FW-DTP and PEPITA on images against their formulas, written out image by image or by autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from runner.methods.learning_rules.pepita import PepitaImage
from runner.methods.learning_rules.target_propagation import FixedWeightTargetPropagation
from tests.methods.test_ccl import DIGITS, built, metrics, task_of

LINES = {"fw_dtp": FixedWeightTargetPropagation, "pepita_image": PepitaImage}


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu"])
def test_each_layer_moves_its_output_to_its_target(activation: str, double: None) -> None:
    method = built(["method=fw_dtp", "model.hidden=[9,8,7]", f"model.activation={activation}"])
    x, y = task_of().train_x, task_of().train_y
    method.set_gradients(x, y)
    outputs = method.model.trace(x, local=True)[1:]
    error = outputs[-1].detach().softmax(1) - functional.one_hot(y, 4)
    target = outputs[-1].detach() - method.stepsize * error
    for place in (3, 2, 1, 0):
        output, layer = outputs[place], method.model.layers[place]
        loss = (output - target).square().sum(1).mean()
        for ours, theirs in zip(
            (layer.weight, layer.bias), torch.autograd.grad(loss, (layer.weight, layer.bias)), strict=True
        ):
            torch.testing.assert_close(ours.grad, theirs)
        if place:
            down = method.feedback[place - 1]
            difference = torch.tanh(target @ down) - torch.tanh(output.detach() @ down)
            target = outputs[place - 1].detach() + difference


def test_a_step_of_0_leaves_every_target_where_the_output_is(double: None) -> None:
    method = built(["method=fw_dtp", "model.hidden=[9,8]"])
    method.stepsize = 0.0
    outputs = method.model.trace(task_of().train_x)[1:]
    for output, target in zip(outputs, method.targets(outputs, task_of().train_y), strict=True):
        assert torch.equal(output, target)


def test_small_steps_give_the_error_through_the_feedback_layers_slopes(double: None) -> None:
    """t_{L-1} - h_{L-1} tends to the derivative of g at h_L times the step: what feedback alignment would send."""
    method = built(["method=fw_dtp", "model.hidden=[9]"])
    method.stepsize = 1e-6
    y = task_of().train_y
    hidden, logits = (output.detach() for output in method.model.trace(task_of().train_x)[1:])
    lower, _ = method.targets([hidden, logits], y)
    error = logits.softmax(1) - functional.one_hot(y, 4)
    down = method.feedback[0]
    slope = 1 - torch.tanh(logits @ down).square()
    torch.testing.assert_close((lower - hidden) / method.stepsize, -(error @ down) * slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_pepita_is_its_formula_image_by_image(activation: str, double: None) -> None:
    method = built(["method=pepita_image", "model.hidden=[9,8]", f"model.activation={activation}"])
    x, y = task_of().train_x, task_of().train_y
    method.set_gradients(x, y)
    act: Any = getattr(torch, activation)
    expected = [torch.zeros_like(parameter) for parameter in method.model.parameters()]
    with torch.no_grad():
        for image, label in zip(x.flatten(1), y, strict=True):
            clean, modulated = [image], []
            for layer in method.model.layers:
                z = layer.weight @ clean[-1] + layer.bias
                clean.append(z if len(clean) == 3 else act(z))
            error = clean[-1].softmax(0) - functional.one_hot(label, 4)
            modulated.append(image + method.feedback @ error)
            for place, layer in enumerate(method.model.layers):
                delta = error
                if place < 2:
                    modulated.append(act(layer.weight @ modulated[-1] + layer.bias))
                    delta = clean[place + 1] - modulated[-1]
                expected[2 * place] += torch.outer(delta, modulated[place]) / len(y)
                expected[2 * place + 1] += delta / len(y)
    for parameter, update in zip(method.model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, update)


@pytest.mark.parametrize("name", LINES)
def test_nothing_is_saved_for_a_backward_pass(name: str) -> None:
    method = built([f"method={name}", "model.hidden=[9,8]"])
    assert isinstance(method, LINES[name])
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        method.set_gradients(task_of().train_x, task_of().train_y)
    assert not saved


@pytest.mark.parametrize(("name", "least"), [("fw_dtp", 0.9), ("pepita_image", 0.88)])
def test_digits_are_learned_through_the_command(name: str, least: float, cli: Any, tmp_path: Any) -> None:
    line = ["model.hidden=[64,64]", "method.epochs=20", "method.batch_size=64"]
    assert cli(f"method={name}", *DIGITS, *line).status == 0
    found = metrics(tmp_path)
    assert found["test_acc"] > least
    assert found["saved_activation_bytes"] == 0


@pytest.mark.parametrize("name", LINES)
def test_another_network_is_refused(name: str, cli: Any) -> None:
    result = cli(f"method={name}", *DIGITS, "model=cnn_pool")
    assert result.status == 2
    assert "model=perceptron" in result.err
