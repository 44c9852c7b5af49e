"""One run's way through the house: from an identity to a recorded result."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import random
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml

from runner import callbacks, code_fingerprint, environment, registry, stored
from runner.attempt import Attempt, AttemptState, folder_of, locked, set_aside
from runner.callbacks import Callback, WatchedRun, Watchers
from runner.contracts import Method, Task
from runner.errors import (
    BadInput,
    CorruptData,
    Diverged,
    Interrupted,
    Pruned,
    RunFailed,
    RunnerError,
    StoreUnavailable,
)
from runner.hardware.torch_device import TorchDevice
from runner.identity import ID_PREFIX, Identity, canonical, differences, referred
from runner.loops import BeginAnew, Loops, random_state, set_random_state
from runner.progress import Progress
from runner.run import FinishedRun, Run, save_json
from runner.state_files import load_whole, misfit, save_whole
from runner.store import writer
from runner.store.records import KEY_TAG, KIND_TAG, Record, Records, uri_of

CHECKPOINT = "model.pt"
UNOFFICIAL_TAG = "runner.unofficial"
TOGETHER_TAG = "runner.together"
"""Runs that were trained in one pass with this one, itself included: its training time is its share of theirs."""
COSTLESS_TAG = "runner.no_cost"
"""Why the modelled hardware has no cost to tell."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says where a disk is full."""


@dataclass(frozen=True)
class Outcome:
    """What became of a run that was asked for."""

    identity: Identity
    status: str
    """finished | existing | failed | pruned."""
    run_id: str | None
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    """Why it failed or was pruned, or what else there is to know."""
    stale: bool = False
    """Whether the code has changed since this (existing) run."""
    error: BaseException | None = None


def make_exist(identity: Identity, overrides: Sequence[str], watching: Sequence[Callback] = ()) -> Outcome:
    """Make a run exist: find it in the store, or make it. Failures are outcomes; bad input and signals are raised.

    Args:
        identity: the run.
        overrides: the command line that repeats it.
        watching: callbacks beside those of the config. Neither hear of runs that exist, or are referred to.

    Raises:
        BadInput: something about the config shows only now (a missing device, a split that isn't there).
        DataUnavailable, CorruptData: the data can't be had.
        StoreUnavailable: the store can't be asked, or is of another schema. One that can be read, but not written
            now, gets the run later.
        RunFailed: neither the store nor the disk could take the result.
        Interrupted: Ctrl-C or SIGTERM; the attempt is KILLED and resumable.
    """
    with claimed(identity, overrides, watching) as found:
        return found if isinstance(found, Outcome) else found.make()


@contextlib.contextmanager
def claimed(
    identity: Identity, overrides: Sequence[str], watching: Sequence[Callback] = ()
) -> Iterator[Outcome | Making]:
    """The outcome of a run that exists, or its making, which is this process's alone inside; else as ``make_exist``."""
    config = identity.config
    uri = uri_of(config)
    records = Records(uri, config["tracking"]["experiment"])
    if not config["rerun"] and (found := existing(identity, records)):
        yield found
        return
    with locked(config["home"], uri, identity.key):
        yield _claim(identity, overrides, watching, records)


def _claim(
    identity: Identity, overrides: Sequence[str], watching: Sequence[Callback], records: Records
) -> Outcome | Making:
    config, uri = identity.config, records.uri
    kept = Attempt.load(folder_of(config["home"], identity.key))
    waiting = kept if kept is not None and kept.state.status == "FINISHED" else None
    note = _record(waiting) if waiting else ""
    superseded = records.finished([identity.key]).get(identity.key)
    if superseded and not config["rerun"]:
        return existing_outcome(identity, superseded)
    if waiting and note:
        if config["rerun"]:
            raise StoreUnavailable(f"the finished run of this key must be recorded before it is made again: {note}")
        return Outcome(identity, "finished", None, waiting.state.metrics, note)
    writer.check(uri)
    references = _references(identity, overrides, records)
    return Making(identity, overrides, records, references, superseded, watching)


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
    targets = referred(identity.config["method"])
    for name, other in identity.references.items():
        target = targets[name].split()
        shared = [line for line in overrides if line.startswith(("home=", "tracking.", "progress="))]
        outcome = make_exist(other, [*target, *shared])
        if outcome.run_id is None or outcome.status == "failed":
            raise RunnerError(f"the run that method.{name} refers to failed: {outcome.reason}")
        found[name] = _finished(other, outcome.run_id, outcome.metrics, records)
    for name, value in targets.items():
        if value.startswith(ID_PREFIX):
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
    """Load the weights of a finished run into a built method, all of them or none.

    Raises:
        CorruptData: they are damaged, or another network's.
    """
    try:
        with TemporaryDirectory() as folder:
            weights = load_whole(writer.artifact(records.uri, run_id, CHECKPOINT, Path(folder)))
        if reason := misfit(method.model, weights):
            raise CorruptData(f"{CHECKPOINT}: {reason}")
    except CorruptData as error:
        again = " ".join(stored.overrides_of(records.one(run_id)))
        raise CorruptData(
            f"checkpoint of run {run_id} can't be loaded ({error}); `runner {again} rerun=true` makes the run again"
        ) from error
    method.model.load_state_dict(weights)


