"""What a run's record costs: logging on the training path, the upload after it."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.measure import Row, seconds
from runner.attempt import Attempt, AttemptState
from runner.loops import Loops
from runner.progress import Progress
from runner.store import writer

EPOCHS = 2000


def logging_and_upload() -> list[Row]:
    """Milliseconds an epoch for loop, log and validation bookkeeping; seconds to upload."""
    with TemporaryDirectory() as folder:
        state = AttemptState("k", f"sqlite:///{folder}/mlflow.db", "bench", "bench", "")
        state.start_ms = time.time_ns() // 1_000_000
        attempt = Attempt(Path(folder) / "attempt", state)
        loops = Loops(
            attempt,
            generator=torch.Generator(),
            progress=Progress(False),
            limit=None,
            time_budget=None,
            snapshot_every=10,
            upload=lambda: None,
            upload_every=60,
        )
        layer = torch.nn.Linear(4, 4)
        loops.track(model=layer)
        loops.start_clock()
        loss = torch.tensor(1.0)

        def train() -> None:
            for epoch in loops.epochs(EPOCHS, monitor="val_acc", patience=EPOCHS, every=2):
                loops.log(loss=loss)
                if epoch.validates:
                    loops.log(val_acc=float(epoch))

        milliseconds = 1e3 * seconds(train) / EPOCHS
        created = seconds(lambda: writer.begin(attempt))
        uploaded = seconds(lambda: writer.upload(attempt))
    return [
        Row("logging: loop, two metrics, best state, an epoch", milliseconds, "ms", limit=0.5),
        Row("store: a new SQLite store and the run's record in it", created, "s"),
        Row(f"store: upload of {EPOCHS} epochs, off the training path", uploaded, "s"),
    ]
