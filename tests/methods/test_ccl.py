"""Counter-current learning: where gradients flow, closed forms of its losses, its networks, and runs of it."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from runner import registry
from runner.compose import compose
from runner.contracts import ImageClassification
from runner.errors import BadInput
from runner.loops import Epoch
from runner.methods.learning_rules.ccl.alignment import linear_cka, weight_cosines
from runner.methods.learning_rules.ccl.losses import centralise, meeting, meeting_of_batch, spread
from tests.conftest import Result

Cli = Callable[..., Result]
CLASSES = 4
LOCAL = ["method=ccl", "model.hidden=[9,8,7]"]
CONVOLUTIONS = ["method=ccl_cnn", "model.channels=[5,6,7]"]
PERCEPTRONS = ["method=ccl", "method.normalise=true", "method.spread=0.5", "model.hidden=[9,8,7]"]
BATCH = ["method=ccl", "method.objective=batch", "method.normalise=true", "model.hidden=[9,8,7]"]
VARIANTS = pytest.mark.parametrize(
    "line", [LOCAL, CONVOLUTIONS, PERCEPTRONS, BATCH], ids=["mlp", "cnn", "unit", "paper"]
)
DIGITS = ["dataset=digits", "dataset.mean=[0.305]", "dataset.std=[0.376]", "progress=false"]
SMALL = ["method.batch_size=64", "method.epochs=20", "model.hidden=[64,64,64]"]


def task_of(count: int = 24) -> ImageClassification:
    """Random images of 2 x 8 x 8 pixels."""
    draw = torch.Generator().manual_seed(5)
    x = torch.randn(count, 2, 8, 8, generator=draw).to(torch.get_default_dtype())
    y = torch.arange(count) % CLASSES
    index = torch.arange(count)
    none, no_class = x[:0], y[:0]
    edge = torch.zeros(2, 1, 1)
    parts = {"train_x": x, "train_y": y, "val_x": none, "val_y": no_class, "test_x": x, "test_y": y}
    places = {"train_index": index, "val_index": index[:0], "low": edge, "high": edge + 1}
    sizes = {"num_classes": CLASSES, "published": (count, count)}
    return ImageClassification(name="random", fingerprint="random", **parts, **places, **sizes)  # type: ignore[arg-type]


def built(line: list[str], *more: str, task: ImageClassification | None = None) -> Any:
    config = compose([*line, *more, "dataset=digits"]).config
    method, backbone = registry.build(config["method"]), registry.build(config["model"])
    dtype = torch.get_default_dtype()
    run = SimpleNamespace(
        backbone=backbone,
        adapt=lambda module: module.to(dtype),
        model=lambda *widths: backbone.network(*widths).to(dtype),
    )
    torch.manual_seed(0)
    method.build(task or task_of(), run)
    return method


def moved(method: Any, loss: Tensor) -> tuple[set[int], set[int]]:
    """Layers, from 1, of the network and of feedback (V_l counted as l) that a loss has a gradient for."""
    upward = list(method.model.network.layers)
    downward = list(method.model.feedback.layers)[::-1]
    weights = [layer.weight for layer in [*upward, *downward]]
    gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    hit = [gradient is not None and bool(gradient.any()) for gradient in gradients]
    depth = len(upward)
    return {n + 1 for n in range(depth) if hit[n]}, {n + 1 for n in range(depth) if hit[depth + n]}


@VARIANTS
def test_each_loss_moves_the_two_layers_that_meet_there_and_no_other(line: list[str], double: None) -> None:
    method, task = built(line), task_of()
    losses = method.losses(task.train_x, task.train_y)
    depth = len(losses) - 1
    for place, loss in enumerate(losses[:-1]):
        assert moved(method, loss) == ({place} - {0}, {place + 1})
    assert moved(method, losses[-1]) == ({depth}, set())


@pytest.mark.parametrize("line", [LOCAL, CONVOLUTIONS], ids=["mlp", "cnn"])
def test_without_stopping_gradients_the_cross_entropy_alone_is_back_propagation(line: list[str], double: None) -> None:
    method, task = built(line), task_of()
    parameters = list(method.model.network.parameters())
    for local in (True, False):
        ours = functional.cross_entropy(method.model.upwards(task.train_x, local=local)[-1], task.train_y)
        theirs = functional.cross_entropy(method.model(task.train_x), task.train_y)
        pairs = zip(
            torch.autograd.grad(ours, parameters, allow_unused=True),
            torch.autograd.grad(theirs, parameters),
            strict=True,
        )
        same = [gradient is not None and torch.equal(gradient, other) for gradient, other in pairs]
        assert same == [not local] * (len(parameters) - 1) + [True]


@pytest.mark.parametrize("line", [LOCAL, CONVOLUTIONS], ids=["mlp", "cnn"])
def test_feedback_of_classes_gathered_by_label_is_feedback_of_labels(line: list[str], double: None) -> None:
    method, task = built(line), task_of()
    y = task.train_y
    a = method.model.upwards(task.train_x)
    by_class = method.model.downwards(torch.eye(CLASSES))
    by_image = method.model.downwards(functional.one_hot(y, CLASSES).double())
    for up, classes, images in zip(a, by_class, by_image, strict=True):
        product = up.flatten(1) @ classes.flatten(1).T
        torch.testing.assert_close(product[:, y], up.flatten(1) @ images.flatten(1).T)


@pytest.mark.parametrize(
    ("line", "shape"),
    [(LOCAL, (2, 8, 8)), (CONVOLUTIONS, (2, 8, 8)), (["method=ccl_autoencoder", "model.channels=[5,6]"], (2, 8, 8))],
    ids=["mlp", "cnn", "autoencoder"],
)
def test_both_networks_have_the_same_shapes_at_each_depth(line: list[str], shape: tuple[int, ...]) -> None:
    method = built(line)
    up = method.model.upwards(torch.randn(3, *shape))
    down = method.model.downwards(torch.randn(up[-1].shape))
    assert [a.shape for a in up] == [b.shape for b in down]
    upward, downward = ([p.numel() for p in net.parameters()] for net in (method.model.network, method.model.feedback))
    assert sum(upward) == sum(downward) or "autoencoder" in line[0]


@given(
    scales=st.lists(st.floats(0.01, 100), min_size=6, max_size=6),
    width=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_normalised_losses_do_not_see_lengths(scales: list[float], width: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(6, width, generator=draw, dtype=torch.float64) for _ in range(2))
    matches, factor = torch.eye(6, dtype=torch.float64), torch.tensor(scales, dtype=torch.float64).unsqueeze(1)
    for loss in (
        lambda a, b: meeting(a, b, matches, normalise=True),
        lambda a, b: meeting_of_batch(a, b, normalise=True),
        lambda a, b: spread(a) + spread(b),
    ):
        torch.testing.assert_close(loss(a * factor, b), loss(a, b))
        torch.testing.assert_close(loss(a, b * factor), loss(a, b))


@given(rows=st.integers(2, 12), width=st.integers(1, 12), seed=st.integers(0, 1000))
def test_rows_wider_spread_than_their_space_allows_cost_what_its_rank_says(rows: int, width: int, seed: int) -> None:
    a = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    least = max(rows - width, 0) / rows**2
    assert float(spread(a)) >= least - 1e-12
    if width >= rows:
        assert float(spread(torch.eye(rows, width, dtype=torch.float64))) == 0


def test_meeting_is_the_formula_written_out() -> None:
    a = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]])
    b = torch.tensor([[1.0, 0.0], [2.0, 2.0]])
    matches = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    # products: (1, 6), (3, 4), (0, 2)
    assert meeting(a, b, matches, normalise=False) == pytest.approx((0 + 36 + 9 + 9 + 0 + 1) / 6 * 256 / 2)
    assert meeting_of_batch(b, b, normalise=False) == pytest.approx(math.sqrt(0 + 4 + 4 + 49))


@pytest.mark.parametrize("objective", ["shapes", "squares"])
def test_an_autoencoders_losses_are_the_formula_written_out(objective: str, double: None) -> None:
    method = built(["method=ccl_autoencoder", "model.channels=[5,6]", f"method.objective={objective}"])
    x = task_of().train_x[:3]
    pairs = list(zip(method.model.upwards(x), method.model.downwards(x), strict=True))
    assert torch.equal(pairs[-1][1], x)
    for place, ((a, b), loss) in enumerate(zip(pairs, method.losses(x, task_of().train_y[:3]), strict=True)):
        a, b = a.detach(), b.detach()
        height = a.shape[2] if objective == "shapes" else 1
        expected = height * float((a - b).square().mean())
        if objective == "shapes" and 0 < place < 4:
            for one, other in zip(a.flatten(0, 1), b.flatten(0, 1), strict=True):
                one, other = one - one.mean(), other - other.mean()
                difference = one / max(float(one.norm()), 1e-8) - other / max(float(other.norm()), 1e-8)
                expected += height * float(difference.square().mean()) / (a.shape[0] * a.shape[1])
        assert float(loss.detach()) == pytest.approx(expected)


@pytest.mark.parametrize("objective", ["shapes", "squares"])
def test_an_autoencoders_losses_move_the_two_layers_that_meet(objective: str, double: None) -> None:
    method = built(["method=ccl_autoencoder", "model.channels=[5,6]", f"method.objective={objective}"])
    networks = [list(method.model.network.layers), list(method.model.feedback.layers)[::-1]]
    for place, loss in enumerate(method.losses(task_of().train_x, task_of().train_y)):
        for layers, own in zip(networks, (place, place + 1), strict=True):
            for number, layer in enumerate(layers, start=1):
                found = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True, allow_unused=True)
                assert any(gradient is not None and bool(gradient.any()) for gradient in found) == (number == own)


@given(shape=st.sampled_from([(4, 7), (3, 5, 3, 3), (1, 1, 2, 2)]), seed=st.integers(0, 1000))
def test_centralised_gradients_sum_to_zero_over_each_output(shape: tuple[int, ...], seed: int) -> None:
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 3
    before = gradient.clone()
    centralise(gradient)
    assert gradient.flatten(1).sum(1).abs().max() < 1e-6
    difference = (before - gradient).flatten(1)
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference))


def test_the_gradients_of_a_step_are_centralised_and_biases_are_not(double: None) -> None:
    task = task_of()
    plain, central = (built(LOCAL, f"method.centralise={flag}", "model.bias=true") for flag in ("false", "true"))
    for method in (plain, central):
        method.set_gradients(task.train_x, task.train_y)
    for before, after in zip(plain.model.parameters(), central.model.parameters(), strict=True):
        expected = before.grad - before.grad.mean(1, keepdim=True) if before.ndim > 1 else before.grad
        torch.testing.assert_close(after.grad, expected)


@pytest.mark.parametrize("normalise", ["true", "false"])
def test_flooding_stills_exactly_the_confident_images(normalise: str, double: None) -> None:
    task = task_of()
    method = built(LOCAL, "method.flooding=0.74", f"method.normalise={normalise}")
    logits = method.model(task.train_x).detach()
    confident = logits.softmax(1)[torch.arange(24), task.train_y] > 1 - 0.74
    assert 0 < int(confident.sum()) < 24
    assert torch.equal(method.unsure(logits, task.train_y) == 0, confident)
    upward = [a.detach().requires_grad_() for a in method.model.upwards(task.train_x)]
    method.model.upwards = lambda x: upward
    torch.stack(method.losses(task.train_x, task.train_y)[:-1]).sum().backward()
    for a in upward[:-1]:
        assert torch.equal((a.grad != 0).any(1), ~confident)


def test_no_image_is_flooded_by_default(double: None) -> None:
    """Not even one that the network is wholly sure of; and nothing is copied for it."""
    task = task_of()
    method = built(LOCAL)
    assert float(method.unsure(torch.tensor([[1000.0, 0, 0, 0]]), torch.tensor([0]))) == 1
    seen: list[Tensor] = []
    method.local = lambda a, b, matches: seen.append(a) or a.sum()
    method.losses(task.train_x, task.train_y)
    assert seen[0].data_ptr() == task.train_x.data_ptr()


def test_warm_up_scales_the_first_steps(double: None) -> None:
    task = task_of()
    cold, warm = built(LOCAL), built(LOCAL, "method.warm_up=4")
    cold.set_gradients(task.train_x, task.train_y)
    for step in range(1, 7):
        warm.model.zero_grad()
        warm.set_gradients(task.train_x, task.train_y)
        for ours, full in zip(warm.model.parameters(), cold.model.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, full.grad * min(step / 4, 1))


def test_learning_rates_fall_along_a_cosine_as_the_authors_scheduler_has_it() -> None:
    """Which steps at the end of an epoch, and would reach the end after the last one."""
    method = built(LOCAL, "method.final_lr_share=0.1", "method.epochs=5")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5, eta_min=0.1)
    for epoch in range(1, 6):
        assert method.rate(epoch) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert {built(LOCAL).rate(epoch) for epoch in range(1, 11)} == {1}


class Followed:
    """A run that is only its epochs, and keeps what was logged and how the best state was asked for."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(7)
        self.logged: list[dict[str, float]] = []
        self.asked: dict[str, Any] = {}

    def track(self, **objects: Any) -> None:
        self.tracked = objects

    def log(self, **values: Any) -> None:
        self.logged.append({name: float(value) for name, value in values.items()})

    def epochs(self, n: int, **asked: Any) -> Any:
        self.asked = asked
        return (Epoch(number, True) for number in range(1, n + 1))


