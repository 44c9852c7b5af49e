"""The target through the command line: training in 16 bits, costs of any run, what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from runner.contracts import Workload
from runner.methods.hardware.pulp import emit
from runner.methods.hardware.pulp.arithmetic import Arithmetic
from runner.methods.hardware.pulp.formats import FORMATS
from runner.methods.hardware.pulp.layers import layers
from runner.methods.learning_rules.ccl.alignment import linear_cka
from runner.store.records import Record, Records
from tests.conftest import Result
from tests.methods.test_pulp_cycles import target

Cli = Callable[..., Result]
DIGITS = ["dataset=digits", "model.hidden=[32]", "model.activation=relu", "method.epochs=3", "method.batch_size=20"]


def records() -> list[Record]:
    return Records(f"sqlite:///{Path(os.environ['RUNNER_HOME'])}/mlflow.db", "runner").all()


def metrics(cli: Cli, *arguments: str) -> dict[str, float]:
    """Of the run that these arguments make."""
    result = cli(*arguments, "hardware=pulp_8core", "progress=false")
    assert result.status == 0, result.err
    return max(records(), key=lambda record: record.start_ms).metrics


@pytest.mark.parametrize("method", ["backprop_image", "fa", "dfa", "drtp"])
def test_learning_rules_train_in_sixteen_bits(method: str, cli: Cli) -> None:
    found = metrics(cli, f"method={method}", *DIGITS)
    assert found["test_acc"] > 0.5
    assert 0 < found["lost_updates"] < 0.5
    assert found["macs"] == 3 * 64 * 32 + 3 * 32 * 10 - 64 * 32
    assert found["macs_per_cycle"] == pytest.approx(found["macs"] / found["cycles"])
    assert found["milliseconds"] == pytest.approx(found["cycles"] / 370e3)


@pytest.mark.parametrize(
    "line",
    [
        ["model=perceptron", "model.hidden=[32,24]", "model.activation=relu"],
        ["model=cnn_pool", "model.channels=[4,6,8]"],
    ],
)
def test_a_watched_step_of_back_propagation_costs_what_the_network_says(line: list[str], cli: Cli) -> None:
    """Two ways to the same figure: the products that were made, and the layers of the network."""
    found = metrics(cli, "method=backprop_image", "dataset=digits", *line, "method.epochs=1")
    assert found["training_macs"] == found["macs"]
    assert found["training_cycles"] == pytest.approx(found["cycles"] - 20 * 10, rel=1e-12)  # less the loss


def test_rules_are_priced_by_their_own_products(cli: Cli) -> None:
    layers = [(64, 32), (32, 24), (24, 10)]
    up = sum(inputs * outputs for inputs, outputs in layers)
    found = {
        rule: metrics(cli, f"method={rule}", "dataset=digits", "model.hidden=[32,24]", "method.epochs=1")
        for rule in ("backprop_image", "fa", "dfa", "pepita_image")
    }
    assert found["fa"]["training_macs"] == found["backprop_image"]["training_macs"] == 2 * up + 32 * 24 + 24 * 10
    assert found["fa"]["training_cycles"] < found["backprop_image"]["training_cycles"]  # no weights to transpose
    assert found["dfa"]["training_macs"] == 2 * up + (32 + 24) * 10
    # up, the error onto the image, up again but for the last layer, weight gradients
    assert found["pepita_image"]["training_macs"] == 3 * up + 64 * 10 - 24 * 10


def test_binary_layers_learn_in_the_step_that_is_priced(cli: Cli) -> None:
    few = ["model=perceptron", "model.hidden=[16,16]", "method.lr=0.01", "dataset=digits", "method.epochs=1"]
    found = [metrics(cli, f"method={name}", *few)["training_macs"] for name in ("biper", "sign_ste", "backprop_image")]
    assert len(set(found)) == 1


def test_quantisation_errors_are_measured_beyond_the_format(cli: Cli) -> None:
    few = ["method=biper", "model=perceptron", "model.hidden=[16,16]", "method.lr=0.01", "dataset=digits"]
    found = metrics(cli, *few, "method.epochs=1", "method.stage2_epochs=1")
    assert found["laplace_error/1"] == pytest.approx(1, abs=0.02)
    assert 0 < found["quantisation_error"] < 0.2


def test_activations_are_counted_in_numbers_of_the_target(cli: Cli) -> None:
    line = ["method=backprop_image", "dataset=digits", "model.hidden=[32]", "method.epochs=3"]
    half = metrics(cli, *line)["saved_activation_bytes"]
    whole = metrics(cli, *line, "hardware.numerics=float32")["saved_activation_bytes"]
    assert 1.5 < whole / half <= 2  # classes and masks are no numbers


def test_fewer_bits_lose_more_updates(cli: Cli) -> None:
    lost, right = {}, {}
    for numerics in ("float32", "binary16", "bfloat16"):
        found = metrics(cli, "method=backprop_image", *DIGITS, f"hardware.numerics={numerics}")
        lost[numerics], right[numerics] = found["lost_updates"], found["test_acc"]
    assert lost["float32"] < 0.01 < lost["binary16"] < lost["bfloat16"]
    assert right["float32"] > 0.85
    assert abs(right["binary16"] - right["float32"]) < 0.03
    assert right["bfloat16"] > right["float32"] - 0.1


def test_a_run_repeats_its_bits(cli: Cli) -> None:
    line = ["method=backprop_image", *DIGITS, "limit=1", "hardware.numerics=bfloat16", "rerun=true"]
    one, other = (metrics(cli, *line) for _ in range(2))
    timed = ("_seconds", "peak_memory_bytes")
    assert {name: value for name, value in one.items() if not name.endswith(timed)} == {
        name: value for name, value in other.items() if not name.endswith(timed)
    }


def test_the_cost_of_a_network_that_is_not_trained(cli: Cli) -> None:
    found = metrics(cli, "method=hardware_cost", "dataset=workload_speech", "model=ds_cnn")
    assert found["macs"] == 7_650_304
    assert found["macs_per_cycle"] == pytest.approx(0.81, rel=0.3)
    assert found["parameters"] * 4 == found["model_bytes"]
    assert "lost_updates" not in found
    assert list(Path(os.environ["RUNNER_HOME"]).rglob("cycles.svg"))
    steps = [found[f"cycles/{part}"] for part in ("forward", "weight", "input", "update")]
    assert sum(steps) == pytest.approx(found["cycles"])


def test_published_figures_imply_a_clock(cli: Cli) -> None:
    published = ["method.published_macs_per_cycle=3.11", "method.published_milliseconds=17.1"]
    found = metrics(cli, "method=hardware_cost", "dataset=workload_image", *published)
    assert found["macs"] / found["macs_per_mhz"] == pytest.approx(697, abs=0.5)
    half = cli("method=hardware_cost", "dataset=workload_image", "hardware=pulp_8core", published[0])
    assert (half.status, half.err.count("\n")) == (2, 1)
    assert "go together" in half.err


def test_the_papers_full_scale_starts(cli: Cli) -> None:
    """Kernels tuned a layer and pass; in training their choice decides the order of sums."""
    planned = cli("reproduce", "paper=fp16-mcu-odl", "scale=full", "dry_run=true")
    assert (planned.status, "hardware.kernel=fastest" in planned.out) == (0, True)
    full = ["hardware=pulp_8core", "hardware.kernel=fastest"]
    tuned = metrics(cli, "method=hardware_cost", "dataset=workload_image", *full)
    assert tuned["cycles"] <= metrics(cli, "method=hardware_cost", "dataset=workload_image")["cycles"]
    assert metrics(cli, "method=backprop_image", *DIGITS, *full, "limit=1")["test_acc"] > 0.2


def cost_of(cli: Cli, *arguments: str) -> str:
    """What ``runner show`` says instead of cycles."""
    assert not {"cycles", "macs", "milliseconds"} & metrics(cli, *arguments).keys()
    run = max(records(), key=lambda record: record.start_ms).run_id
    (told,) = [line for line in cli("show", run).out.splitlines() if line.startswith("no_cost")]
    return told


def test_a_network_that_takes_more_than_a_sample_has_no_cost(cli: Cli, toy: list[str]) -> None:
    """A graph's: the metrics are absent, not 0."""
    assert "takes more than one sample" in cost_of(cli, *toy, "hardware.numerics=bfloat16")


