"""Runs on a crossbar from the command line: any rule, resumption, refusal, artefacts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.methods.test_resumption import numerics, only

Cli = Callable[..., Result]
ON_DIGITS = [
    "hardware=synapse_crossbar",
    "dataset=digits",
    "model.hidden=[32]",
    "model.activation=clip",
    "model.bias=false",
    "method.epochs=5",
    "method.batch_size=10",
    "method.lr=10",
    "method.clip=null",
    "method.keep=last",
    "progress=false",
]


@pytest.mark.parametrize("method", ["backprop_image", "fa", "dfa", "drtp"])
def test_every_rule_learns_digits_by_pulses(method: str, cli: Cli, tmp_path: Path) -> None:
    assert cli(f"method={method}", *ON_DIGITS).status == 0
    record = only(tmp_path / "runs")
    assert record.metrics["test_acc"] > 0.7
    assert 0 < record.metrics["pulses_per_synapse_update"] <= 1
    assert record.metrics["refreshes"] > 0
    assert record.metrics["parameters"] == record.metrics["synapses"] == 64 * 32 + 32 * 10
    assert list(tmp_path.rglob("response.svg"))


def test_software_has_no_pulses_to_report(cli: Cli, tmp_path: Path) -> None:
    assert cli("method=backprop_image", *ON_DIGITS, "hardware.scheme=software", "method.lr=0.1").status == 0
    metrics = only(tmp_path / "runs").metrics
    assert metrics["test_acc"] > 0.7
    assert not {"pulses", "refreshes", "saturation_share"} & set(metrics)


def test_a_network_without_linear_layers_is_refused_in_one_line(cli: Cli) -> None:
    result = cli("method=forwardgnn", "dataset=cora", "model=gcn", "hardware=synapse_crossbar", "progress=false")
    assert result.status == 2
    assert "no linear layer to put on a crossbar" in result.err
    assert result.err.count("\n") == 1


def refusal(cli: Cli, *arguments: str) -> str:
    """The one line that tells why these arguments make no run on a crossbar."""
    result = cli(*arguments, "dataset=digits", "hardware=synapse_crossbar", "progress=false")
    assert (result.status, result.err.count("\n")) == (2, 1), result.err
    return result.err


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_changes_too_small_for_any_pulse_are_refused(epochs: int, optimizer: str, cli: Cli) -> None:
    """At the end of a short run, after 100 steps of a longer one: the arrays would stay as they were drawn."""
    small = ["model.hidden=[16]", f"method.epochs={epochs}", "method.lr=0.001", f"method.optimizer={optimizer}"]
    told = refusal(cli, "method=backprop_image", *small, "method.batch_size=20")
    assert f"no synapse got a pulse in {65 if epochs == 1 else 101} steps" in told
    assert "hardware.threshold=0.3" in told
    assert "hardware.rule=stochastic" in told


def test_adam_learns_by_pulses_where_the_rule_takes_small_changes(cli: Cli, tmp_path: Path) -> None:
    adam = [line for line in ON_DIGITS if "lr" not in line] + ["method.optimizer=adam", "method.lr=0.003"]
    assert cli("method=backprop_image", *adam, "hardware.rule=stochastic").status == 0
    assert only(tmp_path / "runs").metrics["test_acc"] > 0.7


def test_weights_that_are_not_computed_with_are_refused(cli: Cli) -> None:
    """Latent weights of binary layers: what an array gives is no bit."""
    assert "computes with a function of them" in refusal(cli, "method=sign_ste", "model.hidden=[16,16]", "limit=1")


def test_a_network_of_its_methods_own_is_refused(cli: Cli) -> None:
    assert "no linear layer to put on a crossbar" in refusal(cli, "method=bidirectional", "limit=1")


def test_other_processes_know_nothing_of_the_arrays(cli: Cli) -> None:
    told = refusal(cli, "method=noprop_dt", "method.workers=2", "limit=1")
    assert "take method.workers=1" in told


def test_a_killed_run_ends_bit_equal(child: Callable[..., object], tmp_path: Path) -> None:
    noisy = [f"hardware.{kind}=0.2" for kind in ("gain_spread", "step_spread", "nonlinearity_spread", "pulse_noise")]
    command = ["method=backprop_image", *ON_DIGITS, "hardware.rule=stochastic", "method.lr=0.1", *noisy]
    command += ["method.epochs=8", "checkpoint.every=0"]
    assert child(*command, RUNNER_HOME=str(tmp_path / "undisturbed")) == 0
    process = child(*command, wait=False)
    snapshots = Path(os.environ["RUNNER_HOME"]) / "attempts"
    deadline = time.monotonic() + 120
    while not list(snapshots.glob("*/snapshots/*.pt")):
        assert process.is_alive(), "it ended before it could be killed"  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()  # type: ignore[attr-defined]
    process.join()  # type: ignore[attr-defined]
    assert child(*command) == 0
    resumed = only(tmp_path / "runs")
    assert resumed.status == "FINISHED"
    assert numerics(resumed) == numerics(only(tmp_path / "undisturbed"))
    assert resumed.metrics["pulses"] > 0


@pytest.mark.parametrize("experiment", ["synapse_adaptive_rule", "synapse_adaptive_rule_full"])
def test_the_papers_settings_start(experiment: str, cli: Cli) -> None:
    small = [f"dataset.{split}_size=100" for split in ("train", "val", "test")]
    result = cli(f"+experiment={experiment}", "limit=1", *small, "progress=false")
    if "can't be had" in result.err:
        pytest.skip(f"no MNIST here: {result.err}")
    assert result.status == 0, result.err
    assert "pulses" in result.out