def _make_run(
    identity: Identity,
    attempt: Attempt,
    hardware: TorchDevice,
    references: dict[str, FinishedRun],
    watchers: Watchers | None = None,
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
        progress=Progress(config["progress"], alone=config["tracking"]["parent"] is None),
        limit=config["limit"],
        time_budget=config["time_budget"],
        snapshot_every=config["checkpoint"]["every"],
        upload=lambda: upload_quietly(attempt),
        upload_every=config["tracking"]["upload_every"],
        saved_bytes=hardware.saved_bytes,
        watch=watchers.epoch if watchers else None,
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


def _record(attempt: Attempt) -> str:
    """Give the store an attempt that ended; a store that can't take it is told of, and the folder keeps it.

    Raises:
        RunFailed: the folder can't keep a finished run either.
    """
    attempt.flush()
    attempt.save()
    try:
        writer.end(attempt)
    except StoreUnavailable as error:
        if attempt.trouble and attempt.state.status == "FINISHED":
            figures = ", ".join(f"{name} {value:.6g}" for name, value in attempt.state.metrics.items())
            raise RunFailed(
                f"the result can't be kept: {error}; nor does {attempt.folder} take it: {attempt.trouble}; "
                f"it was: {figures}"
            ) from error
        return f"{error}; the run is kept in {attempt.folder} and recorded by the next command"
    return ""


def upload_quietly(attempt: Attempt) -> None:
    """Upload what is there; a store that is away now gets it at the end."""
    try:
        writer.upload(attempt)
    except StoreUnavailable:
        return


@dataclass(frozen=True)
class Built:
    """A run that is ready to be trained: what its making waits with."""

    method: Method[Any]
    task: Task
    run: Run
    loops: Loops


Fit = Callable[[], Iterator[None]]
"""Trains a run in turns with others."""


class Making:
    """Makes one run and records it."""

    def __init__(
        self,
        identity: Identity,
        overrides: Sequence[str],
        records: Records,
        references: dict[str, FinishedRun],
        superseded: Record | None,
        watching: Sequence[Callback],
    ) -> None:
        self.identity = identity
        self.config = identity.config
        self.records = records
        self.references = references
        self.superseded = superseded
        self.hardware: TorchDevice = registry.build(self.config["hardware"])
        self.hardware.check()
        self.callbacks = callbacks.build(self.config["callbacks"], watching)
        self.task = load_task(identity, self.hardware)
        self.attempt = self._open(list(overrides))

    def _open(self, overrides: list[str]) -> Attempt:
        """The attempt that a killed run left, if the code is still the same; else a new one."""
        identity, config = self.identity, self.config
        folder = folder_of(config["home"], identity.key)
        code = code_fingerprint.of_sections(config)
        left = Attempt.load(folder)
        if left is None and (folder / "attempt.json").exists():
            set_aside(folder)
        if left is not None and left.state.code == code and left.state.status in ("KILLED", "RUNNING"):
            state = left.state
        else:
            if left is not None:
                left.remove()
            name = f"{identity.choices['method']}-{identity.choices['dataset']}-{config['seed']}"
            state = AttemptState(identity.key, self.records.uri, self.records.experiment, name, code)
            state.start_ms = time.time_ns() // 1_000_000
        state.status, state.recorded, state.end_ms = "RUNNING", False, None
        state.supersedes = self.superseded.run_id if self.superseded else None
        state.tags = self._tags(overrides, code)
        state.params = {key: str(value) for key, value in flat(_recorded(config)).items()}
        try:
            attempt = Attempt(folder, state)
        except OSError as error:
            raise StoreUnavailable(f"{folder} can't be made: {error}; choose another folder with home=…") from error
        attempt.save()
        if attempt.trouble:
            raise StoreUnavailable(f"{folder} can't be written: {attempt.trouble}; choose another folder with home=…")
        return attempt

    def _tags(self, overrides: list[str], code: str) -> dict[str, str]:
        identity, config = self.identity, self.config
        tags = {
            KEY_TAG: identity.key,
            KIND_TAG: config["mode"],
            **{f"runner.{section}": identity.choices[section] for section in registry.SECTIONS},
            "runner.seed": str(config["seed"]),
            "runner.overrides": json.dumps(
                [line for line in overrides if not line.lstrip("+~").startswith("callbacks")]
            ),
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
        with self.hardware.entered():
            steps = self.steps()
            try:
                while True:
                    next(steps)
            except StopIteration as end:
                outcome: Outcome = end.value
        return outcome

    def steps(self, companions: int = 0) -> Generator[Built | None, Fit | None, Outcome]:
        """The same in steps; the hardware is entered already.

        It yields once the method is built, and takes how the run is trained; None: by its method alone. Where it is
        trained in turns with so many others, None is yielded between them. What is thrown in counts as the run's own.
        """
        attempt, state = self.attempt, self.attempt.state
        try:
            writer.begin(attempt)
        except StoreUnavailable as away:  # it could be asked: what is computed now it gets at the end, or later
            print(f"runner: {away}; the run goes on without it", file=sys.stderr)
        self.watchers = Watchers(self.callbacks, self._watched())
        reason, error = "", None
        try:
            self.watchers.start()
            self.hardware.start_measuring()
            state.metrics = yield from self._compute(companions)
            state.status = "FINISHED"
        except (Interrupted, KeyboardInterrupt):
            state.status = "KILLED"
            state.tags["runner.reason"] = "interrupted"
            self._end()
            raise
        except Pruned as caught:
            reason = str(caught)
            state.status = "KILLED"
            state.tags["runner.reason"] = reason
        except BadInput as caught:
            state.status = "FAILED"
            state.tags["runner.reason"] = str(caught)
            self._end()
            raise
        except Exception as caught:
            error = caught
            reason = str(caught) if isinstance(caught, RunnerError) else f"{type(caught).__name__}: {caught}"
            if isinstance(caught, OSError) and caught.errno in FULL:
                reason = f"the result can't be kept: {caught}; free some space, or move it with home=…, and repeat"
            state.status = "FAILED"
            state.tags["runner.reason"] = reason
            with contextlib.suppress(OSError):
                (attempt.artifacts / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        note = self._end()
        status = {"FINISHED": "finished", "KILLED": "pruned"}.get(state.status, "failed")
        return Outcome(self.identity, status, state.run_id, state.metrics, reason or note, error=error)

    def _watched(self) -> WatchedRun:
        identity, run_id = self.identity, str(self.attempt.state.run_id)
        return WatchedRun(identity.key, identity.title, identity.choices, self.config, run_id, seed=self.config["seed"])

    def _end(self) -> str:
        state = self.attempt.state
        state.end_ms = time.time_ns() // 1_000_000
        note = _record(self.attempt)
        self.watchers.end(state.status.lower(), state.metrics, state.tags.get("runner.reason", ""))
        return note

    def _compute(self, companions: int) -> Generator[Built | None, Fit | None, dict[str, float]]:
        """Metrics and costs; writes checkpoint, splits, config and environment as artefacts."""
        config, task, artifacts = self.config, self.task, self.attempt.artifacts
        (artifacts / "config.yaml").write_text(yaml.safe_dump(_recorded(config), sort_keys=False), encoding="utf-8")
        save_json(environment.describe(), artifacts / "environment.json")
        method: Method[Any] = registry.build(config["method"])
        run, loops = _make_run(self.identity, self.attempt, self.hardware, self.references, self.watchers)
        if splits := task.splits():
            run.save("splits", splits)
        method.build(task, run)
        run.backbone.initialise(method.model, task)
        costs: dict[str, float] = {}
        torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # torch imports its compiler here: no training time
        states = random_state(run.generator)
        fit = yield Built(method, task, run, loops)
        set_random_state(states, run.generator)  # others may have been built meanwhile
        loops.start_clock()
        if config["mode"] == "evaluate":
            load_checkpoint(method, self.records, config["run"])
        else:
            try:
                if fit is None:
                    method.fit(task, run)
                else:
                    self.attempt.state.tags[TOGETHER_TAG] = str(companions + 1)
                    loops.take_turns()
                    yield from fit()
                    loops.rejoin()
            except BeginAnew:
                return (yield from self._compute(0))
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
        for name, figure in self.hardware.plots(method.model, task).items():
            run.save(name, figure)
        if reason := self.hardware.costless(method.model, task):
            self.attempt.state.tags[COSTLESS_TAG] = reason
        measured = {} if companions else self.hardware.measure()  # of all that the process made meanwhile
        return metrics | costs | measured | self.hardware.cost(method.model, task)


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


def _recorded(config: dict[str, Any]) -> dict[str, Any]:
    """A config without the callback of its search: the address of a storage may hold a password."""
    return config | {"callbacks": {name: one for name, one in config["callbacks"].items() if name != callbacks.STUDY}}


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """A nested dict by dotted keys; what is None is left out."""
    return {dotted: value for dotted, (value, _) in differences(config, {}).items()}
