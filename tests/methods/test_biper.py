"""BiPer against its formulas: square wave, gradients, loss, schedule, sign flips; and through the command line."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from runner.errors import BadInput
from runner.methods.learning_rules.binary.biper import BiPer
from runner.methods.learning_rules.binary.layers import BinaryLayer, binarised, binary_layers, set_binary
from runner.methods.learning_rules.binary.quantisers import (
    BalancedWeights,
    ClippedActivations,
    ClippedWeights,
    DecayActivations,
    PolynomialActivations,
    SineWeights,
    sgn,
    shift,
)
from runner.methods.learning_rules.binary.rule import SignFlips, Stage, scheduled
from runner.methods.models.binary_resnet import BinaryResNet
from runner.methods.models.perceptron import Perceptron
from runner.methods.models.vgg_small import VggSmall
from runner.store.records import Record, Records

OMEGA = 20.0
SETTING: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "clip": None,
    "keep": "last",
    "warmup_epochs": 0,
    "omega": OMEGA,
    "surrogate": "sine",
    "scale": "learned",
    "activations": "binary",
    "tau": 0.037,
    "tau_end": None,
    "two_stages": True,
    "stage2_epochs": 1,
    "stage2_lr": 0.02,
    "stage2_weight_decay": 1e-4,
    "stage2_tau": 0.0468,
}
RESNET8: dict[str, Any] = {
    "widths": [8, 16, 32],
    "blocks": 1,
    "skips": "each",
    "stem_activation": True,
    "activation": "hardtanh",
}


def resnet8() -> BinaryResNet:
    return BinaryResNet(**RESNET8)


def weights(*shape: int) -> Tensor:
    return (0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).requires_grad_()


def built(images: int = 24, **changed: Any) -> BiPer:
    torch.manual_seed(0)
    rule = BiPer(**SETTING | changed)
    task = SimpleNamespace(train_x=torch.zeros(images, 1, 8, 8), train_y=torch.zeros(images), num_classes=10)
    rule.build(task, SimpleNamespace(backbone=resnet8(), adapt=lambda module: module))  # type: ignore[arg-type]
    return rule


def test_both_stages_send_omega_cos_backward() -> None:
    """dL/dw = g omega cos(omega w), whichever of sin and sgn(sin) went forward."""
    g = torch.randn(6, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = {}
    for binary in (False, True):
        quantiser, w = SineWeights(OMEGA, "sine"), weights(6, 5)
        quantiser.binary = binary
        q, s = quantiser(w)
        assert torch.equal(q, sgn(s) if binary else torch.sin(OMEGA * w))
        (found[binary],) = torch.autograd.grad((q * g).sum(), w)
        assert torch.allclose(found[binary], g * OMEGA * torch.cos(OMEGA * w), rtol=1e-12)
    assert torch.equal(found[False], found[True])


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=30), st.floats(0.5, 50), st.integers(-5, 5))
def test_the_bit_is_a_square_wave(values: list[float], omega: float, periods: int) -> None:
    w = torch.tensor(values, dtype=torch.float64)
    quantiser = SineWeights(omega, "sine")
    bits, s = quantiser(w)
    assert set(bits.tolist()) <= {-1.0, 1.0}
    clear = s.abs() > 1e-9
    moved, _ = quantiser(w + periods * 2 * math.pi / omega)
    turned, _ = quantiser(w + math.pi / omega)
    assert torch.equal(moved[clear], bits[clear])
    assert torch.equal(turned[clear], -bits[clear])


def test_the_sign_of_zero_is_plus_one() -> None:
    assert sgn(torch.tensor([0.0, -0.0, 1.0, -1e-30])).tolist() == [1, 1, 1, -1]


def test_the_other_surrogates_keep_the_bits_and_change_the_slope() -> None:
    w = (10 * weights(200)).detach().requires_grad_()
    bits, _ = SineWeights(OMEGA, "sine")(w)
    ste, _ = SineWeights(OMEGA, "ste")(w)
    tanh, _ = SineWeights(OMEGA, "tanh")(w)
    assert torch.equal(bits, ste)
    assert torch.equal(bits, tanh)
    (slope,) = torch.autograd.grad(ste.sum(), w)
    assert torch.equal(slope, (w.abs() <= 1).double())
    assert 0 < slope.mean() < 1
    (slope,) = torch.autograd.grad(tanh.sum(), w)
    (expected,) = torch.autograd.grad(torch.tanh(2 * torch.sin(OMEGA * w)).sum(), w)
    assert torch.allclose(slope, expected)


def test_activations_are_scaled_by_their_samples_deviation_which_carries_gradient() -> None:
    a = torch.randn(3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    g = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    quantiser = PolynomialActivations()
    (slope,) = torch.autograd.grad((quantiser(a) * g).sum(), a)
    scaled = a / torch.sqrt(a.var((1, 2, 3), keepdim=True, unbiased=True) + 1e-5)
    # the integral of max(0, 2 - 2|x|) that is 0 at 0
    smooth = torch.where(scaled.abs() < 1, 2 * scaled - scaled * scaled.abs(), sgn(scaled))
    (expected,) = torch.autograd.grad((smooth * g).sum(), a)
    assert torch.allclose(slope, expected)
    assert set(quantiser(a).unique().tolist()) == {-1.0, 1.0}


def test_the_baselines_slopes() -> None:
    a = (3 * torch.randn(300, dtype=torch.float64)).requires_grad_()
    (slope,) = torch.autograd.grad(ClippedActivations()(a).sum(), a)
    assert torch.equal(slope, (a.abs() <= 1).double())
    (slope,) = torch.autograd.grad(ClippedWeights()(a)[0].sum(), a)
    assert torch.equal(slope, (a.abs() <= 1).double())
    estimator = DecayActivations()
    for share, t, k in ((0.0, 0.1, 10.0), (0.5, 1.0, 1.0), (1.0, 10.0, 1.0)):
        estimator.progress(share)
        (slope,) = torch.autograd.grad(estimator(a).sum(), a)
        (expected,) = torch.autograd.grad((k * torch.tanh(t * a)).sum(), a)
        assert torch.allclose(slope, expected)


def test_irnets_weights_are_balanced_and_its_scale_a_power_of_two() -> None:
    s = BalancedWeights().proxy(weights(4, 3, 3, 3))
    assert torch.allclose(s.flatten(1).mean(1), torch.zeros(4, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(s.flatten(1).std(1), torch.ones(4, dtype=torch.float64))
    assert shift(torch.tensor([0.8, 0.3, 3.0])).tolist() == [1.0, 0.25, 4.0]


def test_a_layer_is_alpha_times_the_convolution_of_signs() -> None:
    torch.manual_seed(0)
    layer = BinaryLayer(
        nn.Conv2d(3, 5, 3, padding=1, bias=False), SineWeights(OMEGA, "sine"), ClippedActivations(), "learned"
    )
    x = torch.randn(2, 3, 6, 6)
    signs = functional.conv2d(sgn(x), sgn(torch.sin(OMEGA * layer.latent)), padding=1)
    assert torch.allclose(layer(x), layer.alpha.view(-1, 1, 1) * signs, atol=1e-5)
    assert 0 <= layer.alpha.min() <= layer.alpha.max() <= 1


def test_a_fitted_scale_is_the_least_squares_one() -> None:
    layer = BinaryLayer(nn.Conv2d(3, 5, 3, bias=False), SineWeights(OMEGA, "sine"), nn.Identity(), "fitted")
    s = layer.proxy().detach().flatten(1)
    gamma = layer.scales(layer.proxy())
    for trial in (0.9, 0.99, 1.01, 1.1):
        best = (gamma[:, None] * sgn(s) - s).square().mean(1)
        assert (best <= (trial * gamma[:, None] * sgn(s) - s).square().mean(1)).all()


def test_the_loss_adds_tau_times_the_sum_over_layers() -> None:
    rule = built()
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8)
    rule.first_tau = rule.last_tau = 0.037
    rule.begin_epoch(0.5)
    plain = functional.cross_entropy(rule.model(x), y)
    layers = [module for module in rule.model.modules() if isinstance(module, BinaryLayer)]
    expected = sum(float((0.5 - 0.5 * torch.cos(2 * OMEGA * layer.latent.detach())).mean()) for layer in layers)
    assert len(layers) == 6
    assert math.isclose(float(rule.set_gradients(x, y) - plain), 0.037 * expected, rel_tol=1e-3)


def test_tau_goes_from_first_to_last_as_an_exponential() -> None:
    rule = built()
    rule.first_tau, rule.last_tau = 0.85, 0.99
    found = []
    for share in (0.0, 0.5, 1.0):
        rule.begin_epoch(share)
        found.append(rule.current_tau)
    assert found[0] == 0.85
    assert math.isclose(found[2], 0.99)
    assert math.isclose((found[1] - 0.85) / 0.14, (math.sqrt(math.e) - 1) / (math.e - 1))


def test_the_schedule_rises_and_falls() -> None:
    plain = [scheduled(0.1, epoch, 4, 0) for epoch in range(4)]
    assert plain == pytest.approx([0.1 / 2 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)])
    warm = [scheduled(0.021, epoch, 600, 5) for epoch in range(600)]
    assert warm[:5] == pytest.approx([0.021 * (epoch + 1) / 5 for epoch in range(5)])
    assert warm[5] == pytest.approx(0.021 / 2 * (1 + math.cos(math.pi / 596)))
    assert 0 < warm[-1] < 1e-5


def test_sign_flips_are_counted_by_the_sign_that_is_used() -> None:
    flips = SignFlips()
    w = torch.tensor([0.01, 0.02, 0.03, -0.04])
    quantiser = SineWeights(OMEGA, "sine")
    before = quantiser.proxy(w) >= 0
    after = quantiser.proxy(w + torch.tensor([math.pi / OMEGA, 0.001, 0.0, 0.0])) >= 0
    assert flips.add([before], [after]) == 0.25
    assert flips.add([after], [after]) == 0.0
    assert flips.total == 0.25
    again = SignFlips()
    again.load_state_dict(flips.state_dict())
    assert again.total == 0.25


def test_evaluation_is_blind_to_any_positive_scale_of_the_activations() -> None:
    rule = built()
    layer = next(binary_layers(rule.model)).eval()
    x = torch.randn(5, 8, 6, 6)
    factor = torch.rand(5, 1, 1, 1) * 10 + 0.01
    assert torch.equal(layer(x), layer(factor * x))


def test_networks_have_the_papers_sizes() -> None:
    resnet20 = BinaryResNet(**RESNET8 | {"widths": [16, 32, 64], "blocks": 3})
    network = resnet20.network(3, 10)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 19
    assert isinstance(network.head[0], nn.BatchNorm1d)  # type: ignore[index]
    deviations = {c.in_channels: float(c.weight.std()) for c in convolutions[1:] if c.in_channels == c.out_channels}
    assert deviations == pytest.approx({16: 0.118, 32: 0.083, 64: 0.059}, rel=0.05)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    resnet18 = BinaryResNet(
        widths=[4, 8, 16, 32], blocks=2, skips="block", stem_activation=False, activation="hardtanh"
    )
    assert sum(isinstance(module, nn.Conv2d) for module in resnet18.network(3, 10).modules()) == 17
    assert resnet18.network(1, 10)(torch.randn(2, 1, 28, 28)).shape == (2, 10)
    vgg = VggSmall(hidden_channels=8).network(3, 10)
    assert [m.out_channels for m in vgg.modules() if isinstance(m, nn.Conv2d)] == [8, 8, 16, 16, 32, 32]
    assert vgg.head.in_features == 32 * 16
    for side in (16, 32):
        assert vgg(torch.randn(2, 3, side, side)).shape == (2, 10)


def test_the_first_and_last_layer_stay_real() -> None:
    network = Perceptron(hidden=[6, 7, 8], activation="tanh", bias=True, init="uniform", init_std=0.1).network(4, 3)
    binarised(network, ClippedWeights(), ClippedActivations(), "fitted")
    assert [isinstance(layer, BinaryLayer) for layer in network.layers] == [False, True, True, False]
    shallow = Perceptron(hidden=[6], activation="tanh", bias=True, init="uniform", init_std=0.1).network(4, 3)
    with pytest.raises(BadInput, match="three"):
        binarised(shallow, ClippedWeights(), ClippedActivations(), "fitted")


def test_stage_one_is_the_sine_network() -> None:
    rule = built()
    set_binary(rule.model, False)
    layer = next(binary_layers(rule.model))
    q, s = layer.weights(layer.latent)
    assert torch.equal(q, s)
    set_binary(rule.model, True)
    assert set(layer.weights(layer.latent)[0].unique().tolist()) == {-1.0, 1.0}


def test_stage_two_goes_on_from_stage_one_with_a_fresh_optimiser_and_its_own_values() -> None:
    """Weights, alpha and batch norm's statistics are carried over; momentum, learning rate, tau, decay are not."""
    rule, seen = built(stage2_weight_decay=5e-4), {}

    def train(task: object, run: object, stage: Stage) -> None:
        state = {name: value.clone() for name, value in rule.model.state_dict().items()}
        kinds = {layer.weights.binary for layer in binary_layers(rule.model)}
        seen[stage.name] = (stage, state, kinds, rule.first_tau, rule.last_tau)
        with torch.no_grad():
            for value in rule.model.state_dict().values():
                value.add_(1)

    rule.train = train  # type: ignore[method-assign]
    rule._between = lambda *_: None  # type: ignore[method-assign]
    rule.fit(None, SimpleNamespace(log=lambda **_: None))  # type: ignore[arg-type]
    one, two = seen["stage1"], seen["stage2"]
    assert one[0] == Stage("stage1", 2, 0.1, 1e-4)
    assert two[0] == Stage("stage2", 1, 0.02, 5e-4)
    assert (one[2:], two[2:]) == (({False}, 0.037, 0.037), ({True}, 0.0468, 0.0468))
    assert all(torch.equal(value, one[1][name] + 1) for name, value in two[1].items())


