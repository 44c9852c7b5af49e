"""The target through the command line: training in 16 bits, costs of any run, what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.methods.hardware.pulp import emit
from runner.store.records import Record, Records
from tests.conftest import Result

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


def test_a_network_that_takes_more_than_a_sample_has_no_cost(cli: Cli, toy: list[str]) -> None:
    """A graph's: the metrics are absent, not 0."""
    assert not {"cycles", "macs", "milliseconds"} & metrics(cli, *toy, "hardware.numerics=bfloat16").keys()


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
