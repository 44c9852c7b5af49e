"""Making runs exist: once, again, explained, referred to, evaluated, failed, limited."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from runner.store.records import Record, Records
from runner.store.writer import artifact
from tests.conftest import Result

Cli = Callable[..., Result]


def store() -> Records:
    return Records(f"sqlite:///{os.environ['RUNNER_HOME']}/mlflow.db", "runner")


def only() -> Record:
    (record,) = store().all()
    return record


def kept(record: Record, name: str, folder: Path) -> Path:
    return artifact(store().uri, record.run_id, name, folder)


def test_a_finished_run_is_not_run_again(cli: Cli, toy: list[str]) -> None:
    first = cli(*toy)
    assert first.status == 0
    assert "toy on toy_data: test_acc " in first.out
    assert f"recorded as run {only().run_id[:8]}" in first.out
    again = cli(*toy)
    assert again.status == 0
    assert f"finished before: run {only().run_id[:8]}" in again.out


def test_rerun_runs_again_and_the_newer_run_counts(cli: Cli, toy: list[str]) -> None:
    cli(*toy)
    first = only()
    assert "recorded as run" in cli(*toy, "rerun=true").out
    newer, older = store().all()
    assert older.run_id == first.run_id
    assert [record.run_id for record in store().finished().values()] == [newer.run_id]
    assert older.metrics["test_acc"] == newer.metrics["test_acc"]


def test_same_seed_gives_the_same_bits(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    cli(*toy)
    cli(*toy, "rerun=true")
    one, other = store().all()
    for name in ("layer1/loss", "layer2/loss", "layer2/val_acc", "test_acc"):
        assert one.metrics[name] == other.metrics[name]
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    these, those = (kept(record, "model.pt", tmp_path / str(n)) for n, record in enumerate((one, other), start=1))
    weights, others = torch.load(these, weights_only=True), torch.load(those, weights_only=True)
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_everything_is_recorded(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    cli(*toy)
    record = only()
    assert record.status == "FINISHED"
    for metric in ("test_acc", "fit_seconds", "inference_seconds", "parameters", "peak_memory_bytes"):
        assert record.metrics[metric] > 0
    assert record.metrics["saved_activation_bytes/layer1"] > 0
    for tag in ("runner.key", "runner.code", "runner.machine", "runner.overrides", "mlflow.source.git.commit"):
        assert record.tags[tag]
    splits = np.load(kept(record, "splits.npz", tmp_path))
    assert sorted(np.concatenate([splits["train"], splits["val"], splits["test"]])) == list(range(60))
    predictions = np.load(kept(record, "predictions.npz", tmp_path))
    assert np.array_equal(predictions["index"], splits["test"])
    assert "lr: 0.05" in kept(record, "config.yaml", tmp_path).read_text()
    assert '"torch"' in kept(record, "environment.json", tmp_path).read_text()
    assert kept(record, "history/metrics.jsonl", tmp_path).read_text().count("\n") == 2 * 6 + 2 * 3 + 2
    assert torch.load(kept(record, "model.pt", tmp_path), weights_only=True)
    attempts = Path(os.environ["RUNNER_HOME"]) / "attempts"
    assert list(attempts.iterdir()) == []


def test_explain_names_the_fields_that_differ(cli: Cli, toy: list[str]) -> None:
    assert "no finished run to compare with" in cli("--explain", *toy).out
    cli(*toy)
    cli(*toy, "seed=1")
    told = cli("--explain", *toy, "method.lr=0.01").out
    assert "differs from the nearest finished run" in told
    assert "method.lr: 0.01 here, 0.05 there" in told
    assert "not new: finished as run" in cli("--explain", *toy).out


def test_a_run_whose_code_changed_is_stale(cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from runner import code_fingerprint

    cli(*toy)
    assert "stale" not in cli(*toy).out
    monkeypatch.setattr(code_fingerprint, "of_sections", lambda config: "other")
    assert "stale: the code has changed since" in cli(*toy).out
    assert cli("clean", "--stale").out.endswith("1 runs would be removed; add --yes to do it\n")


def test_code_fingerprint_follows_imports_of_the_method_and_no_other(toy: list[str]) -> None:
    from runner.code_fingerprint import CORE, reachable

    files = reachable((*CORE, "runner.methods.graph.backprop"))
    assert {"runner.execute", "runner.loops", "runner.contracts", "runner.methods.graph.backprop"} <= files.keys()
    away = ("runner.commands", "runner.api", "runner.sweep", "runner.tables")
    assert not any("forwardgnn" in module or module.startswith(away) for module in files)


def test_a_referenced_run_is_made_first_and_handed_over(cli: Cli, toy: list[str]) -> None:
    command = ["method=student", *toy[1:]]
    assert cli(*command).status == 0
    student, teacher = store().all()
    assert (student.tags["runner.method"], teacher.tags["runner.method"]) == ("student", "toy")
    assert student.metrics["teacher_acc"] == teacher.metrics["test_acc"]
    assert student.metrics["weight"] > 0
    assert cli(*command, "method.scale=2").status == 0
    assert len(store().all()) == 3  # the teacher exists
    by_id = cli(*command, "method.scale=3", f"method.teacher=id:{teacher.run_id}")
    assert by_id.status == 0
    assert len(store().all()) == 4


def test_evaluate_needs_no_training(cli: Cli, toy: list[str]) -> None:
    cli(*toy)
    trained = only()
    result = cli("mode=evaluate", f"run={trained.run_id[:8]}")
    assert result.status == 0, result.err
    evaluated, _ = store().all()
    assert evaluated.tags["runner.kind"] == "evaluate"
    assert evaluated.metrics["test_acc"] == trained.metrics["test_acc"]
    assert "fit_seconds" not in evaluated.metrics
    assert "finished before" in cli("mode=evaluate", f"run={trained.run_id[:8]}").out


@pytest.mark.parametrize(("fault", "reason"), [("nan", "layer1/loss is nan at epoch 3"), ("error", "ValueError")])
def test_a_failed_run_ends_with_status_1_and_its_reason(
    fault: str, reason: str, cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOY_FAULT", f"{fault}:3")
    result = cli(*toy)
    assert result.status == 1
    assert reason in result.err
    assert "Traceback" not in result.err
    assert only().status == "FAILED"
    assert reason in only().tags["runner.reason"]
    assert "in fit" in kept(only(), "traceback.txt", tmp_path).read_text()
    monkeypatch.delenv("TOY_FAULT")
    assert cli(*toy).status == 0  # a failed run is not a finished one
    assert [record.status for record in store().all()] == ["FINISHED", "FAILED"]
    assert cli("clean", "--yes").status == 0
    assert only().status == "FINISHED"


def test_limit_makes_a_smoke_run_that_is_marked(cli: Cli, toy: list[str]) -> None:
    assert "[unofficial: limit=2]" in cli(*toy, "limit=2").out
    assert only().metrics["epochs/layer1"] == 2
    assert only().tags["runner.unofficial"] == "limit=2"


def test_time_budget_ends_the_loops(cli: Cli, toy: list[str]) -> None:
    begun = time.perf_counter()
    assert cli(*toy, "method.epochs=1000", "method.epoch_seconds=0.05", "time_budget=0.5").status == 0
    assert time.perf_counter() - begun < 20
    assert only().metrics["epochs/layer1"] < 30
    assert only().tags["runner.unofficial"] == "time_budget=0.5"


def test_two_processes_make_one_run(cli: Cli, toy: list[str], child: Callable[..., object]) -> None:
    command = [*toy, "method.epoch_seconds=0.1"]
    both = [child(*command, wait=False) for _ in range(2)]
    for process in both:
        process.join()  # type: ignore[attr-defined]
    assert [process.exitcode for process in both] == [0, 0]  # type: ignore[attr-defined]
    assert only().status == "FINISHED"


def test_show_and_diff(cli: Cli, toy: list[str]) -> None:
    cli(*toy)
    cli(*toy, "method.lr=0.01", "seed=3")
    newer, older = store().all()
    shown = cli("show", newer.run_id[:6]).out
    assert "FINISHED" in shown
    assert "runner method=toy" in shown
    assert "unchanged since" in shown
    told = cli("diff", newer.run_id, older.run_id).out
    assert "method.lr" in told
    assert "seed" in told
    assert "test_acc" in told
    assert newer.run_id[:8] in cli("list", "runs").out


def test_doctor_finds_this_machine_well(cli: Cli) -> None:
    result = cli("doctor")
    assert "torch 2." in result.out
    assert "store" in result.out


def test_memo_computes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.run import Run

    monkeypatch.setenv("RUNNER_DATA", str(tmp_path))

    class Here:
        device = torch.device("cpu")

    calls = []

    def compute() -> torch.Tensor:
        calls.append(1)
        return torch.arange(3)

    for content in ({"a": 1}, {"a": 1}, {"a": 2}):
        assert torch.equal(Run.memo(Here(), "powers", content, compute), torch.arange(3))  # type: ignore[arg-type]
    assert len(calls) == 2