@pytest.mark.parametrize("line", [PERCEPTRONS, CONVOLUTIONS], ids=["mlp", "cnn"])
def test_a_step_is_that_of_two_optimisers_after_centralising_and_two_clips(line: list[str], double: None) -> None:
    """All summands backward once, warmed up; each network's gradients centralised, then limited apart; two steps."""
    changed = ["method.clip=0.05", "method.lr=0.7", "method.feedback_lr=0.3", "method.momentum=0.8", "method.epochs=3"]
    changed += ["method.weight_decay=0.01", "method.batch_size=10", "method.centralise=true", "method.warm_up=5"]
    changed += ["method.final_lr_share=0.1", "method.flooding=0.74"]
    task, run = task_of(), Followed()
    ours, theirs = built(line, *changed), built(line, *changed)
    ours.fit(task, run)
    networks = [list(theirs.model.network.parameters()), list(theirs.model.feedback.parameters())]
    optimisers = [
        torch.optim.SGD(parameters, lr=rate, momentum=0.8, weight_decay=0.01)
        for parameters, rate in zip(networks, (0.7, 0.3), strict=True)
    ]
    schedules = [
        torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=3, eta_min=0.1 * rate)
        for optimiser, rate in zip(optimisers, (0.7, 0.3), strict=True)
    ]
    draw, step = torch.Generator().manual_seed(7), 0
    for _ in range(3):
        for index in torch.randperm(24, generator=draw).split(10):
            step += 1
            loss = sum(theirs.losses(task.train_x[index], task.train_y[index])) * min(step / 5, 1)
            for parameters in networks:
                gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
                gradients = [g - g.flatten(1).mean(1).reshape(-1, *[1] * (g.ndim - 1)) for g in gradients]
                norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient * min(1.0, 0.05 / (norm + 1e-6))
            for optimiser in optimisers:
                optimiser.step()
        for schedule in schedules:
            schedule.step()
    assert step == 9
    for one, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_state_of_the_lowest_validation_cross_entropy_is_asked_for() -> None:
    task, run = task_of(), Followed()
    method = built(LOCAL, "method.epochs=2")
    method.fit(task, run)  # without validation images there is nothing to choose by
    assert (run.asked["monitor"], run.asked["restore_best"]) == (None, False)
    held_out = dataclasses.replace(task, val_x=task.train_x[:9], val_y=task.train_y[:9])
    method.fit(held_out, run)
    assert (run.asked["monitor"], run.asked["mode"], run.asked["restore_best"]) == ("val_loss", "min", True)
    loss = functional.cross_entropy(method.model(held_out.val_x), held_out.val_y)
    (seen,) = [values["val_loss"] for values in run.logged if "val_loss" in values][-1:]
    assert seen == pytest.approx(float(loss.detach()))
    assert set(run.tracked) == {"model", "optimizer"}