def test_each_stage_has_an_optimiser_of_its_own() -> None:
    """With the stage's weight decay on every parameter, alpha and batch norm included."""
    rule, tracked = built(), []
    run = SimpleNamespace(track=lambda **objects: tracked.append(objects["optimizer"]), epochs=lambda *_, **__: ())
    task = SimpleNamespace(val_y=())
    for stage in (Stage("stage1", 2, 0.1, 1e-4), Stage("stage2", 1, 0.02, 5e-4)):
        rule.train(task, run, stage)  # type: ignore[arg-type]
    first, second = tracked
    assert first is not second
    assert not second.state
    (group,) = second.param_groups
    assert group["weight_decay"] == 5e-4
    assert len(group["params"]) == len(list(rule.model.parameters()))


def test_a_batch_of_one_image_is_refused() -> None:
    with pytest.raises(BadInput, match="batch_size=9"):
        built(images=25)


def finished(tmp_path: Path) -> Record:
    (record,) = Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").finished().values()
    return record


DIGITS = ["dataset=digits", "progress=false"]
LAYERS = ["model=perceptron", "model.hidden=[64,64,64]", "method.batch_size=64"]


@pytest.mark.parametrize(
    ("line", "least"),
    [
        (["method=biper", *LAYERS, "method.epochs=12", "method.stage2_epochs=6"], 0.85),
        (["method=biper", "method.epochs=8", "method.two_stages=false", "method.batch_size=64"], 0.85),
        (["method=sign_ste", *LAYERS, "method.epochs=20"], 0.85),
        (["method=irnet", "method.batch_size=64"], 0.85),
        (["method=full_precision", "method.batch_size=64"], 0.92),
        (["method=backprop_image", "model=bnn_resnet8", "method.epochs=6"], 0.85),
    ],
)
def test_digits_are_learned_through_the_command(line: list[str], least: float, cli: Any, tmp_path: Path) -> None:
    result = cli(*line, *DIGITS)
    assert result.status == 0, result.err
    metrics = finished(tmp_path).metrics
    assert metrics["test_acc"] > least
    if line[0] in ("method=biper", "method=sign_ste", "method=irnet"):
        assert metrics["sign_flips"] > 0


