"""Bidirectional learning and HAN: transposes, shared storage, closed forms, what no-bias leaves alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import ImageClassification
from runner.errors import BadInput
from runner.loops import Epoch
from runner.methods.learning_rules.bidirectional.bl import Bidirectional
from runner.methods.learning_rules.bidirectional.han import HybridAdversarial
from runner.methods.learning_rules.bidirectional.network import Layout, SharedAffine, SharedConvolution, Undirected
from runner.methods.learning_rules.bidirectional.shared import SharedWeights, in_unit_range

SHARED: dict[str, Any] = {
    "iterations": 6,
    "rhythm": 3,
    "batch_size": 5,
    "learning": "bl",
    "bias": True,
    "lr": 3e-3,
    "lr_down": 3e-3,
    "beta1": 0.9,
    "convolutions": [],
    "hidden": [6],
    "activation": "sigmoid",
    "conv_activation": "leaky_relu",
    "init_std": 0.1,
    "keep": "last",
    "noise": 0.1,
    "eps": 0.3,
    "pgd_steps": 2,
    "pgd_step": 0.25,
    "pgd_images": 4,
}
BL: dict[str, Any] = {"decay": None, "lr_end": 1e-4}
HAN: dict[str, Any] = {"batch_norm": False, "test_statistics": "moving", "lr_discriminator": 2e-4}
CONVOLUTIONS = {"convolutions": [[4, 3, 2], [4, 5, 2]], "hidden": [7], "activation": "relu"}
CLASSES = 3


def task(count: int = 20, size: int = 8, low: float = 0.0, high: float = 1.0) -> ImageClassification:
    draw = torch.Generator().manual_seed(5)
    x, y = torch.rand(count, 1, size, size, generator=draw), torch.arange(count) % CLASSES
    x = low + (high - low) * x
    return ImageClassification(
        name="noise",
        fingerprint="noise",
        train_x=x,
        train_y=y,
        val_x=x[:0],
        val_y=y[:0],
        test_x=x,
        test_y=y,
        train_index=torch.arange(count),
        val_index=torch.arange(0),
        num_classes=CLASSES,
        published=(count, count),
        low=torch.full((1, 1, 1), low),
        high=torch.full((1, 1, 1), high),
    )


class Watching:
    """As much of a run as the procedures see."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.saved: dict[str, Any] = {}
        self.logged: dict[str, list[float]] = {}

    def adapt(self, module: nn.Module) -> nn.Module:
        return module

    def track(self, **objects: Any) -> None:
        self.tracked = objects

    def log(self, **values: Any) -> None:
        for name, value in values.items():
            self.logged.setdefault(name, []).append(float(value))

    def save(self, name: str, value: Any) -> None:
        self.saved[name] = value

    def epochs(self, n: int, **_: Any) -> Any:
        return (Epoch(number, True) for number in range(1, n + 1))


def built(kind: type[SharedWeights], **changes: Any) -> tuple[SharedWeights, Any]:
    torch.manual_seed(0)
    own = BL if kind is Bidirectional else HAN
    method, run = kind(**(SHARED | own | changes)), Watching()
    method.build(task(), run)  # type: ignore[arg-type]
    return method, run


def undirected(**changes: Any) -> Undirected:
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "activation": "sigmoid",
        "conv_activation": "relu",
        "batch_norm": False,
        "init_std": 0.1,
        "convolutions": [],
        "hidden": [6],
    }
    return Undirected((1, 8, 8), CLASSES, Layout(**(values | changes)))


