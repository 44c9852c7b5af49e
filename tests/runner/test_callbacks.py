"""Callbacks hear of a run under any launcher, enter no key, and can't harm it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.store.records import Record, Records
from tests.conftest import Result

Cli = Callable[..., Result]


def diary(file: Path) -> str:
    return f"+callbacks.diary={{_target_: toy_callbacks.Diary, path: {file}}}"


def vandal(raises: str) -> str:
    return f"+callbacks.vandal={{_target_: toy_callbacks.Vandal, raises: {raises}}}"


def heard(file: Path) -> list[list[Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def finished(home: str | None = None) -> list[Record]:
    return list(Records(f"sqlite:///{home or os.environ['RUNNER_HOME']}/mlflow.db", "runner").finished().values())


def test_a_callback_hears_of_start_epochs_and_end(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    file = tmp_path / "diary"
    result = cli(*toy, "seed=3", diary(file))
    assert result.status == 0, result.err
    (record,) = finished()
    start, *epochs, end = heard(file)
    choices = {"method": "toy", "dataset": "toy_data", "model": "none", "hardware": "cpu"}
    assert start == ["start", record.key, "toy on toy_data", choices, record.run_id, 3, 0.05]
    assert [tuple(event[1:4]) for event in epochs] == [
        (f"layer{layer}", epoch, 6) for layer in (1, 2) for epoch in range(1, 7)
    ]
    histories = Records(f"sqlite:///{os.environ['RUNNER_HOME']}/mlflow.db", "runner").histories([record.run_id])
    for name in ("loss", "val_acc"):
        for loop in ("layer1", "layer2"):
            told = [(e[2], e[4][name]) for e in epochs if e[1] == loop and name in e[4]]
            assert told == histories[record.run_id][f"{loop}/{name}"]
    assert end[:2] == ["end", "finished"]
    assert end[2]["test_acc"] == record.metrics["test_acc"]
    assert end[3] == ""


def test_callbacks_enter_no_key_and_existing_runs_call_nobody(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    assert cli(*toy).status == 0
    assert "finished before" in cli(*toy, diary(tmp_path / "diary")).out
    assert not (tmp_path / "diary").exists()


def test_a_watched_run_is_repeated_and_evaluated_without_its_watcher(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    cli(*toy, diary(tmp_path / "diary"))
    (record,) = finished()
    assert "callbacks" not in record.tags["runner.overrides"]
    before = heard(tmp_path / "diary")
    assert cli("mode=evaluate", f"run={record.run_id}").status == 0
    assert heard(tmp_path / "diary") == before


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_callbacks_hear_of_a_sweep(launcher: str, cli: Cli, toy: list[str], tmp_path: Path) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    line = f"+callbacks.diary={{_target_: toy_callbacks.Diary, path: '{tmp_path}/diary${{seed}}'}}"
    home = f"home={tmp_path}/runs"  # in words: joblib's workers outlive a test, and so does their environment
    result = cli("-m", *toy, "seed=0,1", line, f"hydra/launcher={launcher}", home)
    assert result.status == 0, result.err
    for seed in (0, 1):
        start, *_, end = heard(tmp_path / f"diary{seed}")
        assert (start[5], end[1]) == (seed, "finished")


@pytest.mark.parametrize("raises", ["start", "epoch", "end", "never"])
def test_a_callback_can_not_harm_its_run(raises: str, cli: Cli, toy: list[str], tmp_path: Path) -> None:
    cli(*toy, f"home={tmp_path / 'alone'}")
    result = cli(*toy, vandal(raises), diary(tmp_path / "diary"))
    assert result.status == 0
    told = f"callback 'vandal' raised RuntimeError: at {raises}, on two lines; this run goes on without it\n"
    assert result.err.count("vandal") == (0 if raises == "never" else 1)
    assert raises == "never" or told in result.err
    (watched,), (alone,) = finished(), finished(str(tmp_path / "alone"))
    assert watched.key == alone.key
    for name in ("layer1/loss", "layer2/loss", "layer2/val_acc", "between2", "test_acc"):
        assert watched.metrics[name] == alone.metrics[name]
    events = heard(tmp_path / "diary")
    assert len(events) == 2 + 12
    assert "loss" in events[1][4]
    assert events[-1][2]["test_acc"] == alone.metrics["test_acc"]


def test_ends_that_are_no_success_are_heard_of(
    cli: Cli, toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*toy, "checkpoint.every=0", diary(tmp_path / "diary")]
    monkeypatch.setenv("TOY_FAULT", "error:2")
    assert cli(*command).status == 1
    assert heard(tmp_path / "diary")[-1][1:2] == ["failed"]
    assert heard(tmp_path / "diary")[-1][3] == "ValueError: asked for"
    monkeypatch.setenv("TOY_FAULT", "int:9")
    assert cli(*command).status == 130
    assert heard(tmp_path / "diary")[-1][1:] == ["killed", heard(tmp_path / "diary")[-1][2], "interrupted"]
    killed = len(heard(tmp_path / "diary"))
    monkeypatch.delenv("TOY_FAULT")
    assert cli(*command).status == 0
    resumed = [event[1:3] for event in heard(tmp_path / "diary")[killed:] if event[0] == "epoch"]
    assert resumed == [["layer2", epoch] for epoch in range(3, 7)]  # the ninth epoch is layer 2's third


def test_a_callback_that_can_not_be_built_is_left_out(cli: Cli, toy: list[str]) -> None:
    result = cli(*toy, "+callbacks.x={_target_: toy_callbacks.Unbuildable, reason: no disk}")
    assert result.status == 0
    assert "callback 'x' raised OSError: no disk; this run goes on without it" in result.err


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("{_target_: toy_callbacks.Diary, pth: x}", "unknown key 'callbacks.x.pth'; did you mean 'path'?"),
        ("{_target_: toy_callbacks.Diary}", "'callbacks.x.path' is missing"),
        ("{_target_: toy_callbacks.Diary, path: 3}", "callbacks.x.path=3: expected str, got int"),
        ("{_target_: toy_callbacks.Diary, path: ''}", "callbacks: path must be given"),
        ("{_target_: toy_callbacks.Stranger, number: 3}", "is no subclass of runner.callbacks.Callback"),
        ("{_target_: toy_callbacks.Nobody}", "no class 'Nobody'"),
        ("{_target_: nowhere.Nobody}", "module 'nowhere' can't be found"),
        ("{_target_: 3}", "callbacks.x._target_=3: expected str"),
        ("{path: y}", "callbacks.x: it needs a _target_"),
        ("3", "callbacks"),
    ],
)
def test_a_wrong_callback_is_told(section: str, told: str, cli: Cli, toy: list[str]) -> None:
    result = cli(*toy, f"+callbacks.x={section}")
    assert result.status == 2
    assert told in result.err
    assert result.err.count("\n") == 1
    assert finished() == []


def test_a_config_group_of_ones_own_names_callbacks(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    from runner import registry

    (tmp_path / "my" / "conf" / "callbacks").mkdir(parents=True)
    yaml = f"diary: {{_target_: toy_callbacks.Diary, path: {tmp_path}/diary}}\n"
    (tmp_path / "my" / "conf" / "callbacks" / "diary.yaml").write_text(yaml)
    registry.include(str(tmp_path / "my"))
    assert cli(*toy, "+callbacks=diary").status == 0
    assert heard(tmp_path / "diary")[-1][1] == "finished"
