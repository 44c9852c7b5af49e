"""A paper's tables: reproduced, filled from the store, judged, written, moved to another store."""

from __future__ import annotations

import csv
import io
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import registry
from runner.errors import BadInput
from runner.store.records import Records
from runner.tables import measured as measuring
from runner.tables import paper, render
from tests.conftest import Result

Cli = Callable[..., Result]
QUIET = "progress=false"


def store(home: str | None = None) -> Records:
    return Records(f"sqlite:///{home or os.environ['RUNNER_HOME']}/mlflow.db", "runner")


def test_a_paper_from_nothing_to_its_tables(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    empty = cli("table", "paper=toy")
    assert empty.status == 0
    assert "not measured" in empty.out
    dry = cli("reproduce", "paper=toy", "dry_run=true").out
    assert "0 of 15 runs exist; 15 would run" in dry
    assert "time unknown" in dry
    assert store().finished() == {}

    made = cli("reproduce", "paper=toy", QUIET)
    assert made.status == 0, made.err
    assert "15 runs: 0 existed, 15 made, 0 failed" in made.out
    assert "next: runner table paper=toy scale=cpu" in made.out
    assert "15 runs: 15 existed, 0 made, 0 failed" in cli("reproduce", "paper=toy", QUIET).out
    full = cli("reproduce", "paper=toy", "scale=full", "dry_run=true").out
    assert "0 of 15 runs exist" not in full  # the columns' own epochs stand behind the scale's
    assert "15 of 15 runs exist; 0 would run" in full

    shown = cli("table", "paper=toy")
    assert shown.status == 0
    assert "accuracies are in percent at lr 0.01" in shown.out
    assert "does not hold" in shown.out
    written = cli("table", "paper=toy", f"write={tmp_path / 'results'}")
    assert len(written.out.split()) == 4
    text = (tmp_path / "results" / "toy.md").read_text()
    assert text == cli("table", "paper=toy", "format=md").out
    check_figures(text, json.loads((tmp_path / "results" / "toy.json").read_text()))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results" / "toy.csv").read_text())))
    assert len(rows) == 5
    assert r"\begin{tabular}" in (tmp_path / "results" / "toy.tex").read_text()
    check_transfer(cli, tmp_path)


def check_figures(text: str, data: dict[str, object]) -> None:
    finished = store().finished().values()
    chosen = [run for run in finished if run.metrics["epochs/layer1"] == 2]
    by_lr = {"lr 0.01": [], "lr 0.05": []}  # type: dict[str, list[float]]
    for run in chosen:
        lr = json.loads(run.tags["runner.deciding"])["method"]["lr"]
        by_lr[f"lr {lr}"].append(100 * run.metrics["test_acc"])
    for row, values in by_lr.items():
        (cell,) = [c for c in data["cells"] if (c["row"], c["column"]) == (row, "short")]  # type: ignore[attr-defined]
        assert cell["n"] == 3
        assert cell["mean"] == pytest.approx(statistics.fmean(values))
        assert cell["std"] == pytest.approx(statistics.stdev(values))
        assert f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}" in text
    (cell,) = [c for c in data["cells"] if (c["row"], c["column"]) == ("lr 0.01", "short")]  # type: ignore[attr-defined]
    assert cell["difference"] == pytest.approx(cell["mean"] - 50)
    (cell,) = [c for c in data["cells"] if (c["row"], c["column"]) == ("lr 0.05", "short")]  # type: ignore[attr-defined]
    assert cell["difference"] is None  # another toy: no difference column is shared
    assert "(50.00)" in text
    assert "In brackets: another toy." in text
    verdicts = {claim["text"]: claim["verdict"] for claim in data["claims"]}  # type: ignore[attr-defined]
    assert verdicts["long is a hundred points above short"] == "does not hold"
    assert verdicts["accuracies are in percent at lr 0.05"] == "holds"
    assert text.index("does not hold") < text.index("| holds |")  # failing claims first
    assert "unsound: nothing" in text


