"""A store of any size, written row by row: thousands of runs in a second or two."""

from __future__ import annotations

import itertools
import json
import math
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from runner.identity import canonical, digest
from runner.store import template

START = 1_760_000_000_000
SEEDS = 5
METHODS, DATASETS, MODELS = ("backprop", "forwardgnn", "cafo"), ("cora", "citeseer"), ("gcn", "sage")


def build(home: Path, runs: int, epochs: int = 50, **tags: str) -> list[str]:
    """Write a SQLite store of so many finished runs, with histories and artefacts; gives their ids.

    Args:
        home: where ``mlflow.db`` and ``artifacts/`` go.
        runs: number of runs.
        epochs: points of each of two curves a run.
        tags: further tags of every run.
    """
    database = home / "mlflow.db"
    template.ensure(database)
    identifiers = []
    with closing(sqlite3.connect(database)) as to:
        to.execute("PRAGMA synchronous=OFF")
        experiment = 77
        location = (home / "artifacts" / "runner").as_uri()
        columns = {row[1] for row in to.execute("PRAGMA table_info(experiments)")}
        row = {
            "experiment_id": experiment,
            "name": "runner",
            "artifact_location": location,
            "lifecycle_stage": "active",
        }
        row |= {"workspace": "default"} if "workspace" in columns else {}
        _insert(to, "experiments", row)
        for number, config in zip(range(runs), _configs(), strict=False):
            identifiers.append(_run(to, home, experiment, number, config, epochs, tags))
        to.commit()
    return identifiers


def _configs() -> Iterator[dict[str, Any]]:
    for width in itertools.count(1):
        for method, dataset, model, seed in itertools.product(METHODS, DATASETS, MODELS, range(SEEDS)):
            yield {"method": method, "dataset": dataset, "model": model, "seed": seed, "width": 8 * width}


def _run(
    to: sqlite3.Connection,
    home: Path,
    experiment: int,
    number: int,
    config: dict[str, Any],
    epochs: int,
    tags: dict[str, str],
) -> str:
    identifier = digest(["run", number])[:32]
    folder = home / "artifacts" / "runner" / identifier / "artifacts"
    start = START + 1000 * number
    _insert(
        to,
        "runs",
        {
            "run_uuid": identifier,
            "name": f"run-{number}",
            "status": "FINISHED",
            "user_id": "someone",
            "start_time": start,
            "end_time": start + 900,
            "lifecycle_stage": "active",
            "artifact_uri": folder.as_uri(),
            "experiment_id": experiment,
        },
    )
    noise = random.Random(number)
    deciding = {
        "seed": config["seed"],
        "mode": "train",
        "method": {"_target_": config["method"], "lr": 0.01},
        "dataset": {"_target_": config["dataset"], "fold": config["seed"]},
        "model": {"_target_": config["model"], "hidden_channels": config["width"]},
        "hardware": {"threads": 1},
    }
    names = ("method", "dataset", "model", "seed")
    overrides = [f"{name}={config[name]}" for name in names] + [f"model.hidden_channels={config['width']}"]
    known = {
        "runner.key": digest(deciding),
        "runner.kind": "train",
        **{f"runner.{name}": str(config[name]) for name in names},
        "runner.overrides": json.dumps(overrides),
        "runner.deciding": canonical(deciding),
        "runner.machine": "a machine",
        **tags,
    }
    to.executemany(
        "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
        [(name, value, identifier) for name, value in known.items()],
    )
    level = 0.7 + 0.05 * METHODS.index(config["method"]) + noise.gauss(0, 0.01)
    final = {"test_acc": level, "val_acc": level, "fit_seconds": noise.uniform(1, 2), "macs": 1e6 * config["width"]}
    curves = {"train/loss": lambda step: math.exp(-step / 20), "train/val_acc": lambda step: level * step / epochs}
    points = [(name, value(step), step) for name, value in curves.items() for step in range(1, epochs + 1)]
    points += [(name, value, 0) for name, value in final.items()]
    for table in ("metrics", "latest_metrics"):
        to.executemany(
            f"INSERT OR REPLACE INTO {table} (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, 0, ?)",
            [(name, value, start, step, identifier) for name, value, step in points],
        )
    folder.mkdir(parents=True)
    environment = {"machine": "a machine", "python": "3.11", "packages": {"torch": "2.0"}}
    (folder / "environment.json").write_text(json.dumps(environment))
    return identifier


def _insert(to: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join("?" * len(row))
    to.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
