"""Searches: Optuna's own trials as ordinary runs, resumed, pruned, with several objectives, in parallel, reported."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner import registry
from runner.store.records import KIND_TAG, Record, Records
from tests.conftest import TOY_RUN, Result

optuna = pytest.importorskip("optuna")

Cli = Callable[..., Result]
SLOPE = ["-m", "+sweep=optuna", "method=slope", *TOY_RUN[1:], "sweep.study=s"]
X = "method.x=interval(0,1)"
Y = "method.y=int(interval(0,4))"


def runs() -> list[Record]:
    records = Records(f"sqlite:///{os.environ['RUNNER_HOME']}/mlflow.db", "runner").all()
    return [record for record in records if record.tags.get(KIND_TAG) == "train"]


def study(name: str = "s") -> dict[str, Any]:
    found = json.loads((Path(os.environ["RUNNER_HOME"]) / "studies" / f"{name}.json").read_text())
    assert isinstance(found, dict)
    return found


def ended(state: str) -> list[dict[str, Any]]:
    return [trial for trial in study()["trials"] if trial["state"] == state]


def quality(x: float, y: int = 0) -> float:
    return 1 - (x - 0.3) ** 2 - y / 100


@pytest.mark.parametrize(
    ("name", "sampler"),
    [("tpe", "TPESampler"), ("random", "RandomSampler"), ("nsgaii", "NSGAIISampler"), ("cmaes", "CmaEsSampler")],
)
def test_a_search_draws_what_optuna_itself_draws(cli: Cli, toy: list[str], name: str, sampler: str) -> None:
    if name == "cmaes":
        pytest.importorskip("cmaes")
    trials = 13 if name == "tpe" else 4  # TPE's own part begins after ten
    line = [*SLOPE, X, Y, f"sweep.trials={trials}", "sweep.seed=5", f"sweep.sampler={name}", "method.epochs=1"]
    result = cli(*line)
    assert result.status == 0, result.err
    direct = optuna.create_study(direction="maximize", sampler=getattr(optuna.samplers, sampler)(seed=5))
    direct.optimize(lambda t: quality(t.suggest_float("method.x", 0, 1), t.suggest_int("method.y", 0, 4)), trials)
    assert [trial["params"] for trial in study()["trials"]] == [trial.params for trial in direct.trials]
    assert [trial["values"] for trial in study()["trials"]] == [trial.values for trial in direct.trials]
    assert f"best: trial {direct.best_trial.number}: val_acc" in result.out


def test_trials_are_ordinary_runs_with_tags_and_are_reused(cli: Cli, toy: list[str]) -> None:
    assert cli("method=slope", *TOY_RUN[1:], "method.x=0.5").status == 0
    result = cli(*SLOPE, "method.x=range(0.0,1.0,0.25)", "sweep.sampler=grid")
    assert result.status == 0, result.err
    assert "1 existed, 3 made, 0 failed" in result.out
    assert "4 of 4 trials: 4 complete" in result.out
    tags = {float(json.loads(run.tags["runner.deciding"])["method"]["x"]): run.tags["runner.study.s"] for run in runs()}
    assert tags == {0.0: "0", 0.25: "1", 0.5: "2", 0.75: "3"}
    (best,) = [line for line in result.out.splitlines() if "repeat: runner " in line]
    assert best.endswith("progress=false method.x=0.25")
    repeated = cli(*best.partition("repeat: runner ")[2].split())
    assert "finished before" in repeated.out
    again = cli(*SLOPE, "method.x=range(0.0,1.0,0.25)", "sweep.sampler=grid")
    assert again.status == 0
    assert "4 of 4 trials were made before" in again.err
    assert best in again.out
    assert len(runs()) == 4


def test_more_trials_go_on_with_the_same_study_and_draw_anew(cli: Cli, toy: list[str]) -> None:
    line = [argument for argument in SLOPE if not argument.startswith("sweep.study")]
    first = cli(*line, X, "sweep.trials=3", "sweep.sampler=random")
    second = cli(*line, X, "sweep.trials=5", "sweep.sampler=random", "sweep.workers=2")
    assert (first.status, second.status) == (0, 0), second.err
    assert "5 of 5 trials: 5 complete" in second.out
    assert len({run.tags["runner.overrides"] for run in runs()}) == 5
    (file,) = (Path(os.environ["RUNNER_HOME"]) / "studies").glob("study-*.json")
    assert f"study {file.stem}: 3 of 5 trials were made before" in second.err


@pytest.mark.parametrize("kills", [1, 3])
def test_a_killed_search_is_completed_by_the_same_command(
    cli: Cli, toy: list[str], child: Callable[..., Any], tmp_path: Path, kills: int
) -> None:
    begun, draw = tmp_path / "begun", random.Random(kills)
    line = [*SLOPE, X, "sweep.trials=6", "method.epoch_seconds=0.03", "checkpoint.every=0"]
    for kill in range(kills):
        process = child(*line, wait=False, TOY_BEGUN=str(begun))
        deadline = time.monotonic() + 60
        while not begun.exists() or len(begun.read_text().splitlines()) < kill + 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.5))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert child(*line, TOY_BEGUN=str(begun)) == 0
    complete = ended("complete")
    assert len(complete) == 6
    replaced = {trial["again"] for trial in study()["trials"]}
    assert {trial["number"] for trial in study()["trials"]} - {trial["number"] for trial in complete} <= replaced
    values = [trial["params"]["method.x"] for trial in complete]
    assert len(set(values)) == 6
    assert len(runs()) == 6
    assert {record.status for record in runs()} == {"FINISHED"}
    computed = Counter(begun.read_text().splitlines())
    assert computed.keys() == {f"{value} 0" for value in values}
    assert sum(computed.values()) <= 6 + kills  # only what was under way is made again


def test_pruning_ends_runs_early_which_are_no_failures(cli: Cli, toy: list[str]) -> None:
    result = cli(
        *SLOPE,
        "method.x=0.3,0.4,2.0,0.31,3.0",
        "sweep.sampler=grid",
        "sweep.pruner=median",
        "sweep.startup=2",
        "sweep.warmup=3",
    )
    assert result.status == 0, result.err
    assert "5 runs: 0 existed, 3 made, 0 failed, 2 pruned" in result.out
    assert "5 of 5 trials: 3 complete, 2 pruned, 0 failed" in result.out
    assert [trial["params"]["method.x"] for trial in ended("pruned")] == ["2.0", "3.0"]
    for trial in ended("pruned"):
        assert sorted(map(int, trial["intermediate"])) == [1, 2, 3]  # the warm-up, after which it looks
        assert trial["reason"].startswith("at epoch 3: val_acc")
        (run,) = [record for record in runs() if record.run_id == trial["runs"][0]]
        assert run.status == "KILLED"
        assert run.tags["runner.reason"] == trial["reason"]
        assert "callbacks" not in run.tags["runner.overrides"]
    for trial in ended("complete"):
        assert sorted(map(int, trial["intermediate"])) == list(range(1, 9))
    by_hand = cli("method=slope", *TOY_RUN[1:], "method.x=2.0")  # a pruned run can be made whole
    assert by_hand.status == 0, by_hand.err
    assert {run.status for run in runs() if run.run_id == ended("pruned")[0]["runs"][0]} == {"FINISHED"}


def test_hyperband_prunes_and_runs_that_exist_tell_what_they_would_have(cli: Cli, toy: list[str]) -> None:
    lines = ["method.x=0.3,0.5,0.7,0.9,1.1,1.3", "sweep.sampler=grid"]
    assert cli("-m", "method=slope", *TOY_RUN[1:], "method.x=0.3,0.5").status == 0
    result = cli(*SLOPE, *lines, "sweep.pruner=hyperband", "sweep.warmup=1")
    assert result.status == 0, result.err
    assert len(ended("complete")) + len(ended("pruned")) == 6
    assert len(ended("pruned")) >= 1
    for trial in study()["trials"][:2]:
        assert trial["intermediate"] == {
            str(epoch): pytest.approx(quality(float(trial["params"]["method.x"])) * epoch / 8) for epoch in range(1, 9)
        }


def test_replicates_count_by_their_mean_and_a_pruned_trial_makes_one(cli: Cli, toy: list[str]) -> None:
    line = ["method.x=0.3,0.4,2.0", "sweep.sampler=grid", "sweep.seeds=[3,4]", "sweep.pruner=median"]
    result = cli(*SLOPE, *line, "sweep.startup=2", "sweep.warmup=1")
    assert result.status == 0, result.err
    assert sorted(run.tags["runner.seed"] for run in runs()) == ["3", "3", "3", "4", "4"]
    assert "method.x=0.3 seed=3,4" in result.out
    assert "repeat: runner -m " in result.out


def test_the_mean_of_different_replicates(cli: Cli, toy: list[str]) -> None:
    line = [word if not word.startswith("method=") else "method=toy" for word in SLOPE]
    result = cli(
        *line,
        "method.lr=0.01,0.05",
        "sweep.seeds=[0,1]",
        "sweep.sampler=grid",
        "sweep.objectives={layer2/val_acc: maximize}",
    )
    assert result.status == 0, result.err
    found = Records(f"sqlite:///{os.environ['RUNNER_HOME']}/mlflow.db", "runner")
    for trial in ended("complete"):
        histories = found.histories(trial["runs"], ["layer2/val_acc"])
        best = [max(value for _, value in histories[run]["layer2/val_acc"]) for run in trial["runs"]]
        assert len(best) == 2
        assert trial["values"] == [pytest.approx(sum(best) / 2)]


def test_two_objectives_end_in_their_pareto_front(cli: Cli, toy: list[str]) -> None:
    result = cli(
        *SLOPE, X, "method.y=range(3)", "sweep.trials=12", "sweep.objectives={val_acc: maximize, cost: minimize}"
    )
    assert result.status == 0, result.err
    points = {trial["number"]: trial["values"] for trial in ended("complete")}

    def beaten(one: list[float]) -> bool:
        return any(o[0] >= one[0] and o[1] <= one[1] and o != one for o in points.values())

    front = {number for number, point in points.items() if not beaten(point)}
    assert front
    assert len(front) < len(points)
    assert {trial["number"] for trial in study()["trials"] if trial["best"]} == front
    assert f"Pareto front of val_acc (maximize), cost (minimize): {len(front)} trials" in result.out
    assert result.out.count("repeat: runner ") == len(front)


def test_workers_of_joblib_make_the_same_study(cli: Cli, toy: list[str]) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    line = ["method.x=0.3,0.4,0.31,2.0", "sweep.sampler=grid", "sweep.workers=2", "method.epoch_seconds=0.01"]
    pruning = ["sweep.pruner=median", "sweep.startup=2", "sweep.warmup=1"]
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    result = cli(*SLOPE, *line, *pruning, *parallel)
    assert result.status == 0, result.err
    assert len(ended("complete")) + len(ended("pruned")) == 4
    assert ended("pruned")[0]["params"] == {"method.x": "2.0"}
    assert len(runs()) == 4
    assert result.err.count("making 2") == 2


def test_failed_trials_are_listed_and_come_again(cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    line = [*SLOPE, "method.x=0.2,0.3", "method.kind=plain,broken", "sweep.sampler=grid"]
    result = cli(*line)
    assert result.status == 1
    assert "4 of 4 trials: 2 complete, 0 pruned, 2 failed" in result.out
    assert result.err.count("repeat: runner method=slope") == 2
    monkeypatch.setenv("TOY_MENDED", "1")
    again = cli(*line)
    assert again.status == 0, again.err
    assert "2 runs: 0 existed, 2 made, 0 failed" in again.out
    assert "4 of 4 trials: 4 complete, 0 pruned, 0 failed" in again.out
    assert [trial["again"] for trial in study()["trials"]] == [None] * 4 + [1, 3]


def test_a_database_keeps_a_study_too(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    line = [*SLOPE, X, f"sweep.storage=sqlite:///{tmp_path}/studies.db", "sweep.pruner=median", "sweep.startup=1"]
    assert cli(*line, "sweep.trials=2").status == 0
    result = cli(*line, "sweep.trials=3")
    assert result.status == 0, result.err
    assert "2 of 3 trials were made before" in result.err
    assert ended("complete")[0]["intermediate"].keys() == set(map(str, range(1, 9)))
    for file in Path(os.environ["RUNNER_HOME"]).rglob("config.yaml"):  # an address may hold a password
        assert "studies.db" not in file.read_text()
    assert b"studies.db" not in (Path(os.environ["RUNNER_HOME"]) / "mlflow.db").read_bytes()
    assert not list((Path(os.environ["RUNNER_HOME"]) / "studies").glob("*.log"))


def test_a_trial_whose_command_was_killed_while_asking_is_not_lost(cli: Cli, toy: list[str]) -> None:
    line = [*SLOPE, "method.x=0.1,0.2,0.3", "sweep.sampler=grid"]
    assert cli(*line, "sweep.trials=1").status == 0
    from runner.search import storage

    kept = optuna.load_study(study_name="s", storage=storage.opened(storage.place_of(os.environ["RUNNER_HOME"], "s")))
    kept.enqueue_trial({"method.x": "0.2"})
    assert kept.ask().number == 1  # running, its value not yet drawn
    result = cli(*line)
    assert result.status == 0, result.err
    assert [trial["params"]["method.x"] for trial in ended("complete")] == ["0.1", "0.2", "0.3"]
    assert "3 of 3 trials: 3 complete, 0 pruned, 0 failed" in result.out


def test_a_journal_that_was_cut_short_goes_on(cli: Cli, toy: list[str]) -> None:
    line = [*SLOPE, X, "sweep.sampler=random"]
    assert cli(*line, "sweep.trials=2").status == 0
    with (Path(os.environ["RUNNER_HOME"]) / "studies" / "s.log").open("ab") as journal:
        journal.write(b'{"op_code":4,"worker')
    result = cli(*line, "sweep.trials=3")
    assert result.status == 0, result.err
    assert "3 of 3 trials: 3 complete" in result.out


def test_one_command_at_a_time_works_on_a_study(cli: Cli, toy: list[str], child: Callable[..., Any]) -> None:
    line = [*SLOPE, X, "sweep.trials=2", "method.epoch_seconds=0.2"]
    process = child(*line, wait=False)
    journal = Path(os.environ["RUNNER_HOME"]) / "studies" / "s.log"
    deadline = time.monotonic() + 60
    while not journal.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    result = cli(*line)
    process.join()
    assert result.status == 2
    assert "is being made by another command" in result.err
    assert len(ended("complete")) == 2


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["method.x=0.5"], "nothing to search: give a key a space"),
        ([X, "seed=0,1"], "sweep.seeds=[0,1,2]"),
        ([X, "sweep.trails=3"], "unknown key 'sweep.trails'; did you mean 'sweep.trials'?"),
        ([X, "sweep.trials=0"], "sweep.trials=0"),
        ([X, "sweep.sampler=tpa"], "expected one of tpe, random, grid, nsgaii, cmaes; did you mean 'tpe'?"),
        ([X, "sweep.objectives={val_acc: most}"], "expected one of maximize, minimize"),
        ([X, "sweep.sampler=grid"], "method.x=interval(0,1) has no end of values for a grid"),
        ([X, "sweep.pruner=median", "sweep.objectives={val_acc: maximize, cost: minimize}"], "goes with one objective"),
        ([X, "sweep.storage=nosuch://here"], "sweep.storage=nosuch://here can't be used"),
        ([X, "sweep.study='../s'"], "a name is of letters"),
        (["method.x=tag(log,interval(0,1))"], "method.x=tag(log,interval(0,1))"),
        (["method.x=interval(0,1)", "method.epochs=0,2"], "method.epochs=0"),
        (["method.absent=1,2"], "unknown key 'method.absent'"),
    ],
)
def test_what_cant_be_is_told_in_one_line_before_any_run(cli: Cli, toy: list[str], line: list[str], told: str) -> None:
    result = cli(*SLOPE, *line)
    assert result.status == 2
    assert told in result.err
    assert result.err.count("\n") == 1
    assert not (Path(os.environ["RUNNER_HOME"]) / "mlflow.db").exists() or runs() == []


def test_an_objective_that_no_run_has_is_told_after_the_first(cli: Cli, toy: list[str]) -> None:
    result = cli(*SLOPE, X, "sweep.objectives={val_auc: maximize}")
    assert result.status == 2
    assert "objective 'val_auc': slope on toy_data has no such metric; it has" in result.err
    assert len(runs()) == 1


def test_a_test_metric_is_warned_of(cli: Cli, toy: list[str]) -> None:
    result = cli(*SLOPE, X, "sweep.trials=1", "sweep.objectives={test_acc: maximize}")
    assert result.status == 0
    assert "warning: test_acc is measured on test data" in result.err
    assert "warning" not in cli(*SLOPE, X, "sweep.trials=1", "sweep.study=t").err


def test_another_space_or_objective_needs_another_name(cli: Cli, toy: list[str]) -> None:
    assert cli(*SLOPE, X, "sweep.trials=1").status == 0
    assert "with another space: sweep.study" in cli(*SLOPE, "method.x=interval(0,2)").err
    assert "with another fixed: sweep.study" in cli(*SLOPE, X, "method.y=1").err
    assert "other objectives; sweep.study" in cli(*SLOPE, X, "sweep.objectives={val_acc: minimize}").err


def test_without_optuna_one_line_says_what_to_install(
    cli: Cli, toy: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.extras.installed", lambda module: module != "optuna")
    result = cli(*SLOPE, X)
    assert result.status == 2
    assert result.err == "runner: this sweep needs the package optuna: pip install 'forward-runner[optuna]'\n"


def test_optuna_is_imported_only_where_it_is_chosen(cli: Cli, toy: list[str], child: Callable[..., int]) -> None:
    """A single run of an experiment with a space needs none of it either."""
    from runner.compose import compose

    assert "sweep" not in compose(["+experiment=gcn_search", "dataset=cora"]).config
    code = "import sys; from runner import cli; cli.status(sys.argv[1:]); sys.exit('optuna' in sys.modules)"
    line = [sys.executable, "-c", code, "+experiment=gcn_search", "dataset=cora", "--explain"]
    assert subprocess.run(line, capture_output=True, check=False).returncode == 0


def test_experiments_that_bring_a_space_are_valid(cli: Cli) -> None:
    from runner.compose import how_to_sweep
    from runner.search.space import Space

    for name in registry.choices("experiment"):
        if "sweep" in registry.read("experiment", name):
            section = how_to_sweep([f"+experiment={name}", "dataset=cora"])
            assert Space.parse([], section["space"]).axes.keys() == section["space"].keys()
    assert "Optuna searches" in cli("list", "sweeps").out


def test_the_report_has_a_page_of_a_study(cli: Cli, toy: list[str], tmp_path: Path) -> None:
    attack = "sweep.objectives={val_acc: maximize, cost: minimize}"
    assert cli(*SLOPE, X, "method.kind=plain,broken", "sweep.trials=9", attack).status == 1
    (Path(os.environ["RUNNER_HOME"]) / "studies" / "damaged.json").write_text('{"name": "<script>"')
    result = cli("report", str(tmp_path / "site"), "paper=toy")
    assert result.status == 0, result.err
    page = (tmp_path / "site" / "studies" / "s.html").read_text()
    for kind in ("history", "front", "parallel", "importances"):
        assert f'data-kind="{kind}"' in page
    plots = json.loads(page.partition('id="plots">')[2].partition("</script>")[0])
    made = study()["trials"]
    assert [trial["values"] for trial in plots["trials"]] == [trial["values"] for trial in made]
    assert {trial["number"] for trial in plots["trials"] if trial["best"]} == {t["number"] for t in made if t["best"]}
    assert set(plots["importances"]) == {"val_acc", "cost"}
    for shares in plots["importances"].values():
        assert sum(shares.values()) == pytest.approx(1)
    for trial in made:
        for run in trial["runs"]:
            assert f'href="../runs/{run}.html"' in page
            assert (tmp_path / "site" / "runs" / f"{run}.html").exists()
    assert 'href="studies/s.html"' in (tmp_path / "site" / "index.html").read_text()
    assert (tmp_path / "site" / "assets" / "study.js").exists()
    assert not (tmp_path / "site" / "studies" / "damaged.html").exists()
