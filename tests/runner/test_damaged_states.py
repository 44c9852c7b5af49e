"""Snapshots and checkpoints that are damaged or another's: said in one line, never half loaded, the run still made."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from runner.errors import CorruptData
from runner.state_files import load_whole, misfit, save_whole
from runner.store.records import Record, Records
from tests.conftest import TOY_RUN, Result
from tests.damage import damaged

Cli = Callable[..., Result]
Count = Callable[[str, str], None]
COMMAND = ["method.epochs=3", "checkpoint.every=0"]


def only(home: Path) -> Record:
    (record,) = Records(f"sqlite:///{home}/mlflow.db", "runner").all()
    return record


def metrics(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.metrics.items() if "seconds" not in name and "bytes" not in name}


class Runs:
    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.sentinel}",)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    place = content.rindex(load_whole(file)["tracked"]["layer"]["weight"].numpy().tobytes()[:16])
    content[place] ^= 64
    file.write_bytes(content)


def _altered(change: Callable[[dict], object]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def alter(file: Path) -> None:
        content = load_whole(file)
        change(content)
        save_whole(content, file)

    return alter


def _wrong_optimizer(content: dict) -> None:  # type: ignore[type-arg]
    content["tracked"]["optimizer"] = torch.optim.SGD([torch.zeros(1)], lr=0.1).state_dict()


SNAPSHOT_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda file: file.write_bytes(b""), "File is not a zip file"),
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[:-700]), "not a zip file"),
    "garbage": (lambda file: file.write_bytes(b"noise" * 99), "not a zip file"),
    "flipped": (_flip, "damaged at"),
    "code": (lambda file: torch.save({"loop": Runs(file.parents[3] / "executed")}, file), "Weights only load failed"),
    "not a snapshot": (lambda file: save_whole([1], file), "another run's"),
    "another loop's": (lambda file: shutil.copy(file.with_name("layer1.pt"), file), "another run's"),
    "another run's": (_altered(lambda content: content.update(of=["f" * 64, "layer2"])), "another run's"),
    "wrong shape": (
        _altered(lambda content: content["tracked"]["layer"].update(weight=torch.zeros(9, 9))),
        "layer: weight is [9, 9], the network's is [2, 8]",
    ),
    "missing weight": (_altered(lambda content: content["tracked"]["layer"].pop("bias")), "layer: has no bias"),
    "missing object": (_altered(lambda content: content["tracked"].pop("head")), "tracked are"),
    "wrong optimiser": (_altered(_wrong_optimizer), "optimizer: of another optimiser"),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, forkserver: object) -> tuple[Path, dict[str, float]]:
    """The folder of a store with an attempt killed in its second loop, and the metrics of an undisturbed run."""
    from tests.conftest import TOY, _in_child

    folder = tmp_path_factory.mktemp("killed")
    for home, fault in (("undisturbed", "none:0"), ("killed", "kill:5")):
        environment = {"RUNNER_HOME": str(folder / home), "RUNNER_INCLUDE_PATH": str(TOY), "TOY_FAULT": fault}
        process = forkserver.Process(target=_in_child, args=([*TOY_RUN, *COMMAND], environment))  # type: ignore[attr-defined]
        process.start()
        process.join()
    return folder / "killed", metrics(only(folder / "undisturbed"))


def copied(killed: Path, home: Path) -> Path:
    """The killed attempt's folder, in a copy of its store at ``home``."""
    shutil.copytree(killed, home)
    (state,) = home.glob("attempts/*/attempt.json")
    state.write_text(state.read_text().replace(str(killed), str(home)))
    return state.parent


@pytest.mark.parametrize("fault", SNAPSHOT_FAULTS)
def test_damaged_snapshot_begins_the_run_anew(
    fault: str, toy: list[str], cli: Cli, killed: tuple[Path, dict[str, float]], tmp_path: Path, count_fault: Count
) -> None:
    home = tmp_path / "runs"
    damage, reason = SNAPSHOT_FAULTS[fault]
    damage(copied(killed[0], home) / "snapshots/layer2.pt")
    result = cli(*toy, *COMMAND)
    assert result.status == 0, result.err
    told = [line for line in result.err.splitlines() if "begins anew" in line]
    assert len(told) == 1
    assert reason in told[0]
    assert metrics(only(home)) == killed[1]
    assert not (home / "executed").exists()
    assert "Traceback" not in result.err
    count_fault("snapshot " + fault, "begun anew, same result")