@given(
    size=st.tuples(st.integers(4, 12), st.integers(4, 12)),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_downwards_is_the_transpose_of_upwards(size: tuple[int, int], kernel: int, stride: int, seed: int) -> None:
    """<conv(x; W), y> = <x, convT(y; W)>, and the same for affine layers."""
    draw = torch.Generator().manual_seed(seed)
    for layer in (SharedConvolution((2, *size), 3, kernel, stride), SharedAffine((2, *size), 4)):
        layer.double()
        nn.init.normal_(layer.weight, generator=draw)
        x = torch.randn(2, *layer.below, generator=draw, dtype=torch.float64)
        y = torch.randn(2, *layer.above, generator=draw, dtype=torch.float64)
        assert layer.down(y).shape == x.shape
        assert torch.allclose((layer.up(x) * y).sum(), (x * layer.down(y)).sum())


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(5, 1, [2, 2]), (5, 2, [1, 2]), (4, 2, [1, 1])])
def test_padding_is_tensorflows_same(kernel: int, stride: int, padding: list[int]) -> None:
    layer = SharedConvolution((1, 28, 28), 1, kernel, stride)
    assert layer.padding == padding * 2
    assert layer.above == (1, 28 // stride, 28 // stride)


@pytest.mark.parametrize("kinds", [{}, CONVOLUTIONS, {"hidden": []}], ids=["affine", "convolutions", "one layer"])
def test_both_directions_share_storage(kinds: dict[str, Any]) -> None:
    network = undirected(**kinds)
    x, y = torch.rand(2, 1, 8, 8), torch.eye(CLASSES)
    weights = list(network.weights())
    assert len(weights) == len([name for name in network.state_dict() if name.endswith("weight")])
    for weight in weights:
        before = network(x), network.generate(y)
        with torch.no_grad():
            weight.add_(0.1)
        assert not torch.allclose(network(x), before[0])
        assert not torch.allclose(network.generate(y), before[1])


@pytest.mark.parametrize("hidden", [[], [6], [7, 6]])
def test_the_gradient_is_that_of_a_transposed_network_with_tied_copies(hidden: list[int]) -> None:
    """And of both losses together it is the sum over the two places where a weight stands."""
    network = undirected(hidden=hidden).double()
    x, y = task().train_x.double(), torch.eye(CLASSES, dtype=torch.float64)[task().train_y]
    weights = list(network.weights())
    up = functional.cross_entropy(network(x), task().train_y)
    down = functional.binary_cross_entropy_with_logits(network.generate(y), x)
    both = torch.autograd.grad(up + down, weights)

    for_up, for_down = ([weight.detach().clone().requires_grad_() for weight in weights] for _ in range(2))
    a, g = x.flatten(1), y
    for place, weight in enumerate(for_up):
        a = a @ weight.T if place == len(for_up) - 1 else torch.sigmoid(a @ weight.T)
    for place, weight in reversed(list(enumerate(for_down))):
        g = g @ weight if place == 0 else torch.sigmoid(g @ weight)
    explicit_up = torch.autograd.grad(functional.cross_entropy(a, task().train_y), for_up)
    loss = functional.binary_cross_entropy_with_logits(g, x.flatten(1))
    explicit_down = torch.autograd.grad(loss, for_down)
    assert torch.allclose(down, loss)
    for summed, one, other in zip(both, explicit_up, explicit_down, strict=True):
        assert torch.allclose(summed, one + other, atol=1e-12)


def test_the_prototype_of_a_threshold_unit_is_its_best_input() -> None:
    """For w in {-1, 1}^n: max(0, w) maximises w.x over {0, 1}^n, and f(w o) of the unit's output gives it back."""
    inputs = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)))
    for signs in itertools.product([-1.0, 1.0], repeat=5):
        layer = SharedAffine((5,), 1)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([signs]))
            best = layer.weight[0].clamp(min=0)
            assert float(layer.up(best.unsqueeze(0))) == float(layer.up(inputs).max())
            output = torch.ones(1, 1)  # what the unit's threshold gives at its best input
            assert torch.equal((layer.down(output)[0] > 0).float(), best)