def test_feedback_has_a_learning_rate_of_its_own() -> None:
    groups = built(LOCAL, "method.feedback_lr=0.0").groups()
    assert "lr" not in groups[0]
    assert groups[1]["lr"] == 0
    assert len(groups[0]["params"]) == len(groups[1]["params"]) == 4


def test_alignment_measures(double: None) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=draw)
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=draw))
    assert linear_cka(x, 3 * x @ turn + 2) == pytest.approx(1)
    assert linear_cka(x, torch.ones(40, 2)) == 0
    assert 0 < linear_cka(x, torch.randn(40, 7, generator=draw)) < 0.6
    for line in (LOCAL, CONVOLUTIONS):
        method = built(line)
        upward, downward = method.model.network.layers, list(method.model.feedback.layers)[::-1]
        with torch.no_grad():
            for u, v in zip(upward, downward, strict=True):
                v.weight.copy_(u.weight.transpose(0, 1).flip(2, 3) if u.weight.ndim == 4 else u.weight.T)
        assert weight_cosines(method.model) == pytest.approx({f"layer{n}": 1.0 for n in range(1, 5)})


def test_the_networks_align_within_200_steps_on_digits() -> None:
    line = [*LOCAL[:1], *DIGITS, *SMALL[2:]]
    task = registry.build(compose(line).config["dataset"]).load("ImageClassification")
    method = built(line[:1] + SMALL[2:], task=task)
    before = method.alignment(task, "test")
    optimizer = method.optimizer_of(method.groups())
    draw = torch.Generator().manual_seed(0)
    for _ in range(200):
        batch = torch.randint(len(task.train_y), (64,), generator=draw)
        optimizer.zero_grad()
        method.set_gradients(task.train_x[batch], task.train_y[batch])
        for group in optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], method.clip)
        optimizer.step()
    assert method.alignment(task, "test") > before