def test_whole_snapshot_is_still_used(
    toy: list[str], cli: Cli, killed: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    home = tmp_path / "runs"
    copied(killed[0], home)
    result = cli(*toy, *COMMAND)
    assert (result.status, "begins anew" in result.err) == (0, False)
    assert metrics(only(home)) == killed[1]


def test_missing_metrics_begin_the_run_anew(
    toy: list[str], cli: Cli, killed: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    home = tmp_path / "runs"
    (copied(killed[0], home) / "metrics.jsonl").write_bytes(b"")
    result = cli(*toy, *COMMAND)
    assert "metrics.jsonl: has 0 of" in result.err
    assert metrics(only(home)) == killed[1]


CHECKPOINT_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda file: file.write_bytes(b""), "not a zip file"),
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[:-300]), "not a zip file"),
    "code": (lambda file: torch.save({"0.weight": Runs(file.with_name("executed"))}, file), "Weights only load failed"),
    "no weights": (lambda file: save_whole([1, 2], file), "holds a list"),
    "another shape": (
        lambda file: save_whole(load_whole(file) | {"1.weight": torch.zeros(3, 8)}, file),
        "1.weight is [3, 8], the network's is [2, 8]",
    ),
    "another method's": (lambda file: save_whole({"conv.weight": torch.zeros(1)}, file), "has no 0.bias"),
    "one too many": (lambda file: save_whole(load_whole(file) | {"more": torch.zeros(1)}, file), "has more"),
}


@pytest.mark.parametrize("fault", CHECKPOINT_FAULTS)
def test_damaged_checkpoint_is_refused(
    fault: str, toy: list[str], cli: Cli, tmp_path: Path, count_fault: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli(*toy, *COMMAND).status == 0
    record = only(tmp_path / "runs")
    file = Path(record.artifact_uri.removeprefix("file://")) / "model.pt"
    whole = file.read_bytes()
    damage, reason = CHECKPOINT_FAULTS[fault]
    damage(file)
    loaded: list[object] = []
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda *a, **k: loaded.append(a))
    result = cli("mode=evaluate", f"run={record.run_id}")
    assert result.status == 1
    (line,) = [line for line in result.err.splitlines() if "can't be loaded" in line]
    assert line.startswith("runner: ")
    assert reason in line
    assert "rerun=true` makes the run again" in line
    assert not loaded
    assert not file.with_name("executed").exists()
    monkeypatch.undo()
    file.write_bytes(whole)
    count_fault("checkpoint " + fault, "refused")


def test_damaged_checkpoint_of_a_referenced_run(toy: list[str], cli: Cli, tmp_path: Path) -> None:
    assert cli(*toy, *COMMAND).status == 0
    record = only(tmp_path / "runs")
    file = Path(record.artifact_uri.removeprefix("file://")) / "model.pt"
    file.write_bytes(file.read_bytes()[:400])
    student = ["method=student", *toy[1:], f"method.teacher=id:{record.run_id}"]
    result = cli(*student)
    assert (result.status, "can't be loaded" in result.err) == (1, True)


def whole_state() -> bytes:
    made = io.BytesIO()
    torch.save({"weight": torch.arange(64.0), "bias": torch.ones(3)}, made)
    return made.getvalue()


STATE = whole_state()
given_damage = given(damaged(STATE))


def same_or_refused(tmp_path: Path, fault: tuple[str, bytes], count: Count) -> None:
    file = tmp_path / "state.pt"
    file.write_bytes(fault[1])
    told = ""
    try:
        found = load_whole(file)
    except CorruptData as error:
        told = str(error)
    else:
        assert torch.equal(found["weight"], torch.arange(64.0))
        assert torch.equal(found["bias"], torch.ones(3))
    assert "\n" not in told
    count(f"state file {fault[0]}", "refused" if told else "still right")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given_damage
def test_damaged_state_file(tmp_path: Path, count_fault: Count, fault: tuple[str, bytes]) -> None:
    same_or_refused(tmp_path, fault, count_fault)


@pytest.mark.faults
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given_damage
def test_many_damaged_state_files(tmp_path: Path, count_fault: Count, fault: tuple[str, bytes]) -> None:
    same_or_refused(tmp_path, fault, count_fault)


def test_misfit() -> None:
    module = nn.Linear(2, 3)
    assert misfit(module, module.state_dict()) == ""
    assert misfit(module, {"weight": torch.zeros(3, 2)}) == "has no bias"
    assert misfit(module, {"weight": 1, "bias": 2}) == "weight is no tensor"
