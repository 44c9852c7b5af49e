"""What a training step costs, through the command line: activations that a rule holds, operations that it makes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.store.records import Records
from tests.conftest import Result

Cli = Callable[..., Result]


def metrics(cli: Cli, *arguments: str) -> dict[str, float]:
    """Of the run that these arguments make."""
    result = cli(*arguments, "dataset=digits", "method.epochs=3", "method.batch_size=50", "progress=false")
    assert result.status == 0, result.err
    store = Records(f"sqlite:///{Path(os.environ['RUNNER_HOME'])}/mlflow.db", "runner").all()
    return max(store, key=lambda record: record.start_ms).metrics


@pytest.mark.parametrize("method", ["backprop_image", "fa", "dfa"])
def test_a_step_holds_what_all_layers_gave(method: str, cli: Cli) -> None:
    """A rule in closed form saves nothing for autograd, and holds as much as back-propagation."""
    few = metrics(cli, f"method={method}", "model.hidden=[64]")["step_bytes"]
    many = metrics(cli, f"method={method}", "model.hidden=[64,64,64,64,64]")["step_bytes"]
    assert many - few >= 4 * 64 * 50 * 4  # four more activations of 64 numbers for 50 images, in float32
    assert many - few < 3 * 4 * 64 * 50 * 4


def test_noprops_blocks_do_not_add_up(cli: Cli) -> None:
    few, many = (metrics(cli, "method=noprop_dt", f"method.blocks={blocks}") for blocks in (2, 5))
    assert many["step_bytes"] == pytest.approx(few["step_bytes"], abs=100)  # scalars
    assert many["training_flops"] / few["training_flops"] == pytest.approx(2.5, rel=1e-9)


def test_costs_leave_the_model_as_it_was(cli: Cli) -> None:
    """Batch norm's statistics above all: an evaluation of the checkpoint gives the same figures again."""
    result = cli("method=noprop_backprop", "dataset=digits", "method.epochs=1", "progress=false")
    assert result.status == 0, result.err
    store = Records(f"sqlite:///{Path(os.environ['RUNNER_HOME'])}/mlflow.db", "runner").all()
    (first,) = store
    again = cli("mode=evaluate", f"run={first.run_id}", "progress=false")
    assert again.status == 0, again.err
    store = Records(f"sqlite:///{Path(os.environ['RUNNER_HOME'])}/mlflow.db", "runner").all()
    second = max(store, key=lambda record: record.start_ms)
    assert second.metrics["test_acc"] == first.metrics["test_acc"]
