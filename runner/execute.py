"""One run's way through the house: from an identity to a recorded result."""

from __future__ import annotations

import json
import math
import random
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml

from runner import code_fingerprint, environment, registry, stored
from runner.attempt import Attempt, AttemptState, folder_of, locked
from runner.contracts import Method, Task
from runner.errors import BadInput, CorruptData, Diverged, Interrupted, RunnerError, StoreUnavailable
from runner.hardware.torch_device import TorchDevice
from runner.identity import ID_PREFIX, Identity, canonical, differences
from runner.loops import Loops, save_whole
from runner.progress import Progress
from runner.run import FinishedRun, Run, save_json
from runner.store import writer
from runner.store.records import KEY_TAG, KIND_TAG, Record, Records, uri_of

CHECKPOINT = "model.pt"
UNOFFICIAL_TAG = "runner.unofficial"


@dataclass(frozen=True)
class Outcome:
    """What became of a run that was asked for."""

    identity: Identity
    status: str
    """finished | existing | failed."""
    run_id: str | None
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    """Why it failed, or what else there is to know."""
    stale: bool = False
    """Whether the code has changed since this (existing) run."""
    error: BaseException | None = None


def make_exist(identity: Identity, overrides: Sequence[str]) -> Outcome:
    """Make a run exist: find it in the store, or make it. Failures are outcomes; bad input and signals are raised.

    Args:
        identity: the run.
        overrides: the command line that repeats it.

    Raises:
        BadInput: something about the config shows only now (a missing device, a split that isn't there).
        DataUnavailable, CorruptData: the data can't be had.
        StoreUnavailable: the store can't be asked.
        Interrupted: Ctrl-C or SIGTERM; the attempt is KILLED and resumable.
    """
    config = identity.config
    uri = uri_of(config)
    records = Records(uri, config["tracking"]["experiment"])
    if not config["rerun"] and (found := existing(identity, records)):
        return found
    with locked(config["home"], uri, identity.key):
        superseded = records.finished([identity.key]).get(identity.key)
        if superseded and not config["rerun"]:
            return existing_outcome(identity, superseded)
        references = _references(identity, overrides, records)
        outcome = _Attempt(identity, overrides, records, references).make()
        if superseded and outcome.status == "finished":
            writer.supersede(uri, superseded.run_id)
        return outcome


def existing(identity: Identity, records: Records) -> Outcome | None:
    """The outcome of a run that the store has as finished."""
    record = records.finished([identity.key]).get(identity.key)
    return None if record is None else existing_outcome(identity, record)


def existing_outcome(identity: Identity, record: Record) -> Outcome:
    """The outcome for a run that needn't be made."""
    return Outcome(identity, "existing", record.run_id, record.metrics, stale=stored.is_stale(record, identity.config))


def _references(identity: Identity, overrides: Sequence[str], records: Records) -> dict[str, FinishedRun]:
    """Make the runs exist that this one refers to."""
    found = {}
    for name, other in identity.references.items():
        target = identity.config["method"][name].split()
        shared = [line for line in overrides if line.startswith(("home=", "tracking.", "progress="))]
        outcome = make_exist(other, [*target, *shared])
        if outcome.run_id is None or outcome.status == "failed":
            raise RunnerError(f"the run that method.{name} refers to failed: {outcome.reason}")
        found[name] = _finished(other, outcome.run_id, outcome.metrics, records)
    for name, value in identity.config["method"].items():
        if isinstance(value, str) and value.startswith(ID_PREFIX):
            record = records.one(value.removeprefix(ID_PREFIX))
            found[name] = _finished(stored.identity_of(record), record.run_id, record.metrics, records)
    return found


def _finished(identity: Identity, run_id: str, metrics: dict[str, float], records: Records) -> FinishedRun:
    def restore() -> Method[Any]:
        hardware: TorchDevice = registry.build(identity.config["hardware"])
        task = load_task(identity, hardware)
        with TemporaryDirectory() as folder:
            attempt = Attempt(Path(folder), AttemptState(identity.key, records.uri, records.experiment, "", ""))
            run, _ = _make_run(identity, attempt, hardware, _references(identity, (), records))
            method: Method[Any] = registry.build(identity.config["method"])
            method.build(task, run)
        load_checkpoint(method, records, run_id)
        return method

    return FinishedRun(run_id, identity.config, metrics, restore)


