"""Bidirectional learning and HAN as a user runs them: what is learned, what resists, resumption, full scale."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.store.records import Records
from tests.methods.test_resumption import numerics, only

SHORT = ["method.iterations=600", "method.rhythm=200"]
LEARNED = {"bidirectional": ["method.lr=1e-2"], "han": ["method.lr=1e-3"]}
CONVOLUTIONS = ["method.convolutions=[[4,4,2],[4,8,2]]", "method.hidden=[16]"]
KILLED = {
    "bidirectional": ["method.learning=bl_then_bp", "method.decay=50", "method.hidden=[8]", "method.keep=best"],
    "han": [*CONVOLUTIONS, "method.batch_norm=true", "method.test_statistics=batch", "method.keep=best_test"],
}


@pytest.mark.parametrize("method", sorted(LEARNED))
def test_digits_are_learned_and_attacked(method: str, cli: Any, tmp_path: Path) -> None:
    assert cli(f"method={method}", "dataset=digits", *LEARNED[method], *SHORT, "progress=false").status == 0
    metrics = only(tmp_path / "runs").metrics
    assert metrics["test_acc"] > 0.85
    assert metrics["fgsm_acc"] < metrics["test_acc"]
    assert 0 <= metrics["fgsm_stuck"] <= 1
    assert metrics["saved_activation_bytes"] > 0


def test_bidirectional_learning_resists_where_back_propagation_does_not(cli: Any, tmp_path: Path) -> None:
    """A smoke claim on digits at eps 0.2, no hidden layer: less clean accuracy, more under attack."""
    line = ["method=bidirectional", "dataset=digits", "method.eps=0.2", "method.iterations=1000", "progress=false"]
    line += ["method.lr=1e-2", "method.lr_down=1e-2"]
    assert cli("-m", *line, "method.learning=bp,bl").status == 0
    found = Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").finished().values()
    bp, bl = (record.metrics for record in sorted(found, key=lambda record: record.start_ms))
    assert bl["fgsm_acc"] > 1.2 * bp["fgsm_acc"]
    assert bl["test_acc"] < bp["test_acc"]


@pytest.mark.parametrize("method", sorted(KILLED))
def test_a_killed_run_ends_bit_equal(method: str, child: Callable[..., Any], tmp_path: Path) -> None:
    """Two networks, three optimisers, a stream of batches and drawn noise all go on where they were."""
    command = [f"method={method}", "dataset=digits", *KILLED[method], "method.iterations=120", "method.rhythm=8"]
    command += ["progress=false", "checkpoint.every=0"]
    assert child(*command, RUNNER_HOME=str(tmp_path / "undisturbed")) == 0
    process = child(*command, wait=False)
    deadline = time.monotonic() + 120
    while not list((Path(os.environ["RUNNER_HOME"]) / "attempts").glob("*/snapshots/*.pt")):
        assert process.is_alive(), "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.join()
    assert child(*command) == 0
    resumed = only(tmp_path / "runs")
    assert resumed.status == "FINISHED"
    assert numerics(resumed) == numerics(only(tmp_path / "undisturbed"))


@pytest.mark.parametrize("experiment", ["bidirectional_full", "bidirectional_cnn", "han_full", "han_cnn_full"])
def test_the_papers_settings_start(experiment: str, cli: Any, tmp_path: Path) -> None:
    line = [f"+experiment={experiment}", "dataset=digits", "dataset.test_size=40", "limit=1", "method.rhythm=2"]
    assert cli(*line, "progress=false").status == 0
    assert only(tmp_path / "runs").metrics["epochs/train"] == 1


def test_the_best_validation_without_validation_images_is_refused(cli: Any) -> None:
    result = cli("method=bidirectional", "dataset=digits", "dataset.val_size=0", "method.keep=best", "progress=false")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "dataset.val_size" in result.err