def test_the_generator_alone_converges_to_the_class_means() -> None:
    """Soft-target cross-entropy of one layer: sigmoid(W e_c + b') is the mean image of class c, in closed form."""
    method, run = built(Bidirectional, hidden=[], lr_down=0.05)
    data = task(60)
    method.prepare(data, run)
    for lr in (0.05, 0.005, 0.0005):
        method.down.param_groups[0]["lr"] = lr  # type: ignore[attr-defined]
        for _ in range(500):
            method.step_down(data.train_x, data.train_y)
    means = torch.stack([data.train_x[data.train_y == label].mean(0) for label in range(CLASSES)])
    assert torch.allclose(method.generated(), means, atol=1e-4)


def test_each_step_is_an_adam_step_of_its_own_and_the_second_starts_where_the_first_ended() -> None:
    method, run = built(Bidirectional, iterations=1, rhythm=1, lr=1e-2, lr_down=1e-1)
    before = [weight.detach().clone() for weight in method.undirected.weights()]
    data = task()
    method.fit(data, run)
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(0)))
    index = torch.randperm(20, generator=torch.Generator().manual_seed(seed))[:5]
    x, y = data.train_x[index], data.train_y[index]
    network = undirected()
    for weight, value in zip(network.weights(), before, strict=True):
        weight.data.copy_(value)
    for lr, loss in (
        (1e-2, lambda: functional.cross_entropy(network(x), y)),
        (1e-1, lambda: functional.binary_cross_entropy_with_logits(network.generate(torch.eye(CLASSES)[y]), x)),
    ):
        gradients = torch.autograd.grad(loss(), list(network.weights()))
        for weight, gradient in zip(network.weights(), gradients, strict=True):
            weight.data -= lr * gradient / (gradient.abs() + 1e-8)  # Adam's first step
    for ours, theirs in zip(method.undirected.weights(), network.weights(), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("learning", ["bp", "bl", "bl_then_bp"])
@pytest.mark.parametrize("kind", [Bidirectional, HybridAdversarial])
@pytest.mark.parametrize("convolutions", [False, True])
def test_without_bias_all_biases_stay_zero(kind: type[SharedWeights], learning: str, convolutions: bool) -> None:
    shape = CONVOLUTIONS if convolutions else {}
    own = {"batch_norm": True} if kind is HybridAdversarial and convolutions else {}
    method, run = built(kind, bias=False, learning=learning, **shape, **own)
    before = {name: value.clone() for name, value in method.model.state_dict().items()}
    judge = [p.detach().clone() for p in method.discriminator.parameters()] if kind is HybridAdversarial else []  # type: ignore[attr-defined]
    method.fit(task(), run)
    for name, value in method.model.state_dict().items():
        if name.startswith("layers"):
            assert not torch.equal(value, before[name])
        elif name.endswith("bias"):
            assert not value.any()
        elif name.endswith("norm.weight"):
            assert bool((value == 1).all())
    if judge:
        moved = [not torch.equal(p, old) for p, old in zip(method.discriminator.parameters(), judge, strict=True)]  # type: ignore[attr-defined]
        assert all(moved) == any(moved) == (learning != "bp")


@pytest.mark.parametrize("kind", [Bidirectional, HybridAdversarial])
def test_modes_say_when_the_generator_learns(kind: type[SharedWeights]) -> None:
    """Its own biases move with it; in the second half of bl_then_bp they stand still."""

    def down(learning: str, iterations: int) -> list[Tensor]:
        method, run = built(kind, learning=learning, iterations=iterations)
        method.fit(task(), run)
        return [parameter.detach().clone() for parameter in method.undirected.after_down.parameters()]

    assert not any(bias.any() for bias in down("bp", 6))
    half, whole = down("bl", 3), down("bl_then_bp", 6)
    assert all(bias.any() for bias in half)
    assert all(torch.equal(one, other) for one, other in zip(half, whole, strict=True))


def test_classifiers_step_leaves_the_generators_own_parameters_alone_and_the_other_way_round() -> None:
    method, run = built(HybridAdversarial, **CONVOLUTIONS, batch_norm=True)
    method.up = method.adam(method.trained(method.undirected.after_up), 1e-3)
    method.prepare(task(), run)
    x, y = task().train_x, task().train_y
    for step, moves, stays in (
        (method.step_up, "after_up", "after_down"),
        (method.step_down, "after_down", "after_up"),
    ):
        before = {name: value.clone() for name, value in method.model.named_parameters()}
        step(x, y)
        after = dict(method.model.named_parameters())
        assert all(torch.equal(before[name], after[name]) for name in after if name.startswith(stays))
        assert not all(torch.equal(before[name], after[name]) for name in after if name.startswith(moves))


def test_directions_have_batch_normalisation_where_the_paper_has_it() -> None:
    method, _ = built(HybridAdversarial, **CONVOLUTIONS, batch_norm=True)
    network = method.undirected
    assert [after.norm is not None for after in network.after_up] == [False, True, False, False]
    assert [after.norm is not None for after in network.after_down] == [False, False, True, True]
    assert [module.eps for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)] == [
        1e-5
    ] * 3


