"""The report's site without a browser: what is read, what is written, what can't get in."""

from __future__ import annotations

import json
import os
import re
import statistics
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.report import content, curves, quantities, views
from runner.store.records import Records
from tests.conftest import Result
from tests.runner.stores import SEEDS, build

Cli = Callable[..., Result]
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&</script>"


class Links(HTMLParser):
    """The targets of a page, and whether its scripts are only ours."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append((tag, given))
        self.targets += [given[name] or "" for name in ("href", "src") if name in given]


def home() -> Path:
    return Path(os.environ["RUNNER_HOME"])


def check_links(site: Path) -> None:
    """Every link leads to a file of the site; nothing leads to a network."""
    for page in site.rglob("*.html"):
        for target in Links(page.read_text()).targets:
            assert not re.match(r"(https?:)?//", target), (page, target)
            if not target.startswith(("#", "data:")):
                assert (page.parent / target.partition("#")[0]).is_file(), (page, target)


def test_a_store_without_runs_and_words_that_are_wrong_are_told(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    missing = cli("report")
    assert (missing.status, missing.err.count("\n")) == (2, 1)
    assert "no store at" in missing.err
    build(home(), 1)
    unknown = cli("report", "paper=toi")
    assert unknown.status == 2
    assert "did you mean 'toy'" in unknown.err
    assert cli("report", "one", "two").status == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("ten years")
    taken = cli("report", str(tmp_path / "mine"), "paper=toy")
    assert taken.status == 2
    assert "other content" in taken.err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "ten years"


def test_the_site_of_a_reproduced_paper(cli: Cli, toy: list[str]) -> None:
    assert cli("reproduce", "paper=toy", "progress=false").status == 0
    done = cli("report", "paper=toy")
    assert done.status == 0, done.err
    site = home() / "report"
    assert str(site / "index.html") in done.out
    check_links(site)
    index = (site / "index.html").read_text()
    assert "plotly" not in index
    assert "5 of 5 cells measured" in index
    page = (site / "papers" / "toy-cpu.html").read_text()
    assert page.index("does not hold") < page.index(">holds<")
    data = json.loads((site / "papers" / "toy-cpu.json").read_text())
    (cell,) = [cell for cell in data["cells"] if (cell["row"], cell["column"]) == ("lr 0.01", "short")]
    assert f"{cell['mean']:.2f} ± {cell['std']:.2f}" in page
    assert f"{cell['mean'] - 50:+.2f}" in page
    for run in cell["runs"]:
        assert f"../runs/{run}.html" in page
        assert (site / "runs" / f"{run}.html").exists()
    assert "seed=range(3)" in page
    for ending in ("md", "tex", "csv", "json"):
        assert (site / "papers" / f"toy-cpu.{ending}").stat().st_size > 100
    run = (site / "runs" / f"{cell['runs'][0]}.html").read_text()
    for expected in ("environment.json", "method.epochs=2", "test_acc", "layer1/loss", "packages with versions"):
        assert expected in run
    check_plots(page, cell)
    assert cli("report", "paper=toy").status == 0  # a report is replaced by the next


def check_plots(page: str, cell: dict[str, object]) -> None:
    (text,) = re.findall(r'<script type="application/json" id="plots">(.*?)</script>', page, re.DOTALL)
    plots = json.loads(text)
    (point,) = [point for point in plots["points"] if (point["row"], point["column"]) == ("lr 0.01", "short")]
    assert 100 * point["values"]["test_acc"][0] == pytest.approx(cell["mean"], rel=1e-3)
    assert "fit_seconds" in plots["costs"]
    assert "test_acc" in plots["results"]
    losses = [one for one in plots["series"] if one["metric"] == "layer1/loss"]
    assert len(losses) == 5
    assert all(plots["curves"][one["curve"]]["n"] == [3] * len(plots["curves"][one["curve"]]["x"]) for one in losses)


def test_groups_leave_out_the_seed_and_what_follows_from_it(cli: Cli, toy: list[str]) -> None:
    build(home(), 60)
    runs = Records(f"sqlite:///{home()}/mlflow.db", "runner").all()
    groups = content.groups_of(runs)
    assert len(groups) == 12
    assert all(list(group.runs) == list(range(SEEDS)) for group in groups)
    assert all("fold" not in group.config["dataset"] for group in groups)
    assert all("seed=" not in group.label for group in groups)


def test_three_hundred_runs(cli: Cli, toy: list[str]) -> None:
    identifiers = build(home(), 300)
    assert cli("report", "paper=toy").status == 0
    site = home() / "report"
    check_links(site)
    assert len(list((site / "runs").glob("*.html"))) == 300
    text = (site / "assets" / "compare-data.js").read_text()
    data = json.loads(text.removeprefix("window.REPORT = ").rstrip(";\n"))
    assert sorted(run["id"] for group in data["groups"] for run in group["runs"]) == sorted(identifiers)
    group = data["groups"][0]
    index = data["metrics"].index("test_acc")
    values = [run["metrics"][index] for run in group["runs"]]
    assert views.figure("test_acc", values) in (site / "runs.html").read_text()
    assert (site / "index.html").stat().st_size < 30_000
    assert len(list((site / "environments").iterdir())) == 1  # shared by all


@pytest.mark.slow
def test_five_thousand_runs_in_half_a_minute(cli: Cli, toy: list[str]) -> None:
    import time

    build(home(), 5000, epochs=100)
    begun = time.process_time()
    assert cli("report", "paper=toy").status == 0
    assert time.process_time() - begun < 30  # of the processor: neighbours don't count


def test_what_the_store_says_stays_text(cli: Cli, toy: list[str]) -> None:
    tags = {f"runner.{name}": ATTACK for name in ("reason", "method", "unofficial", "machine")}
    (identifier, *_) = build(home(), 5, **tags)
    folder = home() / "artifacts" / "runner" / identifier / "artifacts"
    (folder / "a<script>.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(3)</script></svg>')
    (folder / "environment.json").write_text(json.dumps({"machine": ATTACK, "packages": {ATTACK: ATTACK}}))
    import sqlite3

    with sqlite3.connect(home() / "mlflow.db") as database:
        for table in ("metrics", "latest_metrics"):
            database.execute(f"UPDATE {table} SET key = ? WHERE key = 'train/loss'", [ATTACK])
        overrides = json.dumps([f"method={ATTACK}"])
        database.execute("UPDATE tags SET value = ? WHERE key = 'runner.overrides'", [overrides])
        deciding = json.dumps({"method": {ATTACK: ATTACK}, "seed": 0})
        database.execute("UPDATE tags SET value = ? WHERE key = 'runner.deciding'", [deciding])
    assert cli("report", "paper=toy").status == 0
    site = home() / "report"
    allowed = {"report.js", "plots.js", "plotly.min.js", "compare.js", "compare-data.js", "statistics.js"}
    for page in site.rglob("*.html"):
        for tag, attributes in Links(page.read_text()).elements:
            assert not [name for name in attributes if name.startswith("on")], page
            if tag == "script" and attributes.get("type") != "application/json":
                assert Path(attributes["src"] or "").name in allowed
            assert tag not in ("svg", "iframe", "object", "embed")
    run = (site / "runs" / f"{identifier}.html").read_text()
    assert "&lt;script&gt;alert(1)" in run
    assert f'<img src="{identifier}/0.svg"' in run
    assert (site / "runs" / identifier / "0.svg").exists()


def test_names_from_the_store_lead_nowhere_else() -> None:
    assert views.file_name("0a1b") == "0a1b"
    for name in ("../../etc/passwd", "a b", "a#b", "", "ä", ".hidden"):
        assert re.fullmatch(r"x[0-9a-f]{16}", views.file_name(name))


@given(
    st.lists(
        st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40),
        min_size=1,
        max_size=4,
    )
)
def test_a_band_of_whole_curves_is_mean_and_std(rows: list[list[float]]) -> None:
    bands = curves.band([(np.arange(1.0, len(row) + 1), np.array(row)) for row in rows])
    assert bands["x"] == list(range(1, max(map(len, rows)) + 1))
    for index, step in enumerate(bands["x"]):
        there = [row[step - 1] for row in rows if len(row) >= step]
        assert bands["n"][index] == len(there)
        assert bands["mean"][index] == pytest.approx(statistics.fmean(there), rel=1e-3, abs=1e-9)
        if len(there) > 1:
            assert bands["std"][index] == pytest.approx(statistics.stdev(there), rel=1e-3, abs=1e-6)
        else:
            assert bands["std"][index] is None


@given(st.integers(2, 5000))
def test_a_thinned_curve_keeps_both_ends(length: int) -> None:
    found = curves.thinned({"loss": [(step, float(step)) for step in range(length)], "once": [(0, 1.0)]})
    assert list(found) == ["loss"]
    steps, _ = found["loss"]
    assert len(steps) <= curves.POINTS
    assert (steps[0], steps[-1]) == (0, length - 1)
    assert (np.diff(steps) > 0).all()


def test_a_curve_with_nan_keeps_the_rest() -> None:
    found = curves.band([(np.arange(3.0), np.array([1.0, np.nan, 3.0]))])
    assert found["x"] == [0, 2]
    assert json.dumps(found, allow_nan=False)


def test_costs_are_known_by_their_names() -> None:
    for name in ("fit_seconds", "peak_memory_bytes", "macs", "cycles", "energy_joules", "fit_seconds/train", "FLOPs"):
        assert quantities.is_cost(name), name
    for name in ("test_acc", "val_auc/depth2", "loss", "epochs", "secondsight"):
        assert not quantities.is_cost(name), name


def test_how_metrics_are_written() -> None:
    assert quantities.written("test_acc/depth2", 0.5) == "50.00 %"
    assert quantities.written("saved_activation_bytes/layer1", 1.5e6) == "1.5 MB"
    assert quantities.written("loss", float("nan")) == "nan"
    assert quantities.written("epochs", 12.0) == "12"


def test_a_store_behind_mlflow_gives_the_same_histories(cli: Cli, toy: list[str]) -> None:
    build(home(), 3, epochs=5)
    records = Records(f"sqlite:///{home()}/mlflow.db", "runner")
    runs = [record.run_id for record in records.all()]
    direct = records.histories(runs)
    assert direct == records._histories_client(runs, None)
    assert len(direct) == 3
