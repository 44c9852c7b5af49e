"""The Python interface is the command's engine: same runs, same errors, nothing printed."""

from __future__ import annotations

import os
import string
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runner
from runner import overrides
from runner.callbacks import Callback, WatchedRun
from runner.errors import BadInput
from tests.conftest import Result

Cli = Callable[..., Result]
TOY = {
    "method": "toy",
    "dataset": "toy_data",
    "model": "none",
    "hardware.threads": 1,
    "progress": False,
}


class Listener(Callback):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.epochs: list[tuple[str, int]] = []
        self.ends: list[str] = []

    def on_epoch(self, run: WatchedRun, loop: str, epoch: int, of: int, metrics: dict[str, float]) -> None:
        self.epochs.append((loop, epoch))

    def on_run_end(self, run: WatchedRun, status: str, metrics: dict[str, float], reason: str) -> None:
        self.ends.append(status)


def test_run_makes_what_the_command_makes(cli: Cli, toy: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    heard = Listener()
    result = runner.run(**TOY, callbacks=[heard], **{"method.lr": 0.01, "seed": 2})
    assert capfd.readouterr() == ("", "")
    assert (result.status, result.reason, result.stale) == ("finished", "", False)
    assert 0 <= result.metrics["test_acc"] <= 1
    assert result.config["method"]["lr"] == 0.01
    assert (len(heard.epochs), heard.ends) == (12, ["finished"])
    again = runner.run("method=toy", *toy[1:], "method.lr=0.01", "seed=2", callbacks=[heard])
    assert (again.status, again.run_id, again.key) == ("existing", result.run_id, result.key)
    assert again.metrics.items() >= result.metrics.items()
    assert heard.ends == ["finished"]
    assert "finished before" in cli(*toy, "method.lr=0.01", "seed=2").out
    assert str(again).startswith("toy on toy_data: existing  ")
    assert f"test_acc {100 * result.metrics['test_acc']:.2f} %" in str(again)


def test_a_failed_run_is_a_result(toy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAULT", "error:2")
    heard = Listener()
    result = runner.run(**TOY, callbacks=[heard])
    assert (result.status, result.reason, result.metrics.get("test_acc")) == ("failed", "ValueError: asked for", None)
    assert heard.ends == ["failed"]
    monkeypatch.delenv("TOY_FAULT")
    assert runner.run(**TOY).status == "finished"


def test_ctrl_c_is_pythons_own(toy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAULT", "int:3")
    with pytest.raises(KeyboardInterrupt):
        runner.run(**TOY)
    monkeypatch.delenv("TOY_FAULT")
    assert runner.run(**TOY).status == "finished"


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: runner.run(**TOY | {"method": "tox"}), "no method 'tox'; did you mean 'toy'?"),
        (lambda: runner.run(**TOY, **{"method.lrr": 1}), "unknown key 'method.lrr'; did you mean 'method.lr'?"),
        (lambda: runner.run(**TOY, **{"method.lr": "much"}), "method.lr='much'"),
        (lambda: runner.run(**TOY, **{"method.lr": object()}), "a config holds numbers"),
        (lambda: runner.run("--cfg"), "'--cfg' is no override"),
        (lambda: runner.run("toy"), "'toy' is no override"),
        (lambda: runner.run(["method=toy"]), "['method=toy'] is no override: each is an argument of its own"),
        (lambda: runner.sweep(("seed=0",)), "a list of them is unpacked"),
        (lambda: runner.sweep(**TOY, **{"method.lr": [0.1, "much"]}), "method.lr='much'"),
        (lambda: runner.table("tox"), "no paper 'tox'; did you mean 'toy'?"),
        (lambda: runner.table("toy", "huge"), "no scale 'huge'"),
    ],
)
def test_bad_input_is_raised_as_the_command_tells_it(call: Callable[[], Any], told: str, toy: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        call()
    assert told in str(caught.value)


def test_sweep_gives_a_row_a_cell(cli: Cli, toy: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    runner.run(**TOY, seed=1)
    frame = runner.sweep(**TOY, seed=range(2), **{"method.epochs": [2, 6]})
    assert capfd.readouterr() == ("", "")
    assert isinstance(frame, pd.DataFrame)
    assert list(zip(frame["seed"], frame["method.epochs"], strict=True)) == [(0, 2), (0, 6), (1, 2), (1, 6)]
    assert frame["status"].tolist() == ["finished", "finished", "finished", "existing"]
    assert frame["method"].unique().tolist() == ["toy"]
    assert frame["epochs/layer1"].tolist() == [2, 6, 2, 6]
    assert frame["test_acc"].between(0, 1).all()
    assert frame["run_id"].is_unique
    assert "4 runs: 4 existed" in cli("-m", *toy, "seed=range(2)", "method.epochs=2,6").out


def test_a_failed_cell_is_a_row(toy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAULT", "error:5")
    frame = runner.sweep(*toy, **{"method.epochs": [2, 3]})
    assert frame["status"].tolist() == ["finished", "failed"]
    assert frame["reason"].tolist() == ["", "ValueError: asked for"]
    assert frame["seed"].tolist() == [0, 0]
    assert frame["test_acc"].isna().tolist() == [False, True]


def test_table_is_that_of_the_command(cli: Cli, toy: list[str]) -> None:
    assert cli("reproduce", "paper=toy", "progress=false").status == 0
    table = runner.table("toy")
    assert str(table) == cli("table", "paper=toy", "format=md").out
    cells = table.cells.set_index(["row", "column"])
    assert cells.loc[("lr 0.05", "only"), "n"] == 3
    assert cells["published_mean"].tolist()[0] == 50
    claims = table.claims.set_index("name")
    assert claims.loc["unsound", "verdict"] == "does not hold"
    assert claims.loc["unsound", "paired_n"] == 3
    page = table._repr_html_()
    assert page.count("<table") == 2
    assert repr(table) == "<tables of toy at scale cpu, from 15 runs>"
    assert "Accuracy of toys, in %" in page
    assert runner.table("toy", home="elsewhere").cells["n"].sum() == 0


def test_it_works_outside_the_main_thread(toy: list[str]) -> None:
    results: list[runner.api.RunResult] = []  # type: ignore[name-defined]
    thread = threading.Thread(target=lambda: results.append(runner.run(**TOY)))
    thread.start()
    thread.join()
    assert [result.status for result in results] == ["finished"]


def test_import_runner_is_light_and_its_names_stay_functions(tmp_path: Path) -> None:
    code = """
import sys, runner
assert not {"torch", "mlflow", "pandas", "hydra", "numpy"} & sys.modules.keys()
from runner import run, sweep, table
assert not {"torch", "mlflow", "pandas"} & sys.modules.keys()
import runner.run, runner.sweep
from runner.run import Run
from runner import run as again
assert run is again is runner.run and callable(runner.sweep) and callable(table)
try:
    runner.nothing
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("module 'runner' has no attribute 'nothing'\n", "")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(string.ascii_lowercase, min_size=1).map("k".__add__), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(values)
def test_values_survive_the_way_through_overrides(value: Any) -> None:
    (line,) = overrides.of_keys({"method.key": value})
    assert overrides.as_keys([line]) == {"method.key": value}


@given(st.lists(st.text() | st.integers() | st.lists(st.integers(), max_size=2), min_size=2, max_size=4))
def test_a_list_is_a_sweep(items: list[Any]) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (line,) = overrides.of_sweep({"key": items})
    override = OverridesParser.create().parse_override(line)
    assert override.is_sweep_override()
    swept = [overrides.as_keys([f"key={text}"])["key"] for text in override.sweep_string_iterator()]
    assert swept == items


def test_paths_are_strings() -> None:
    assert overrides.of_keys({"home": Path(os.sep) / "a b"}) == [f"home='{os.sep}a b'"]