def test_learning_rates_decay_together() -> None:
    method, run = built(Bidirectional, lr=3e-3, lr_down=3e-2, decay=2000.0, lr_end=1e-4)
    method.up = method.adam(method.trained(method.undirected.after_up), 1.0)
    method.prepare(task(), run)
    for iteration, expected in ((0, 3e-3), (2000, 1e-4 + 2.9e-3 / 2.718281828), (10**6, 1e-4)):
        method.learning_rates(iteration)
        assert method.up.param_groups[0]["lr"] == pytest.approx(expected)
        assert method.down.param_groups[0]["lr"] == pytest.approx(10 * expected)  # type: ignore[attr-defined]


def test_normalised_datasets_are_brought_back_to_pixels() -> None:
    """Attacks and targets live in [0, 1]: the numbers don't depend on the dataset's mean and std."""
    plain, normalised = in_unit_range(task()), in_unit_range(task(low=-0.4, high=2.8))
    assert torch.allclose(plain.train_x, normalised.train_x, atol=1e-6)
    assert (float(normalised.low), float(normalised.high)) == (0.0, 1.0)


def test_batch_statistics_are_those_of_the_test_set_and_leave_the_checkpoint_alone() -> None:
    method, run = built(HybridAdversarial, **CONVOLUTIONS, batch_norm=True, test_statistics="batch")
    before = {name: value.clone() for name, value in method.model.state_dict().items()}
    metrics = method.evaluate(task(), run)
    assert all(torch.equal(value, before[name]) for name, value in method.model.state_dict().items())
    expected = method.model.train()(task().test_x)
    assert torch.allclose(run.saved["predictions"]["score"], expected)
    assert {"test_acc", "noisy_acc", "fgsm_acc", "fgsm_stuck", "pgd_acc", "sigmoid_rate", "softmax_rate"} <= set(
        metrics
    )


def test_the_best_validation_needs_validation_images() -> None:
    method, run = built(Bidirectional, keep="best")
    with pytest.raises(BadInput, match="val_size"):
        method.fit(task(), run)


def test_a_convolution_of_two_numbers_is_refused() -> None:
    with pytest.raises(BadInput, match="kernel, channels, stride"):
        built(Bidirectional, convolutions=[[3, 4]])


def test_batches_of_a_stream_depend_on_their_number_alone() -> None:
    from runner.methods.ops.minibatches import stream

    data, draw = task(), torch.Generator()
    whole = [y for _, y in stream(data, 6, 0, 10, 7, draw)]
    parts = [y for first in range(0, 10, 2) for _, y in stream(data, 6, first, first + 2, 7, draw)]
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))
    assert all(len(y) == 6 for y in whole)
    images = torch.cat([x for x, _ in stream(data, 6, 0, 10, 7, draw)])
    for one_pass in images.split(20):  # 60 images: three orders of all twenty
        assert len(one_pass.flatten(1).unique(dim=0)) == 20


def test_statistics_of_one_image_are_refused() -> None:
    with pytest.raises(BadInput, match="batch_size"):
        built(HybridAdversarial, **CONVOLUTIONS, batch_norm=True, batch_size=1)