def flops_of(method: Any, task: Any) -> float:
    def made(step: Callable[[], object], _: object) -> int:
        step()
        return 0

    run: Any = SimpleNamespace(step_bytes=made, step_cost=lambda *_: {})
    return float(method.step_costs(method.set_gradients, task, run)["training_flops"])


def test_flops_of_a_step_are_the_published_ones() -> None:
    """The paper counts 2.39 million for back-propagation through 784-256-256-256-256-256-10, per image."""
    draw = torch.Generator().manual_seed(0)
    images = SimpleNamespace(
        train_x=torch.randn(256, 1, 28, 28, generator=draw),
        train_y=torch.randint(10, (256,), generator=draw),
        num_classes=10,
        shape=(1, 28, 28),
    )
    products = [784 * 256, *[256 * 256] * 4, 2560]
    flops = {
        name: flops_of(built([f"method={name}", "model=perceptron_elu"], task=images), images)
        for name in ("backprop_image", "ccl", "fw_dtp", "fa", "dfa", "drtp")
    }
    backprop = 2 * (3 * sum(products) - products[0])
    assert flops["backprop_image"] == flops["fa"] == backprop == 2_391_040
    # a product each way, then a loss at each depth, forward and for a_l (not the pixels) and b_l; feedback: K rows
    local = 2 * 10 * (2 * 784 + 3 * 5 * 256)
    assert flops["ccl"] == pytest.approx(2 * 2 * sum(products) + local + 10 / 256 * 2 * 2 * sum(products))
    assert flops["ccl"] < 1.3 * backprop < 1.3 * flops["fw_dtp"]
    assert flops["drtp"] == flops["dfa"] < backprop


