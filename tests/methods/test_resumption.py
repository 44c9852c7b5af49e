"""Real methods, killed half-way and repeated, end with the bits of an undisturbed run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.store.records import Record, Records

COMMANDS = {
    "backprop": ["method=backprop", "method.epochs=30"],
    "forwardgnn": ["method=forwardgnn", "method.epochs=15"],
    "forwardgnn_ff": ["method=forwardgnn_ff", "method.epochs=8"],
    "forwardgnn_topdown": ["method=forwardgnn_topdown", "method.epochs=12"],
    "forwardgnn_topdown to_loss": ["method=forwardgnn_topdown", "method.variant=to_loss", "method.epochs=20"],
    "forwardgnn_link": ["method=forwardgnn_link", "method.epochs=8"],
    "pepita": ["method=pepita", "method.epochs=30"],
    "practical_attack": ["method=practical_attack", "method.epochs=30", "method.strategies=[rwcs]", "method.curve=[]"],
    "init_backprop": ["method=init_backprop", "method.epochs=30", "model.init=virgo"],
}
COMMANDS = {name: [*line, "dataset=cora", "model.num_layers=2"] for name, line in COMMANDS.items()}
COMMANDS |= {
    "noprop_dt": ["method=noprop_dt", "dataset=digits", "method.epochs=6"],
    "noprop_ct": ["method=noprop_ct", "dataset=digits", "method.epochs=10", "method.inference_steps=5"],
    "biper": ["method=biper", "dataset=digits", "method.epochs=4", "method.stage2_epochs=3"],
    "biper, stage 2": [
        "method=biper",
        "dataset=digits",
        "method.epochs=2",
        "method.stage2_epochs=4",
        "method.keep=best",
    ],
    "irnet": ["method=irnet", "dataset=digits", "method.epochs=4"],
    "forward_forward": ["method=forward_forward", "dataset=digits", "method.epochs=20", "model.hidden=[50,50]"],
}
KILLED_AFTER = {"biper, stage 2": "stage2.pt"}
"""The snapshot after which a run is killed, where it isn't the first one."""


def only(home: Path) -> Record:
    (record,) = Records(f"sqlite:///{home}/mlflow.db", "runner").all()
    return record


def numerics(record: Record) -> dict[str, float]:
    """All but costs: saved activations are measured in a loop's first three epochs, which may lie before the kill."""
    costs = ("saved_", "fit_", "inference_", "upload_", "peak_")
    return {name: value for name, value in record.metrics.items() if not name.startswith(costs)}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_run_ends_bit_equal(name: str, child: Callable[..., object], tmp_path: Path) -> None:
    command = [*COMMANDS[name], "progress=false", "checkpoint.every=0"]
    assert child(*command, RUNNER_HOME=str(tmp_path / "undisturbed")) == 0
    process = child(*command, wait=False)
    snapshots = Path(os.environ["RUNNER_HOME"]) / "attempts"
    deadline = time.monotonic() + 120
    while not list(snapshots.glob(f"*/snapshots/{KILLED_AFTER.get(name, '*.pt')}")):
        assert process.is_alive(), "it ended before it could be killed"  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()  # type: ignore[attr-defined]
    process.join()  # type: ignore[attr-defined]
    assert child(*command) == 0
    resumed = only(tmp_path / "runs")
    assert resumed.status == "FINISHED"
    assert numerics(resumed) == numerics(only(tmp_path / "undisturbed"))
