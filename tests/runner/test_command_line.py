"""What a user types, and what comes back: one line for every error, with the right exit status."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import registry
from tests.conftest import TOY, Result

Cli = Callable[..., Result]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["method=forwardgn", "dataset=cora"], "no method 'forwardgn'; did you mean 'forwardgnn'?"),
        (["method=forwardgnn", "dataset=kora"], "no dataset 'kora'; did you mean 'cora'?"),
        (["method=forwardgnn", "dataset=cora", "model=gccn"], "no model 'gccn'; did you mean 'gcn'?"),
        (["dataset=cora"], "choose a method: method=…"),
        (["method=forwardgnn"], "choose a dataset: dataset=…"),
        (["method=forwardgnn", "dataset=cora", "method.lrr=1"], "unknown key 'method.lrr'; did you mean 'method.lr'?"),
        (["method=forwardgnn", "dataset=cora", "+method.lrr=1"], "unknown key 'method.lrr'; did you mean 'lr'?"),
        (["method=forwardgnn", "dataset=cora", "sead=1"], "unknown key 'sead'; did you mean 'seed'?"),
        (["method=forwardgnn", "dataset=cora", "method.epochs=many"], "method.epochs='many': expected int, got str"),
        (["method=forwardgnn", "dataset=cora", "method.epochs='4'"], "method.epochs='4': expected int, got str"),
        (["method=forwardgnn", "dataset=cora", "method.epochs=true"], "method.epochs=True: expected int, got bool"),
        (["method=forwardgnn", "dataset=cora", "method.epochs=0"], "method.epochs=0: expected int >= 1"),
        (["method=forwardgnn", "dataset=cora", "method.lr=nan"], "method.lr=nan: expected a finite number"),
        (["method=forwardgnn", "dataset=cora", "method.append_label=al"], "expected one of none, input, all"),
        (["method=forwardgnn", "dataset=cora", "seed=-1"], "seed=-1: expected int >= 0"),
        (["method=forwardgnn", "dataset=cora", "method.lr={a:"], "runner: "),
        (["method=forwardgnn", "dataset=cora", "checkpoint.evry=1"], "unknown key 'checkpoint.evry'"),
        (["method=forwardgnn", "dataset=cora", "--nonsense"], "unknown option '--nonsense'"),
        (["method=forwardgnn", "dataset=file"], "'dataset.path' must be given"),
        (["method=forwardgnn", "dataset=cora", "run=abc"], "run=… goes with mode=evaluate"),
        (["method=forwardgnn", "dataset=cora", "mode=evaluate"], "mode=evaluate needs run=<id>"),
        (["mode=evaluate", "run=abc"], "no run 'abc'"),
        (["lsit"], "no command 'lsit'; did you mean 'list'?"),
        (["list", "metods"], "can't list 'metods'; did you mean 'methods'?"),
        (["show", "abc"], "no run 'abc'"),
        (["show"], "the following arguments are required: run"),
        (["data", "verify", "kora"], "no dataset 'kora'; did you mean 'cora'?"),
        (["ui", "--host", "0.0.0.0"], "add --public if that is meant"),
        (["ui", "--host", "::"], "add --public if that is meant"),
        (["ui", "--host="], "add --public if that is meant"),
        (["list", "runs", "method=x"], "home=… and tracking.uri=… can"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: list[str], told: str, cli: Cli) -> None:
    result = cli(*arguments)
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert result.err.startswith("runner: ")
    assert told in result.err


def test_hardware_that_is_not_there_is_told_before_data_is_loaded(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_DATA", "/nonexistent")
    result = cli("method=forwardgnn", "dataset=cora", "hardware=cuda", "hardware.device=cuda:17")
    assert result.status == 2
    assert "CUDA devices" in result.err


def test_method_that_cannot_take_the_task_names_datasets_that_fit(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "method"
    folder.mkdir(parents=True)
    text = (TOY / "conf" / "method" / "toy.yaml").read_text()
    (folder / "captioner.yaml").write_text(text.replace("NodeClassification", "Captioning"))
    registry.include(str(tmp_path))
    result = cli("method=captioner", "dataset=toy_data", "model=none")
    assert result.status == 2
    assert "method 'captioner' takes Captioning, dataset 'toy_data' gives NodeClassification" in result.err
    assert "datasets that fit: none" in result.err


def test_traceback_only_where_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in cli("method=nope", "dataset=cora").err
    monkeypatch.setenv("RUNNER_TRACEBACK", "")
    assert "Traceback" in cli("--traceback", "method=nope", "dataset=cora").err


def test_help_names_every_command(cli: Cli) -> None:
    from runner.cli import COMMANDS

    assert all(f"  {name} " in cli("--help").out for name in COMMANDS)
    assert cli().out == cli("--help").out
    for name in COMMANDS:
        try:
            assert cli(name, "--help").status == 0
        except SystemExit as left:  # argparse's way
            assert left.code == 0  # noqa: PT017


def test_cfg_job_shows_all_that_decides_a_run(cli: Cli) -> None:
    shown = cli("--cfg", "job", "method=forwardgnn", "dataset=cora", "method.lr=0.5").out
    for line in ("lr: 0.5", "num_layers: 2", "threads: 1", "seed: 0", "fold: ${seed}", "precision: float32"):
        assert line in shown


LIGHT = [
    ["--help"],
    ["list"],
    ["list", "datasets"],
    ["method=nope", "dataset=cora"],
    ["method=forwardgnn", "dataset=cora", "method.lrr=1"],
    ["method=forwardgnn", "dataset=cora", "method.epochs=many"],
    ["--cfg", "job", "method=forwardgnn", "dataset=cora"],
    ["--complete", "runner method=forwardgnn data"],
    ["list", "runs"],
]


@pytest.mark.parametrize("arguments", LIGHT)
def test_light_commands_import_neither_torch_nor_mlflow(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from runner import cli\n"
        f"cli.status({arguments!r})\n"
        "heavy = sorted({'torch', 'mlflow', 'torch_geometric', 'sklearn', 'numpy', 'pandas'} & sys.modules.keys())\n"
        "sys.exit(','.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_completion_offers_commands_options_choices_and_keys(cli: Cli) -> None:
    def offered(line: str) -> list[str]:
        return cli("--complete", line).out.split()

    assert {"list", "doctor"} <= set(offered("runner "))
    assert offered("runner dia") == []
    assert offered("runner diff")[0] == "diff"
    assert "--explain" in offered("runner --ex")
    assert "method=forwardgnn" in offered("runner method=f")
    assert "dataset=cora" in offered("runner method=forwardgnn dataset=cor")
    assert "model.num_layers=" in offered("runner method=forwardgnn dataset=cora model.num")
    assert "methods" in offered("runner list me")
    assert "cora" in offered("runner data verify co")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_back(shell: str, cli: Cli) -> None:
    assert "runner --complete" in cli("completion", shell).out


def test_bash_completes(cli: Cli, tmp_path: Path) -> None:
    runner = tmp_path / "runner"
    runner.write_text(f'#!/bin/sh\nexec {sys.executable} -m runner "$@"\n')
    runner.chmod(0o755)
    line = "runner method=forwardgnn dataset=cor"
    script = cli("completion", "bash").out + (
        f"PATH={tmp_path}:$PATH COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD=2\n"
        f"COMP_WORDS=({line})\n_runner\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    )
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True)
    assert {"dataset=cora", "dataset=cora_ml"} <= set(done.stdout.split()), done.stderr


def test_an_optional_launcher_names_its_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.errors import MissingConfigException

    from runner.compose import bad_input

    told = bad_input(MissingConfigException("Could not find 'hydra/launcher/joblib'", "x"), [])
    assert "pip install 'forward-runner[joblib]'" in str(told)


def test_validate_finds_all_shipped_yaml_sound(cli: Cli) -> None:
    """But the papers', all of whose cells test_tables.py composes."""
    result = cli("validate", "method", "dataset", "model", "hardware", "experiment")
    assert result.status == 0, result.err
    assert result.out.endswith(" 0 wrong\n")


@pytest.mark.parametrize(("what", "hint"), [("metod", "did you mean 'method'"), ("paper=forwardgn", "'forwardgnn'")])
def test_validate_names_the_nearest(cli: Cli, what: str, hint: str) -> None:
    result = cli("validate", what)
    assert result.status == 2
    assert hint in result.err


def test_validate_tells_what_is_wrong_in_an_included_yaml(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "conf" / "method"
    folder.mkdir(parents=True)
    (folder / "odd.yaml").write_text(
        "_target_: toy_methods.Toy\n_tasks_: [NodeClassification]\n_version_: 1\nlr: 0.1\n"
    )
    (folder / "broken.yaml").write_text("a: [1\n")
    result = cli("--include-path", str(tmp_path / "mine"), "validate", "method=odd", "method=broken", "paper=toy")
    assert "3 YAML files checked, 2 wrong" in result.out
    assert result.status == 2
    assert "odd.yaml: argument 'epoch_seconds' of toy_methods.Toy has no key" in result.err
    assert "broken.yaml" in result.err
