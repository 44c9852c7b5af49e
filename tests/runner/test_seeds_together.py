"""Seeds trained in one pass: each its own run, the same as one by one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.methods.graph.backprop_together import BackpropTogether
from runner.store.records import KEY_TAG, Record
from tests.conftest import Result
from tests.runner.test_resume import curves
from tests.runner.test_sweeps import runs

Cli = Callable[..., Result]
CELL = ["method=backprop", "dataset=toy_data", "progress=false", "model.hidden_channels=8", "method.patience=4"]
SWEEP = ["-m", *CELL, "method.epochs=40", "method.validate_every=1", "seed=range(5)"]
AT_ONCE = "seeds_at_once=3"


def uri() -> str:
    return f"sqlite:///{os.environ['RUNNER_HOME']}/mlflow.db"


def by_seed() -> dict[str, Record]:
    found = {record.tags["runner.seed"]: record for record in runs() if record.status == "FINISHED"}
    assert len(found) == sum(record.status == "FINISHED" for record in runs())
    return found


def curve(record: Record, name: str) -> list[float]:
    return [value for _, value in curves(uri(), record.run_id)[name]]


@pytest.fixture
def one_by_one(cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Figures of a sweep without the option, in a store of its own: its keys, and its curves by seed."""

    def made(*arguments: str) -> dict[str, tuple[str, dict[str, list[tuple[int, float]]], dict[str, float]]]:
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("RUNNER_HOME", str(tmp_path / "alone"))
            result = cli(*arguments)
            assert result.status == 0, result.err
            return {
                seed: (record.tags[KEY_TAG], curves(uri(), record.run_id), record.metrics)
                for seed, record in by_seed().items()
            }

    return made


@pytest.mark.parametrize("model", ["gcn", "sage", "gcn_dropout"])
def test_each_seed_is_its_own_run_and_the_same_as_alone(
    model: str, cli: Cli, toy: list[str], one_by_one: Callable[..., Any]
) -> None:
    sweep = [*SWEEP, f"model={model}"]
    alone = one_by_one(*sweep)
    result = cli(*sweep, AT_ONCE)
    assert result.status == 0, result.err
    assert "5 runs: 0 existed, 5 made, 0 failed" in result.out
    found = by_seed()
    assert found.keys() == alone.keys()
    for seed, record in found.items():
        key, expected, metrics = alone[seed]
        assert record.tags[KEY_TAG] == key
        assert record.tags["runner.together"] == ("3" if int(seed) < 3 else "2")
        for name in ("train/loss", "train/val_loss"):
            ours = curve(record, name)[:10]
            assert ours == pytest.approx([value for _, value in expected[name]][: len(ours)], abs=1e-5)
        assert record.metrics["saved_activation_bytes"] == metrics["saved_activation_bytes"]
        assert abs(record.metrics["test_acc"] - metrics["test_acc"]) <= 0.1  # of 20 test nodes, two
    again = cli(*sweep)
    assert "5 runs: 5 existed, 0 made, 0 failed" in again.out
    assert len(runs()) == 5


def test_seeds_stop_at_epochs_of_their_own(cli: Cli, toy: list[str]) -> None:
    result = cli(*SWEEP, "seeds_at_once=5")
    assert result.status == 0, result.err
    epochs = {seed: record.metrics["epochs"] for seed, record in by_seed().items()}
    assert len(set(epochs.values())) > 1
    for seed, record in by_seed().items():
        scores = curve(record, "train/val_acc")
        assert len(scores) == epochs[seed]
        best = scores.index(max(scores)) + 1
        assert epochs[seed] in (40, best + 4)
        assert record.metrics["val_acc"] == pytest.approx(max(scores))  # the best state is what is evaluated


def test_a_method_without_the_ability_says_so_and_makes_the_same(
    cli: Cli, toy: list[str], one_by_one: Callable[..., Any]
) -> None:
    alone = one_by_one("-m", *toy, "seed=range(3)")
    result = cli("-m", *toy, "seed=range(3)", AT_ONCE)
    assert result.err.count("seeds_at_once: the method trains its runs one by one") == 1
    assert {seed: (record.tags[KEY_TAG], record.metrics["layer2/loss"]) for seed, record in by_seed().items()} == {
        seed: (key, metrics["layer2/loss"]) for seed, (key, _, metrics) in alone.items()
    }


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["model=gat", "seed=0,1"], "a GATBlock is trained alone"),
        (["method.lr=${seed}", "seed=1,2"], "lr or weight_decay differ"),
    ],
    ids=["network", "options"],
)
def test_seeds_that_do_not_fit_are_made_one_by_one(
    words: list[str], reason: str, cli: Cli, toy: list[str], one_by_one: Callable[..., Any]
) -> None:
    sweep = ["-m", *CELL, "method.epochs=3", *words]
    alone = one_by_one(*sweep)
    result = cli(*sweep, AT_ONCE)
    assert result.status == 0, result.err
    assert f"seeds_at_once: one by one, {reason}" in result.err
    for seed, record in by_seed().items():
        assert curves(uri(), record.run_id) == alone[seed][1]  # to the bit: its random numbers are its own