def test_a_run_of_two_stages_tells_of_both(cli: Any, tmp_path: Path) -> None:
    assert cli("method=biper", *DIGITS, "method.epochs=2", "method.stage2_epochs=1").status == 0
    metrics = finished(tmp_path).metrics
    assert {"test_acc/stage1", "test_acc/direct", "val_acc/direct", "stage1/sign_flips", "stage2/sign_flips"} <= set(
        metrics
    )
    assert (metrics["epochs/stage1"], metrics["epochs/stage2"]) == (2, 1)
    assert metrics["sign_flips"] >= metrics["stage2/sign_flips"]
    assert metrics["stage1/lr"] == pytest.approx(0.1 / 2)  # the second of two epochs
    assert metrics["stage2/lr"] == pytest.approx(0.02)
    assert 0 < metrics["quantisation_error"] < 0.25
    for x in ("0.1", "0.3", "1", "2", "5"):
        assert abs(metrics[f"laplace_error/{x}"] - 1) < 0.02


@pytest.mark.parametrize(
    "line",
    [
        ["model.activation=relu", "method.activations=real", "method.tau=1.0"],
        ["method.surrogate=tanh"],
        ["method.surrogate=ste", "method.two_stages=false"],
        ["method.scale=fitted", "method.tau=-0.037"],
        ["method.scale=shift", "method.tau=0.0", "method.keep=best"],
        ["model=bnn_vgg_small", "model.hidden_channels=8"],
        ["model=bnn_resnet18", "model.widths=[8,16]"],
    ],
)
def test_every_option_runs(line: list[str], cli: Any) -> None:
    result = cli("method=biper", *DIGITS, "limit=1", "dataset.train_size=200", "dataset.val_size=100", *line)
    assert result.status == 0, result.err


@pytest.mark.parametrize("method", ["biper", "irnet"])
def test_a_binary_layer_of_one_input_is_refused_in_a_line(method: str, cli: Any) -> None:
    result = cli(f"method={method}", *DIGITS, "model=perceptron", "model.hidden=[8,1,8]")
    assert result.status == 2
    assert "model.hidden=" in result.err
    assert "Traceback" not in result.err


def test_a_network_without_a_binary_layer_is_refused_in_a_line(cli: Any) -> None:
    result = cli("method=sign_ste", *DIGITS, "model.hidden=[16]")
    assert result.status == 2
    assert "model.hidden=" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("experiment", ["biper_full", "biper_full_baselines"])
def test_a_run_of_the_papers_setting_starts(experiment: str, cli: Any) -> None:
    """ResNet-18 with all its channels and values, one epoch of few images of another kind."""
    few = ["dataset.train_size=48", "dataset.val_size=20", "dataset.test_size=20"]
    grey = ["dataset=digits", "dataset.mean=[0.3]", "dataset.std=[0.4]", "dataset.augmentation=none"]
    result = cli(f"+experiment={experiment}", *grey, *few, "limit=1", "progress=false")
    assert result.status == 0, result.err