SMALL = ["dataset=digits", "dataset.train_size=100", "dataset.test_size=50", "limit=1"]


def test_what_is_no_single_pass_has_no_cost(cli: Cli) -> None:
    assert "without a forward pass" in cost_of(
        cli, "method=forward_forward", *SMALL, "model.hidden=[8]", "method.optimizer=sgd"
    )


def test_a_cost_is_of_all_products_or_told_to_be_none(cli: Cli) -> None:
    """Binary layers multiply by weights of their own making: the layers' sizes alone would be too small a figure."""
    told = cost_of(cli, "method=sign_ste", *SMALL, "model.hidden=[8,8]")
    assert f"the kernels know {64 * 8 + 8 * 10} of the {64 * 8 + 8 * 8 + 8 * 10} multiply-accumulates" in told


def test_faults_of_a_network_are_not_swallowed() -> None:
    class Faulty(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise TypeError("a fault of the network")

    hardware = target()
    with hardware.entered(), pytest.raises(TypeError, match="a fault of the network"):
        hardware.cost(Faulty(), Workload(name="any", fingerprint="", input_shape=(3,), num_classes=2))


@pytest.mark.parametrize("method", ["forward_forward", "bidirectional"])
def test_an_optimiser_whose_eps_is_nothing_is_refused(method: str, cli: Cli) -> None:
    """In bfloat16 it is a number: the same run is made."""
    line = ["dataset=digits", f"method={method}", "hardware=pulp_8core", "limit=1", "progress=false"]
    line += ["model.hidden=[8]"] if method == "forward_forward" else ["method.rhythm=3", "method.pgd_steps=0"]
    result = cli(*line)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "Adam's eps=1e-08 is 0 in this format" in result.err
    assert cli(*line, "hardware.numerics=bfloat16").status == 0


def test_a_step_of_adam_has_no_bound_where_its_second_moment_is_nothing() -> None:
    """What is refused: gradients of 1e-4, whose squares are 0 in binary16, and a step of 1e-3 that moves by 1e3."""
    moves = {}
    for name in FORMATS:
        weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = torch.optim.Adam([weight], lr=1e-3, fused=True)
        with Arithmetic(FORMATS[name], lambda _: "naive", transpose=True):
            for gradient in (1e-4, 0.0):
                before, weight.grad = weight.detach().clone(), torch.full_like(weight, gradient)
                optimizer.step()
        moves[name] = abs(float(weight.detach() - before))
    assert moves["bfloat16"] < 2e-3
    assert moves["binary16"] > 1


def test_parts_keep_their_modes() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.train()
    model[1].eval()
    layers(model, torch.zeros(1, 3))
    assert [part.training for part in model.modules()] == [True, True, False]


def test_other_processes_know_nothing_of_the_format(cli: Cli) -> None:
    result = cli("method=noprop_dt", *SMALL, "method.workers=2", "method.batch_size=50", "hardware=pulp_8core")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "take method.workers=1" in result.err


@pytest.mark.parametrize("method", ["backprop_image", "fa", "dfa", "pepita_image"])
def test_flops_are_those_of_the_processor(method: str, cli: Cli) -> None:
    """Counted by a mode on top of the emulation's."""
    line = [f"method={method}", *DIGITS, "limit=1"]
    emulated = metrics(cli, *line)
    assert cli(*line, "progress=false").status == 0
    (plain,) = [record for record in records() if record.tags["runner.hardware"] == "cpu"]
    assert emulated["training_flops"] == plain.metrics["training_flops"]
    if method == "backprop_image":
        assert emulated["training_flops"] == 2 * emulated["macs"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("hardware.numerics=float8", "expected one of float32, binary16, bfloat16"),
        ("hardware.precision=float32", "hardware.numerics chooses"),
        ("hardware.fpus=9", "there are 8 cores"),
        ("hardware.layout=NHWC", "expected one of CHW, HWC"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(override: str, told: str, cli: Cli) -> None:
    result = cli("method=hardware_cost", "dataset=workload_image", "hardware=pulp_8core", override)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert told in result.err


def test_a_layer_beyond_l1_is_told(cli: Cli) -> None:
    result = cli("method=hardware_cost", "dataset=workload_image", "hardware=pulp_8core", "hardware.l1_bytes=1000")
    assert result.status == 1
    assert "hardware.l1_bytes=… gives more" in result.out + result.err


def test_emission_without_tools_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert emit.main(["4", "4", "4", "--source", "4x8"]) == 0
    assert "matmul" in capsys.readouterr().out
    monkeypatch.setenv("PATH", "")
    assert emit.main(["4", "4", "4"]) == 1
    assert capsys.readouterr().err.endswith("apt-get install clang-16 lld-16 qemu-system-misc\n")


@pytest.mark.parametrize("method", ["noprop_dt", "noprop_backprop"])
def test_shares_of_images_are_no_numbers_of_the_format(method: str, cli: Cli) -> None:
    """Accuracies are counts over counts; with 8 bits 0.43 would be 0.4296875."""
    few = [
        "method.optimizer=sgd",
        "dataset.val_size=100",
        "method.batch_size=50",
        "method.blocks=2",
        "method.inference_runs=1",
    ]
    found = metrics(cli, f"method={method}", *SMALL, *few, "hardware.numerics=bfloat16")
    shares = {name: 100 * value for name, value in found.items() if name.startswith(("test_acc", "val_acc"))}
    assert shares.keys() >= {"test_acc", "val_acc", "test_acc_nearest/block1"}
    assert shares == pytest.approx({name: round(value) for name, value in shares.items()}, abs=1e-9)


def test_losses_are_summed_beyond_the_format(cli: Cli) -> None:
    """0.69 an image, summed in 8 bits, stops at 128 of 256 steps or earlier: the mean would be too small."""
    line = ["method=sign_ste", "dataset=digits", "model.hidden=[8,8]", "limit=1", "method.batch_size=1"]
    losses = {}
    for numerics in ("float32", "bfloat16"):
        found = metrics(cli, *line, "method.lr=1e-6", f"hardware.numerics={numerics}", "dataset.train_size=600")
        losses[numerics] = found["train/loss"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)


def test_alignment_is_measured_beyond_the_format() -> None:
    """Sums of squares over images and widths pass 65504, and a share of infinity would be 0."""
    with target().entered():
        x = 5 * torch.randn(400, 64)
        assert linear_cka(x, x) == pytest.approx(1, abs=1e-5)


def test_a_plots_bars_are_the_cycles_of_layers_and_passes() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    task = Workload(name="any", fingerprint="", input_shape=(8,), num_classes=4)
    hardware = target()
    with hardware.entered():
        hardware.adapt(model)
        found, (axes,) = hardware.cost(model, task), hardware.plots(model, task)["cycles"].axes
    drawn = [sum(bar.get_width() for bar in bars) for bars in axes.containers]
    assert drawn == pytest.approx([found[f"cycles/{step}"] for step in ("forward", "weight", "input")])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1"]
    assert axes.containers[2][0].get_width() == 0  # the first layer has no input gradient
    rates = [float(text.get_text()) for text in axes.texts]
    assert rates == pytest.approx([found[f"macs_per_cycle/layer/{name}"] for name in "01"], abs=0.005)
    parts = nn.ModuleList([nn.Linear(8, 4)])
    with hardware.entered():
        assert hardware.plots(parts, task) == {}