def test_a_seed_that_fails_stops_no_other(cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    step = BackpropTogether.step

    def diverges(self: BackpropTogether, numbers: list[int]) -> None:
        step(self, numbers)
        if 1 in numbers:
            self._turns[1].loss = float("nan")

    monkeypatch.setattr(BackpropTogether, "step", diverges)
    result = cli(*SWEEP, "seeds_at_once=5")
    assert result.status == 1
    assert "5 runs: 0 existed, 4 made, 1 failed" in result.out
    assert "train/loss is nan at epoch 2" in result.err
    assert sorted(by_seed()) == ["0", "2", "3", "4"]


def test_a_step_that_fails_fails_all_that_wait_for_it(
    cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: BackpropTogether, numbers: list[int]) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(BackpropTogether, "step", fails)
    result = cli(*SWEEP, "seeds_at_once=5")
    assert result.status == 1
    assert "5 runs: 0 existed, 0 made, 5 failed" in result.out
    assert "MemoryError: no room" in result.err


def test_a_cell_that_stands_twice_is_made_once(cli: Cli, toy: list[str]) -> None:
    result = cli("-m", *CELL, "method.epochs=3", "seed=0,1,0", AT_ONCE)
    assert result.status == 0, result.err
    assert sorted(by_seed()) == ["0", "1"]


@pytest.mark.parametrize("again", [["seeds_at_once=5"], []], ids=["together", "one by one"])
def test_a_killed_pass_goes_on(again: list[str], cli: Cli, toy: list[str], child: Callable[..., Any]) -> None:
    command = [*SWEEP[:-1], "seed=range(5)", "method.epochs=60", "method.patience=1000", "checkpoint.every=0"]
    process = child(*command, "seeds_at_once=5", wait=False)
    snapshots = Path(os.environ["RUNNER_HOME"]) / "attempts"
    deadline = time.monotonic() + 120
    while len(list(snapshots.glob("*/snapshots/train.pt"))) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.join()
    begun = {record.run_id for record in runs()}
    assert len(begun) == 5
    result = cli(*command, *again)
    assert result.status == 0, result.err
    assert {record.run_id for record in runs()} == begun  # they went on; none was begun anew
    assert sorted(by_seed()) == ["0", "1", "2", "3", "4"]
    for record in runs():
        assert [step for step, _ in curves(uri(), record.run_id)["train/loss"]] == list(range(1, 61))
    assert "5 existed" in cli(*command).out


def test_a_pass_that_is_interrupted_leaves_killed_runs(cli: Cli, toy: list[str], child: Callable[..., Any]) -> None:
    command = [*SWEEP[:-1], "seed=range(3)", "method.epochs=2000", "method.patience=10000", "checkpoint.every=0"]
    process = child(*command, AT_ONCE, wait=False)
    snapshots = Path(os.environ["RUNNER_HOME"]) / "attempts"
    deadline = time.monotonic() + 120
    while len(list(snapshots.glob("*/snapshots/train.pt"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    process.join()
    assert [record.status for record in runs()] == ["KILLED"] * 3


@pytest.mark.parametrize("words", [["seeds_at_once=0"], ["seeds_at_once=many"]])
def test_a_wrong_number_is_told(words: list[str], cli: Cli, toy: list[str]) -> None:
    result = cli(*SWEEP, *words)
    assert result.status == 2
    assert "seeds_at_once=" in result.err


def test_eight_seeds_of_cora(cli: Cli) -> None:
    """The folds are five; three cells are told to be wrong, and the others made."""
    words = ["-m", "method=backprop", "dataset=cora", "seed=range(8)", "seeds_at_once=8", "limit=4", "progress=false"]
    result = cli(*words, "dataset.split=uniform")
    assert result.status == 0, result.err
    assert "8 runs: 0 existed, 8 made, 0 failed" in result.out
    assert {record.tags["runner.together"] for record in runs()} == {"8"}
    result = cli(*words)
    assert result.status == 1
    assert "8 runs: 0 existed, 5 made, 3 failed" in result.out