def test_another_network_is_refused(cli: Cli) -> None:
    result = cli("method=ccl", *DIGITS, "model=gcn")
    assert result.status == 2
    assert "model=perceptron_elu, cnn_pool or autoencoder" in result.err


@pytest.mark.parametrize(
    ("line", "sizes"),
    [
        (["method=ccl_cnn"], "32 x 32"),
        (["method=backprop_image", "model=cnn_pool"], "32 x 32"),
        (["method=ccl_autoencoder"], "multiples of 16"),
        (["method=backprop_autoencoder"], "multiples of 16"),
    ],
)
def test_images_of_another_size_are_refused_with_the_way_out(line: list[str], sizes: str, cli: Cli) -> None:
    result = cli(*line, *DIGITS)
    assert result.status == 2
    assert sizes in result.err
    assert "change model.channels" in result.err


@pytest.mark.parametrize("model", ["cnn_pool", "autoencoder"])
def test_a_network_without_widths_is_refused(model: str) -> None:
    backbone = registry.build(
        compose(["method=ccl", f"model={model}", "model.channels=[]", "dataset=digits"]).config["model"]
    )
    with pytest.raises(BadInput, match=r"model.channels=\[\]"):
        backbone.network(1, 10)


def metrics(tmp_path: Path) -> dict[str, float]:
    from runner.store.records import Records

    (record,) = Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").finished().values()
    return record.metrics


