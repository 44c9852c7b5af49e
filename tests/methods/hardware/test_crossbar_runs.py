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
    assert record.metrics["parameters"] == 64 * 32 + 32 * 10
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
