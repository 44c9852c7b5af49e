"""A killed run, repeated, ends with the same bits as one that was left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runner.store.records import Record, Records
from runner.store.writer import artifact

EPOCHS = 5
KILLED = -9
COSTS = ("_seconds", "_bytes")


def records(home: Path) -> Records:
    return Records(f"sqlite:///{home}/mlflow.db", "runner")


def numerics(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.metrics.items() if not name.partition("/")[0].endswith(COSTS)}


def curves(uri: str, run_id: str) -> dict[str, list[tuple[int, float]]]:
    from runner.store.client import connect

    client = connect(uri)
    names = client.get_run(run_id).data.metrics
    wanted = [name for name in names if "/" in name and not name.startswith(("saved", "epochs"))]
    return {name: [(m.step, m.value) for m in client.get_metric_history(run_id, name)] for name in wanted}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, forkserver: object) -> Record:
    from tests.conftest import TOY, TOY_RUN, _in_child

    home = tmp_path_factory.mktemp("undisturbed")
    arguments = [*TOY_RUN, f"method.epochs={EPOCHS}"]
    process = forkserver.Process(  # type: ignore[attr-defined]
        target=_in_child, args=(arguments, {"RUNNER_HOME": str(home), "RUNNER_INCLUDE_PATH": str(TOY)})
    )
    process.start()
    process.join()
    (record,) = records(home).finished().values()
    return record


@pytest.mark.parametrize("epoch", range(1, 2 * EPOCHS + 1))
def test_killed_at_every_epoch_ends_bit_equal(
    epoch: int, toy: list[str], child: Callable[..., int], tmp_path: Path, undisturbed: Record
) -> None:
    command = [*toy, f"method.epochs={EPOCHS}", "checkpoint.every=0"]
    assert child(*command, TOY_FAULT=f"kill:{epoch}") == KILLED
    assert child(*command) == 0
    store = records(tmp_path / "runs")
    (record,) = store.all()  # one run: the killed attempt went on, it was not begun again
    assert record.status == "FINISHED"
    assert numerics(record) == numerics(undisturbed)
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert curves(uri, record.run_id) == curves(_uri_of(undisturbed), undisturbed.run_id)
    ours = np.load(artifact(uri, record.run_id, "predictions.npz", tmp_path))
    theirs = np.load(artifact(_uri_of(undisturbed), undisturbed.run_id, "predictions.npz", tmp_path / ".."))
    assert np.array_equal(ours["probability"], theirs["probability"])


def _uri_of(record: Record) -> str:
    home = record.artifact_uri.removeprefix("file://").partition("/artifacts/")[0]
    return f"sqlite:///{home}/mlflow.db"


def test_sparse_snapshots_lose_epochs_not_bits(
    toy: list[str], child: Callable[..., int], tmp_path: Path, undisturbed: Record
) -> None:
    command = [*toy, f"method.epochs={EPOCHS}"]  # the default rhythm of 10 s: only ends of loops are kept
    assert child(*command, TOY_FAULT="kill:3") == KILLED
    assert child(*command, TOY_FAULT="kill:9") == KILLED
    assert child(*command) == 0
    (record,) = records(tmp_path / "runs").all()
    assert numerics(record) == numerics(undisturbed)


@pytest.mark.parametrize(("signal", "status"), [("term", 143), ("int", 130)])
def test_signal_leaves_the_run_killed_and_resumable(
    signal: str, status: int, toy: list[str], child: Callable[..., int], tmp_path: Path, undisturbed: Record
) -> None:
    command = [*toy, f"method.epochs={EPOCHS}", "checkpoint.every=0"]
    assert child(*command, TOY_FAULT=f"{signal}:8") == status
    (record,) = records(tmp_path / "runs").all()
    assert record.status == "KILLED"
    assert record.metrics["layer2/loss"]  # nothing of what was logged is lost
    assert child(*command) == 0
    (record,) = records(tmp_path / "runs").all()
    assert record.status == "FINISHED"
    assert numerics(record) == numerics(undisturbed)


def test_killed_run_is_recorded_by_the_next_command(toy: list[str], child: Callable[..., int], tmp_path: Path) -> None:
    assert child(*toy, "method.epochs=40", "method.epoch_seconds=0.06", TOY_FAULT="kill:30") == KILLED
    assert child(*toy, "seed=1") == 0
    by_seed = {record.tags["runner.seed"]: record for record in records(tmp_path / "runs").all()}
    assert by_seed["0"].status == "KILLED"
    assert "layer1/loss" in by_seed["0"].metrics  # at most about a second of metrics is lost
    assert by_seed["1"].status == "FINISHED"


def test_changed_code_begins_anew(toy: list[str], child: Callable[..., int], tmp_path: Path) -> None:
    command = [*toy, f"method.epochs={EPOCHS}", "checkpoint.every=0"]
    assert child(*command, TOY_FAULT="kill:4") == KILLED
    (file,) = (tmp_path / "runs" / "attempts").glob("*/attempt.json")
    file.write_text(file.read_text().replace('"code": "', '"code": "changed'))
    assert child(*command) == 0
    assert sorted(record.status for record in records(tmp_path / "runs").all()) == ["FINISHED", "KILLED"]
