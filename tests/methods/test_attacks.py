"""Attacks: their bounds, closed forms for a linear classifier, and another library's results."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from runner.methods.ops.attacks import fgsm, pgd, white_noise


def classifier(outputs: int = 10) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(25, 8), nn.Tanh(), nn.Linear(8, outputs))


def images(count: int = 12) -> Tensor:
    return torch.rand(count, 1, 5, 5, generator=torch.Generator().manual_seed(2))


@given(eps=st.floats(0, 1), seed=st.integers(0, 99))
def test_disturbed_images_stay_within_the_bound_and_are_images(eps: float, seed: int) -> None:
    x, model, draw = images(), classifier(), torch.Generator().manual_seed(seed)
    found = [
        white_noise(x, eps, draw),
        fgsm(model, x, eps).x,
        pgd(model, x, eps, steps=3, step=eps / 2, generator=draw).x,
        pgd(model, x, eps, steps=3, step=eps / 2).x,
    ]
    for moved in found:
        assert float((moved - x).abs().max()) <= eps + 1e-6
        assert float(moved.min()) >= 0
        assert float(moved.max()) <= 1


def test_of_a_linear_softmax_model_the_sign_step_is_known() -> None:
    """x + eps sign(W^T (p - e_yhat)), clipped."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 10))
    x, eps = images(), 0.2
    with torch.no_grad():
        p = model(x).softmax(1)
        error = p - nn.functional.one_hot(p.argmax(1), 10)
        expected = (x + eps * (error @ model[1].weight).sign().view_as(x)).clamp(0, 1)
    assert torch.equal(fgsm(model, x, eps).x, expected)
    one_step = pgd(model, x, eps, steps=1, step=eps).x
    assert torch.allclose(one_step, expected, atol=1e-7)


def test_images_that_nothing_moves_are_counted() -> None:
    """With two classes, logits a thousand apart leave a softmax without a slope in float32."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 2))
    with torch.no_grad():
        model[1].weight.fill_(1.0)
        model[1].weight[1] *= -1
        model[1].bias.zero_()
    x = torch.zeros(3, 1, 5, 5)
    x[1] = 40.0  # beyond an image's range: what counts here is the slope
    x[2] = 0.01
    assert fgsm(model, x, 0.1).stuck.tolist() == [False, True, False]


def test_an_attack_leaves_no_gradients_and_needs_no_label() -> None:
    model, x = classifier(), images()
    with torch.no_grad():
        moved = fgsm(model, x, 0.3).x
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not moved.requires_grad


def test_pgd_with_more_steps_is_no_weaker() -> None:
    model, x = classifier(), images(64)
    label = model(x).argmax(1)
    one, many = (pgd(model, x, 0.1, steps=steps, step=0.1 / min(steps, 4)).x for steps in (1, 20))
    with torch.no_grad():
        weaker, stronger = (nn.functional.cross_entropy(model(moved), label) for moved in (one, many))
    assert float(stronger) >= float(weaker) - 1e-6


def test_torchattacks_gives_the_same_images() -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is optional: pip install torchattacks")
    model, x = classifier().eval(), images()
    label = model(x).argmax(1)
    assert torch.allclose(torchattacks.FGSM(model, eps=0.2)(x, label), fgsm(model, x, 0.2).x, atol=1e-6)
    theirs = torchattacks.PGD(model, eps=0.2, alpha=0.05, steps=7, random_start=False)(x, label)
    assert torch.allclose(theirs, pgd(model, x, 0.2, steps=7, step=0.05).x, atol=1e-6)
