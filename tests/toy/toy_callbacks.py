"""Callbacks that exist only to try the runner: one writes down what it hears, one misbehaves in every way."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from runner.callbacks import Callback, WatchedRun
from runner.errors import BadInput


@dataclass(kw_only=True)
class Diary(Callback):
    """A JSON line an event."""

    path: str

    def __post_init__(self) -> None:
        if not self.path:
            raise BadInput("callbacks: path must be given")

    def _write(self, *event: Any) -> None:
        with Path(self.path).open("a") as file:
            file.write(json.dumps(event) + "\n")

    def on_run_start(self, run: WatchedRun) -> None:
        self._write("start", run.key, run.title, dict(run.choices), run.run_id, run.seed, run.config["method"]["lr"])

    def on_epoch(self, run: WatchedRun, loop: str, epoch: int, of: int, metrics: dict[str, float]) -> None:
        self._write("epoch", loop, epoch, of, metrics)

    def on_run_end(self, run: WatchedRun, status: str, metrics: dict[str, float], reason: str) -> None:
        self._write("end", status, metrics, reason)


@dataclass(kw_only=True)
class Tally(Callback):
    """A line an event with the run's key and the process, whole whoever else writes: what was computed, and where."""

    path: str

    def _write(self, run: WatchedRun, *event: object) -> None:
        with Path(self.path).open("ab", buffering=0) as file:
            file.write((json.dumps([run.key, os.getpid(), *event]) + "\n").encode())

    def on_run_start(self, run: WatchedRun) -> None:
        self._write(run, "start")

    def on_epoch(self, run: WatchedRun, loop: str, epoch: int, of: int, metrics: dict[str, float]) -> None:
        self._write(run, "epoch", loop, epoch)

    def on_run_end(self, run: WatchedRun, status: str, metrics: dict[str, float], reason: str) -> None:
        self._write(run, "end", status)


@dataclass(kw_only=True)
class Vandal(Callback):
    """Spoils all that it is handed, draws random numbers everywhere, and raises at one event."""

    raises: Literal["start", "epoch", "end", "never"]

    def _spoil(self, event: str) -> None:
        torch.rand(3), np.random.rand(), random.random()
        if event == self.raises:
            raise RuntimeError(f"at {event},\non two lines")

    def on_run_start(self, run: WatchedRun) -> None:
        self._spoil("start")

    def on_epoch(self, run: WatchedRun, loop: str, epoch: int, of: int, metrics: dict[str, float]) -> None:
        metrics.clear()
        run.config["method"]["epochs"] = 1
        self._spoil("epoch")

    def on_run_end(self, run: WatchedRun, status: str, metrics: dict[str, float], reason: str) -> None:
        metrics["test_acc"] = 1e9
        self._spoil("end")


class Unbuildable(Callback):
    """Its constructor raises."""

    def __init__(self, *, reason: str) -> None:
        raise OSError(reason)


class Stranger:
    """No callback."""

    def __init__(self, *, number: int) -> None:
        self.number = number
