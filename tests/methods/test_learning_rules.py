"""Learning rules against what they must equal: back-propagation where feedback is exact, their formulas elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from runner.methods.learning_rules.backprop import Backprop
from runner.methods.learning_rules.feedback import DirectFeedbackAlignment, FeedbackAlignment, RandomTargetProjection
from runner.methods.learning_rules.rule import LearningRule
from runner.methods.models.activations import ACTIVATIONS
from runner.methods.models.perceptron import Perceptron

SHARED: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 8,
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "clip": None,
    "keep": "last",
}
CLASSES, PIXELS = 5, 12
FEEDBACK = [FeedbackAlignment, DirectFeedbackAlignment, RandomTargetProjection]


def built(kind: type[LearningRule], activation: str = "tanh", hidden: tuple[int, ...] = (7, 6)) -> LearningRule:
    torch.manual_seed(0)
    backbone = Perceptron(hidden=list(hidden), activation=activation, bias=True, init="uniform", init_std=0.1)
    own = {} if kind is Backprop else {"feedback_scale": 1.0}
    rule = kind(**SHARED, **own)
    task = SimpleNamespace(train_x=torch.zeros(2, 1, 3, 4), num_classes=CLASSES)
    run = SimpleNamespace(backbone=backbone, model=backbone.network, device=torch.device("cpu"))
    rule.build(task, run)  # type: ignore[arg-type]
    rule.model.double()
    if kind is not Backprop:
        rule.feedback = [matrix.double() for matrix in rule.feedback]  # type: ignore[attr-defined]
    return rule


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(9, 1, 3, 4, generator=generator).double(), torch.randint(CLASSES, (9,), generator=generator)


def gradients(rule: LearningRule) -> list[Tensor]:
    rule.model.zero_grad()
    rule.set_gradients(*batch())
    return [parameter.grad.clone() for parameter in rule.model.parameters() if parameter.grad is not None]


def by_autograd(rule: LearningRule) -> list[Tensor]:
    x, y = batch()
    return list(torch.autograd.grad(functional.cross_entropy(rule.model(x), y), list(rule.model.parameters())))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_derivatives_are_autograds(name: str) -> None:
    z = torch.linspace(-3, 3, 101, dtype=torch.float64, requires_grad=True)
    a = ACTIVATIONS[name].function(z)
    (slope,) = torch.autograd.grad(a.sum(), z)
    inner = (z.detach().abs() > 1e-9) & ((z.detach() - 1).abs() > 1e-9)
    assert torch.allclose(ACTIVATIONS[name].derivative(a.detach())[inner], slope[inner])


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_feedback_alignment_with_the_forward_weights_is_back_propagation(activation: str) -> None:
    rule = built(FeedbackAlignment, activation)
    rule.feedback = [layer.weight.detach() for layer in rule.model.layers[1:]]  # type: ignore[attr-defined,union-attr]
    for ours, theirs in zip(gradients(rule), by_autograd(rule), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_direct_feedback_with_the_exact_jacobian_product_is_back_propagation() -> None:
    """With one hidden layer the product is W_2; the slope of the hidden layer is the rule's own part."""
    rule = built(DirectFeedbackAlignment, hidden=(7,))
    rule.feedback = [rule.model.layers[1].weight.detach()]  # type: ignore[attr-defined,union-attr,index]
    for ours, theirs in zip(gradients(rule), by_autograd(rule), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_direct_feedback_with_one_images_jacobian_products_is_back_propagation() -> None:
    """Through two hidden layers, where the product of layer 1 is W_3 diag(f'(z_2)) W_2: each layer has its own."""
    rule = built(DirectFeedbackAlignment)
    x, y = (part[:1] for part in batch())
    _, _, second, _ = rule.model.trace(x)  # type: ignore[operator]
    _, middle, last = (layer.weight.detach() for layer in rule.model.layers)  # type: ignore[union-attr]
    slope = 1 - second.detach().square()
    rule.feedback = [(last * slope) @ middle, last]  # type: ignore[attr-defined]
    rule.set_gradients(x, y)
    ours = [parameter.grad for parameter in rule.model.parameters()]
    exact = torch.autograd.grad(functional.cross_entropy(rule.model(x), y), list(rule.model.parameters()))
    for one, other in zip(ours, exact, strict=True):
        assert one is not None
        assert torch.allclose(one, other, atol=1e-12)


def test_direct_random_target_projection_descends_minus_the_projection_of_the_target() -> None:
    """dW_l is the gradient of mean_i -(onehot(y_i) D_l) . h_l(i), h_{l-1} held fixed: sign and scale."""
    rule = built(RandomTargetProjection)
    x, y = batch()
    ours = gradients(rule)
    hidden = rule.model.trace(x, local=True)[1:-1]  # type: ignore[operator]
    target = functional.one_hot(y, CLASSES).double()
    projections = [target @ matrix for matrix in rule.feedback]  # type: ignore[attr-defined]
    loss = sum(-(h * p).sum(1).mean() for h, p in zip(hidden, projections, strict=True))
    exact = torch.autograd.grad(loss, list(rule.model.parameters())[:-2])
    for one, other in zip(ours[:-2], exact, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("kind", FEEDBACK)
def test_the_output_layer_learns_from_its_own_error(kind: type[LearningRule]) -> None:
    rule = built(kind)
    for ours, theirs in zip(gradients(rule)[-2:], by_autograd(rule)[-2:], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_direct_random_target_projection_moves_hidden_layers_towards_the_projected_target() -> None:
    rule = built(RandomTargetProjection)
    x, y = batch()
    before = rule.model.trace(x)[1].detach()  # type: ignore[operator]
    gradients(rule)
    with torch.no_grad():
        for parameter in rule.model.layers[0].parameters():  # type: ignore[index,union-attr]
            parameter -= 0.01 * parameter.grad
    moved = rule.model.trace(x)[1] - before  # type: ignore[operator]
    projection = functional.one_hot(y, CLASSES).double() @ rule.feedback[0]  # type: ignore[attr-defined]
    assert float((moved.detach() * projection).sum()) > 0


@pytest.mark.parametrize("kind", FEEDBACK)
def test_no_rule_of_feedback_saves_anything_for_a_backward_pass(kind: type[LearningRule]) -> None:
    rule = built(kind)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        rule.set_gradients(*batch())
    assert not saved


@pytest.mark.parametrize("method", ["fa", "dfa", "drtp"])
def test_another_network_is_refused(method: str, cli: Any) -> None:
    result = cli(f"method={method}", "dataset=digits", "model=mlp", "progress=false")
    assert result.status == 2
    assert "model=perceptron" in result.err


@pytest.mark.parametrize(("method", "least"), [("backprop_image", 0.92), ("fa", 0.85), ("dfa", 0.9), ("drtp", 0.6)])
def test_digits_are_learned_through_the_command(method: str, least: float, cli: Any, tmp_path: Any) -> None:
    from runner.store.records import Records

    line = ["model.hidden=[64,64]", "method.epochs=20", "method.batch_size=64", "progress=false"]
    assert cli(f"method={method}", "dataset=digits", *line).status == 0
    (record,) = Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").finished().values()
    assert record.metrics["test_acc"] > least
    assert (record.metrics["saved_activation_bytes"] > 0) == (method == "backprop_image")