def load_task(identity: Identity, hardware: TorchDevice) -> Task:
    """The task of a run, verified against the fingerprint that its dataset pins, on the device.

    Raises:
        CorruptData: the content isn't what the recipe pins.
    """
    section = identity.config["dataset"]
    task: Task = registry.build(section).load(identity.deciding["task"]["kind"])
    pinned = section.get("_fingerprint_")
    if pinned and task.fingerprint != pinned:
        raise CorruptData(
            f"dataset '{identity.choices['dataset']}': content fingerprint {task.fingerprint} differs from the pinned "
            f"{pinned}; `runner data verify {identity.choices['dataset']}` tells more"
        )
    return task.to(hardware.torch_device, hardware.dtype)


def load_checkpoint(method: Method[Any], records: Records, run_id: str) -> None:
    """Load the weights of a finished run into a built method.

    Raises:
        CorruptData: they are another network's.
    """
    with TemporaryDirectory() as folder:
        file = writer.artifact(records.uri, run_id, CHECKPOINT, Path(folder))
        try:
            weights = torch.load(file, weights_only=True)
            method.model.load_state_dict(weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CorruptData(f"checkpoint of run {run_id} doesn't fit: {reason[:300]}") from error


def _make_run(
    identity: Identity, attempt: Attempt, hardware: TorchDevice, references: dict[str, FinishedRun]
) -> tuple[Run, Loops]:
    config = identity.config
    seed = config["method"].get("_seed_", config["seed"])
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    loops = Loops(
        attempt,
        generator=generator,
        progress=Progress(config["progress"]),
        limit=config["limit"],
        time_budget=config["time_budget"],
        snapshot_every=config["checkpoint"]["every"],
        upload=lambda: upload_quietly(attempt),
        upload_every=config["tracking"]["upload_every"],
    )
    run = Run(
        attempt=attempt,
        hardware=hardware,
        backbone=registry.build(config["model"]),
        loops=loops,
        generator=generator,
        references=references,
    )
    return run, loops


def upload_quietly(attempt: Attempt) -> None:
    """Upload what is there; a store that is away now gets it at the end."""
    try:
        writer.upload(attempt)
    except StoreUnavailable:
        return


class _Attempt:
    """Makes one run and records it."""

    def __init__(
        self, identity: Identity, overrides: Sequence[str], records: Records, references: dict[str, FinishedRun]
    ) -> None:
        self.identity = identity
        self.config = identity.config
        self.records = records
        self.references = references
        self.hardware: TorchDevice = registry.build(self.config["hardware"])
        self.hardware.check()
        self.task = load_task(identity, self.hardware)
        self.attempt = self._open(list(overrides))

    def _open(self, overrides: list[str]) -> Attempt:
        """The attempt that a killed run left, if the code is still the same; else a new one."""
        identity, config = self.identity, self.config
        folder = folder_of(config["home"], identity.key)
        code = code_fingerprint.of_sections(config)
        left = Attempt.load(folder)
        if left is not None and left.state.code == code and left.state.status in ("KILLED", "RUNNING"):
            state = left.state
        else:
            if left is not None:
                left.remove()
            name = f"{identity.choices['method']}-{identity.choices['dataset']}-{config['seed']}"
            state = AttemptState(identity.key, self.records.uri, self.records.experiment, name, code)
            state.start_ms = time.time_ns() // 1_000_000
        state.status, state.recorded, state.end_ms = "RUNNING", False, None
        state.tags = self._tags(overrides, code)
        state.params = {key: str(value) for key, value in flat(config).items()}
        attempt = Attempt(folder, state)
        attempt.save()
        return attempt

    def _tags(self, overrides: list[str], code: str) -> dict[str, str]:
        identity, config = self.identity, self.config
        tags = {
            KEY_TAG: identity.key,
            KIND_TAG: config["mode"],
            **{f"runner.{section}": identity.choices[section] for section in registry.SECTIONS},
            "runner.seed": str(config["seed"]),
            "runner.overrides": json.dumps(overrides),
            "runner.deciding": canonical(identity.deciding),
            stored.CODE_TAG: code,
            "runner.machine": environment.machine(),
            "mlflow.source.name": "runner",
        }
        if parent := config["tracking"]["parent"]:
            tags["mlflow.parentRunId"] = parent
        if commit := environment.commit():
            tags["mlflow.source.git.commit"] = commit["commit"]
            tags["runner.git.dirty"] = str(commit["dirty"]).lower()
        if config["limit"] is not None:
            tags[UNOFFICIAL_TAG] = f"limit={config['limit']}"
        return tags

    def make(self) -> Outcome:
        """Build, fit, evaluate and record."""
        attempt, state = self.attempt, self.attempt.state
        writer.begin(attempt)
        reason, error = "", None
        try:
            with self.hardware.entered():
                self.hardware.start_measuring()
                state.metrics = self._compute()
            state.status = "FINISHED"
        except (Interrupted, KeyboardInterrupt):
            state.status = "KILLED"
            state.tags["runner.reason"] = "interrupted"
            self._end()
            raise
        except BadInput:
            state.status = "FAILED"
            self._end()
            raise
        except Exception as caught:
            error = caught
            reason = str(caught) if isinstance(caught, RunnerError) else f"{type(caught).__name__}: {caught}"
            state.status = "FAILED"
            state.tags["runner.reason"] = reason
            (attempt.artifacts / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        note = self._end()
        status = "finished" if state.status == "FINISHED" else "failed"
        return Outcome(self.identity, status, state.run_id, state.metrics, reason or note, error=error)

    def _end(self) -> str:
        self.attempt.state.end_ms = time.time_ns() // 1_000_000
        self.attempt.save()
        try:
            writer.end(self.attempt)
        except StoreUnavailable as error:
            return f"{error}; the run is kept in {self.attempt.folder} and recorded by the next command"
        return ""

    def _compute(self) -> dict[str, float]:
        """Metrics and costs; writes checkpoint, splits, config and environment as artefacts."""
        config, task, artifacts = self.config, self.task, self.attempt.artifacts
        (artifacts / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        save_json(environment.describe(), artifacts / "environment.json")
        method: Method[Any] = registry.build(config["method"])
        run, loops = _make_run(self.identity, self.attempt, self.hardware, self.references)
        if splits := task.splits():
            run.save("splits", splits)
        method.build(task, run)
        costs: dict[str, float] = {}
        torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # torch imports its compiler here: no training time
        loops.start_clock()
        if config["mode"] == "evaluate":
            load_checkpoint(method, self.records, config["run"])
        else:
            method.fit(task, run)
            self.hardware.synchronize()
            costs |= _training_costs(loops)
            save_whole(method.model.state_dict(), artifacts / CHECKPOINT)
        if loops.budget_reached:
            self.attempt.state.tags[UNOFFICIAL_TAG] = f"time_budget={config['time_budget']}"
        begun = time.perf_counter()
        metrics = {name: float(value) for name, value in method.evaluate(task, run).items()}
        self.hardware.synchronize()
        costs["inference_seconds"] = time.perf_counter() - begun
        costs["parameters"] = sum(parameter.numel() for parameter in method.model.parameters())
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(f"{name} is {value}")
        for name, figure in self.hardware.plots().items():
            run.save(name, figure)
        return metrics | costs | self.hardware.measure() | self.hardware.cost(method.model, task)


def _training_costs(loops: Loops) -> dict[str, float]:
    costs: dict[str, float] = {"fit_seconds": loops.fit_seconds}
    measured = {name: state for name, state in loops.states.items() if state.activation_bytes is not None}
    for name, state in measured.items():
        costs[f"saved_activation_bytes/{name}"] = state.activation_bytes or 0
    if measured:
        costs["saved_activation_bytes"] = max(state.activation_bytes or 0 for state in measured.values())
        costs["saved_fixed_bytes"] = max(state.fixed_bytes or 0 for state in measured.values())
    for name, state in loops.states.items():
        costs[f"epochs/{name}"] = state.epoch
    costs["epochs"] = sum(state.epoch for state in loops.states.values())
    return costs


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """A nested dict by dotted keys; what is None is left out."""
    return {dotted: value for dotted, (value, _) in differences(config, {}).items()}