def check_transfer(cli: Cli, tmp_path: Path) -> None:
    file, home = tmp_path / "runs.zip", tmp_path / "colleague"
    assert "15 runs written" in cli("export", str(file)).out
    assert "15 runs added" in cli("import", str(file), f"home={home}").out
    assert "0 runs added" in cli("import", str(file), f"home={home}").out
    ours, theirs = store().finished(), store(str(home)).finished()
    assert ours.keys() == theirs.keys()
    for key, run in ours.items():
        assert theirs[key].metrics == run.metrics
        assert theirs[key].tags["runner.overrides"] == run.tags["runner.overrides"]
    assert "15 runs: 15 existed" in cli("reproduce", "paper=toy", QUIET, f"home={home}").out
    (record, *_) = theirs.values()
    assert cli("mode=evaluate", f"run={record.run_id}", f"home={home}").status == 0  # the weights came along


def test_a_file_of_no_runs_is_told(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("no zip")
    result = cli("import", str(tmp_path / "x.zip"))
    assert (result.status, "not a file of exported runs" in result.err) == (2, True)
    assert cli("import", str(tmp_path / "y.zip")).status == 2
    assert cli("export", str(tmp_path / "z.zip")).status == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["table"], "which paper? paper=…"),
        (["table", "paper=forwardgn"], "no paper 'forwardgn'; did you mean 'forwardgnn'?"),
        (["table", "paper=toy", "format=pdf"], "format=pdf: expected one of md, tex, csv, json"),
        (["reproduce", "paper=toy", "scale=huge"], "no scale 'huge'"),
        (["reproduce", "paper=toy", "tables=accu"], "did you mean 'acc'?"),
        (["reproduce", "paper=toy", "dry_run=maybe"], "expected one of true, false"),
        (["reproduce", "paper=toy", "method.nope=1"], "unknown key 'method.nope'"),
        (["cite", "toy"], "not of the form key=value"),
    ],
)
def test_bad_words_are_told(arguments: list[str], told: str, cli: Cli, toy: list[str]) -> None:
    result = cli(*arguments)
    assert result.status == 2
    assert told in result.err


def test_cite(cli: Cli) -> None:
    assert "Park, Namyong" in cli("cite", "paper=forwardgnn").out


@pytest.mark.parametrize("name", registry.choices("paper"))
def test_every_shipped_paper_composes(name: str) -> None:
    """At the scale of a processor; `runner validate`, a part of `make lint`, composes the others too."""
    expanded = paper.load(name, "cpu")
    assert all(cell.metric for cell in expanded.cells.values())
    assert measuring.measure(expanded).values.keys() == expanded.cells.keys()


def test_wrong_places_in_a_paper_are_told(tmp_path: Path, toy: list[str]) -> None:
    folder = tmp_path / "conf" / "paper"
    folder.mkdir(parents=True)
    good = registry.choices("paper")["toy"].read_text()
    wrong = {
        "cell": good.replace('"lr 0.01": {short', '"lr 0.02": {short'),
        "claim": good.replace("[lr 0.05, long]", "[lr 0.05, longer]"),
        "field": good.replace("method.lr={lr}", "method.lr={rate}"),
        "key": good.replace("varies:", "vary:"),
    }
    for name, text in wrong.items():
        assert text != good
        (folder / f"wrong_{name}.yaml").write_text(text)
    registry.include(str(tmp_path))
    for name in wrong:
        with pytest.raises(BadInput):
            paper.load(f"wrong_{name}").cells  # noqa: B018


def value(*figures: float) -> measuring.Value:
    cell = paper.Cell("t", "r", "c", (), "m", None)
    return measuring.Value(cell, (), dict(enumerate(figures)))


def test_paired_difference_is_that_of_scipy() -> None:
    from scipy import stats

    one, other = value(3.0, 2.0, 4.0, 3.5), value(2.5, 2.1, 3.0, 3.0)
    pair = measuring.paired(one, other)
    assert pair is not None
    assert pair.p == pytest.approx(stats.ttest_rel(list(one.values.values()), list(other.values.values())).pvalue)
    assert pair.low <= pair.mean <= pair.high
    assert pair.n == 4
    assert measuring.paired(value(1.0, 2.0), value(1.0, 2.0)) is None


def test_quotients_of_metrics() -> None:
    assert measuring._metric("fit_seconds / epochs", {"fit_seconds": 3.0, "epochs": 6}) == 0.5
    assert measuring._metric("fit_seconds / epochs", {"fit_seconds": 3.0}) is None
    assert measuring._metric("absent", {}) is None


def test_latex_is_escaped() -> None:
    assert "50 % ± 1_x".translate(render.LATEX_ESCAPES) == r"50 \% $\pm$ 1\_x"