def test_digits_are_learned(cli: Cli, tmp_path: Path) -> None:
    assert cli("method=ccl", *DIGITS, "dataset.train_size=1300", *SMALL, "model.hidden=[64,64,64]").status == 0
    found = metrics(tmp_path)
    assert found["test_acc"] >= 0.94
    assert found["cka"] > 0.2
    assert {f"weight_cosine/layer{n}" for n in range(1, 5)} <= found.keys()


@pytest.mark.parametrize("method", ["ccl_cnn", "backprop_centralised", "backprop_image"])
def test_convolutions_learn(method: str, cli: Cli, tmp_path: Path) -> None:
    rate = ["method.warm_up=20"] if method == "ccl_cnn" else ["method.lr=0.3"]
    line = [f"method={method}", "model=cnn_pool", "model.channels=[16,32,64]", "method.batch_size=64", *rate]
    assert cli(*line, *DIGITS, "method.epochs=5").status == 0
    assert metrics(tmp_path)["test_acc"] > 0.85


@pytest.mark.parametrize("method", ["ccl_autoencoder", "backprop_autoencoder"])
def test_autoencoders_learn(method: str, cli: Cli, tmp_path: Path) -> None:
    assert cli(f"method={method}", "model.channels=[16,32]", *DIGITS, "method.epochs=8").status == 0
    found = metrics(tmp_path)
    assert 0 < found["test_mse"] < 0.5  # pixels have variance 1
    assert "test_acc" not in found


def test_a_killed_run_ends_bit_equal(child: Callable[..., Any], tmp_path: Path) -> None:
    """Through a warm-up and a falling rate, whose places are part of the state."""
    from runner.store.records import Records

    line = ["method=ccl", *DIGITS, "model.hidden=[32,32]", "method.epochs=30", "method.batch_size=64"]
    line += ["method.warm_up=400", "method.final_lr_share=0.01", "checkpoint.every=0"]
    assert child(*line, RUNNER_HOME=str(tmp_path / "undisturbed")) == 0
    process = child(*line, wait=False)
    deadline = time.monotonic() + 120
    while not list((Path(os.environ["RUNNER_HOME"]) / "attempts").glob("*/snapshots/*.pt")):
        assert process.is_alive(), "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.join()
    assert child(*line) == 0
    ends = []
    for home in ("runs", "undisturbed"):
        (record,) = Records(f"sqlite:///{tmp_path}/{home}/mlflow.db", "runner").all()
        costs = ("saved_", "fit_", "inference_", "upload_", "peak_")
        ends.append({name: value for name, value in record.metrics.items() if not name.startswith(costs)})
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    "line",
    [
        ["+experiment=ccl_full", "method=ccl", "model.hidden=[32]"],
        ["+experiment=ccl_full_cifar10", "method=ccl_cnn"],
        ["+experiment=ccl_full_cifar10", "method=backprop_centralised"],
        ["+experiment=ccl_full_autoencoder", "method=ccl_autoencoder", "model.channels=[8,8,8,8]"],
    ],
    ids=lambda line: line[1].removeprefix("method="),
)
def test_the_papers_setting_starts(line: list[str], cli: Cli, tmp_path: Path) -> None:
    """One epoch of it, on a file of noise in the place of data that may not be here."""
    noise = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 40), ("test", 8)):
        arrays[f"x_{part}"] = noise.integers(256, size=(count, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 4
    np.savez(tmp_path / "noise.npz", **arrays)
    sizes = ["dataset=image_file", f"dataset.path={tmp_path}/noise.npz", "dataset.train_size=16", "dataset.val_size=8"]
    result = cli(*line, *sizes, "limit=1", "progress=false")
    assert result.status == 0, result.err
    assert metrics(tmp_path)["epochs"] == 1
