"""Start-up of commands against an empty Hydra app, and the answer to a sweep that is finished."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Row, cpu_seconds, interleaved, seconds

EMPTY_APP = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(config):
    pass

main()
"""
LIGHT = {
    "--help": ["--help"],
    "list": ["list"],
    "unknown method": ["method=forwardgn", "dataset=cora"],
    "unknown key": ["method=forwardgnn", "dataset=cora", "method.lrr=1"],
    "wrong type": ["method=forwardgnn", "dataset=cora", "method.epochs=many"],
}
CALLS = 11
CELLS = 1000


def startup() -> list[Row]:
    """CPU time (user and system) of help, list and config errors."""
    with TemporaryDirectory() as folder:
        app = Path(folder) / "empty.py"
        app.write_text(EMPTY_APP)
        commands = [[sys.executable, str(app)], *([sys.executable, "-m", "runner", *line] for line in LIGHT.values())]
        empty, *ours = interleaved([lambda c=c: cpu_seconds(c, folder) for c in commands], CALLS)  # type: ignore[misc]
    return [
        Row(f"start-up: {name}, CPU against an empty Hydra app", cpu, "s", empty, 1.2)
        for name, cpu in zip(LIGHT, ours, strict=True)
    ]


def finished_sweep(cells: int = CELLS) -> list[Row]:
    """Seconds to answer a sweep whose cells are all finished."""
    from runner import code_fingerprint
    from runner.compose import SweepComposer
    from runner.jobs import Cell
    from runner.store import writer
    from runner.store.client import connect
    from runner.store.records import KEY_TAG
    from runner.stored import CODE_TAG, identify_run
    from runner.sweep import multirun
    from runner.sweep_watch import to_stderr

    with TemporaryDirectory() as folder:
        arguments = ["method=forwardgnn", "dataset=cora", f"home={folder}", "method.epochs=1"]
        composer = SweepComposer()
        lines = [[*arguments, f"seed={seed}"] for seed in range(cells)]
        identities = [identify_run(composer(line)) for line in lines]
        uri = f"sqlite:///{folder}/mlflow.db"
        parent = writer.sweep_parent(uri, "runner")
        client = connect(uri)
        experiment = client.get_run(parent).info.experiment_id
        for identity in identities:
            tags = {KEY_TAG: identity.key, CODE_TAG: code_fingerprint.of_sections(identity.config)}
            run = client.create_run(experiment, tags=tags, start_time=time.time_ns() // 1_000_000)
            client.log_metric(run.info.run_id, "test_acc", 0.5)
            client.set_terminated(run.info.run_id)
        found: list[Cell] = []
        taken = seconds(lambda: found.extend(multirun([*arguments, f"seed=range({cells})"], to_stderr)))
        assert len(found) == cells
        assert all(cell.status == "existing" for cell in found)
    return [Row(f"answering {cells} finished cells", taken, "s", limit=10)]
