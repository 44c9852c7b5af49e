"""Named epoch loops: validation rhythm, patience, best state, time budget, and resumption of a killed run.

A method writes several loops in a row. When a killed run is repeated, the method starts from the top:
a loop that had finished yields nothing and puts back what it left (tracked modules and optimisers,
random states); the loop that was under way goes on after its last snapshot. Everything between the loops
is computed again, from the same states, so that the result is the same to the bit.
"""

from __future__ import annotations

import copy
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from torch import nn

from runner.attempt import Attempt
from runner.errors import CorruptData, Diverged
from runner.hardware.activations import SavedActivations, storage_bytes
from runner.progress import Progress
from runner.state_files import load_whole, misfit, save_whole


class Stateful(Protocol):
    """What can be tracked: a module, an optimiser, a scheduler."""

    def state_dict(self) -> dict[str, Any]:
        """The object's state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Put a state back."""


class BeginAnew(Exception):
    """Snapshots turned out not to fit, and are gone; the run has to be built and fitted anew."""


class Epoch(int):
    """The number of an epoch, from 1; ``validates`` says whether the loop expects a validation in it."""

    validates: bool

    def __new__(cls, number: int, validates: bool) -> Self:
        """An epoch of this number."""
        epoch = super().__new__(cls, number)
        epoch.validates = validates
        return epoch


@dataclass
class LoopState:
    """All that a loop needs to go on, beside the tracked objects."""

    name: str
    epoch: int = 0
    done: bool = False
    best: float | None = None
    best_epoch: int = 0
    best_state: dict[str, Any] = field(default_factory=dict)
    misses: int = 0
    """Validations in a row without a strictly better score."""
    lines: int = 0
    """Length of the spool at the snapshot."""
    fit_seconds: float = 0.0
    activation_bytes: int | None = None
    """Activations that an epoch saves for its backward pass; None where the loop was too short to tell."""
    fixed_bytes: int | None = None
    """Saved tensors that outlive the epoch, parameters left out."""


class Loops:
    """The epoch loops of one run. ``Run.epochs``, ``Run.track`` and ``Run.log`` are its face."""

    def __init__(
        self,
        attempt: Attempt,
        *,
        generator: torch.Generator,
        progress: Progress,
        limit: int | None,
        time_budget: float | None,
        snapshot_every: float,
        upload: Callable[[], object],
        upload_every: float,
        saved_bytes: Callable[[torch.Tensor], int] = storage_bytes,
        watch: Callable[[str, int, int, dict[str, float]], object] | None = None,
    ) -> None:
        """``limit``: most epochs of a loop; ``time_budget``, ``snapshot_every``, ``upload_every``: seconds.

        ``saved_bytes``: what the hardware would hold for a tensor's storage.
        ``watch`` is told of each epoch's end: loop, epoch, most epochs, metrics of the epoch.
        """
        self._attempt = attempt
        self._generator = generator
        self._progress = progress
        self._limit = limit
        self._time_budget = time_budget
        self._snapshot_every = snapshot_every
        self._upload = upload
        self._upload_every = upload_every
        self._saved_bytes = saved_bytes
        self._watch = watch
        self._tracked: dict[str, Stateful] = {}
        self._names: list[str] = []
        self._loop: LoopState | None = None
        self._of = 0
        self._latest: dict[str, float] = {}
        self._last_snapshot = self._last_upload = time.monotonic()
        self._clock = 0.0
        self._seconds_before = 0.0
        self._seconds_aside = 0.0
        self._turns: float | None = None
        self._apart: dict[str, Any] | None = None
        self.draws = torch.Generator()
        """Torch's global generator as it is for this run, while it is trained with others in turn."""
        self._snapshots = self._left_behind()
        self._line = 0
        self._told = False
        self.budget_reached = False
        self.resumed_from: str | None = None
        """Where a killed run went on, for people."""
        self.states: dict[str, LoopState] = {}
        """How each finished loop ended."""

    def start_clock(self) -> None:
        """Begin to count training time."""
        self._clock = time.perf_counter()

    @property
    def fit_seconds(self) -> float:
        """Seconds of training so far, earlier attempts included, snapshots and uploads left out."""
        if self._turns is not None:
            return self._seconds_before + self._turns
        return self._seconds_before + time.perf_counter() - self._clock - self._seconds_aside

    @property
    def seconds_aside(self) -> float:
        """Seconds of snapshots, uploads and callbacks since the clock began, or since a snapshot was put back."""
        return self._seconds_aside

    def take_turns(self) -> None:
        """From now on the run is trained with others in turn, and is told by ``spend`` what it took.

        Its random states are kept apart from those of the process, as they are now.
        """
        self._apart, self._turns = random_state(self._generator), 0.0
        self.draws.set_state(self._apart["torch"])

    def spend(self, seconds: float) -> None:
        """A turn took so long."""
        assert self._turns is not None
        self._turns += seconds

    def rejoin(self) -> None:
        """The run has the process to itself again: put its random states back."""
        if self._apart is not None:
            set_random_state(self._random_state(), self._generator)
            self._apart = None

    def _random_state(self) -> dict[str, Any]:
        if self._apart is None:
            return random_state(self._generator)
        return self._apart | {"torch": self.draws.get_state(), "run": self._generator.get_state()}

    def track(self, **objects: Stateful) -> None:
        """Name what the next loop snapshots and restores. It replaces what was tracked before."""
        self._tracked = dict(objects)

    def log(self, **values: float | torch.Tensor) -> None:
        """Log metrics of the current epoch; inside a loop their names get the loop's as a prefix.

        Raises:
            Diverged: a value is NaN or infinite.
        """
        plain = {
            name: value.item() if isinstance(value, torch.Tensor) else float(value) for name, value in values.items()
        }
        prefix, step = (f"{self._loop.name}/", self._loop.epoch) if self._loop else ("", 0)
        for name, value in plain.items():
            if value - value != 0.0:
                raise Diverged(f"{prefix}{name} is {value} at epoch {step}: training diverged; a smaller lr may help")
        self._latest.update(plain)
        self._line += 1
        if self._line > self._attempt.lines_written:  # a resumed run has logged the lines before this one already
            self._attempt.log({prefix + name: value for name, value in plain.items()}, step, self._of)

    def epochs(
        self,
        n: int,
        *,
        name: str = "train",
        monitor: str | None = None,
        mode: Literal["max", "min"] = "max",
        patience: int | None = None,
        every: int = 1,
        restore_best: bool = True,
    ) -> Iterator[Epoch]:
        """Yield the epochs 1..n of a loop.

        Args:
            n: most epochs.
            name: unique in the run; a path component of its metrics' names.
            monitor: a metric that is logged at every validation; needed for ``patience`` and ``restore_best``.
            mode: whether larger or smaller is better. Only a strictly better value counts.
            patience: validations without progress after which the loop ends; None: never.
            every: epochs from one validation to the next; the first is after ``every`` epochs.
            restore_best: whether the tracked modules end in the state of the best validation.
        """
        if name in self._names or not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"loop name {name!r}: each loop of a run needs a name of its own, of letters and digits")
        self._names.append(name)
        n = n if self._limit is None else min(n, self._limit)
        every = min(every, n)
        state = self.states[name] = self._restore(name) or LoopState(name)
        if state.done:
            return
        self._loop, self._of, self._latest = state, n, {}
        measured: SavedActivations | None = None
        with self._progress.loop(name, n) as bar:
            while state.epoch < n and not self._out_of_patience(state, patience) and not self._out_of_time():
                state.epoch += 1
                self._latest = {}
                epoch = Epoch(state.epoch, state.epoch % every == 0)
                if epoch == 1:
                    measured = SavedActivations(self._saved_bytes)
                    with measured:
                        yield epoch
                else:
                    yield epoch
                if epoch.validates and monitor is not None:
                    self._validated(state, monitor, mode, restore_best)
                if measured is not None and measured.settle(epoch):
                    state.activation_bytes, state.fixed_bytes = measured.bytes, measured.fixed_bytes
                    measured = None
                bar.update(epoch, self._latest)
                if self._watch is not None:
                    self._tell(self._watch, state)
                self._rhythm(state)
        if restore_best and state.best_state:
            for key, values in state.best_state.items():
                self._tracked[key].load_state_dict(values)
        state.best_state = {}
        state.done = True
        self._loop = None
        self._snapshot(state)

    def _out_of_patience(self, state: LoopState, patience: int | None) -> bool:
        return patience is not None and state.misses >= patience

    def _out_of_time(self) -> bool:
        if self._time_budget is not None and self.fit_seconds > self._time_budget:
            self.budget_reached = True
        return self.budget_reached

    def _validated(self, state: LoopState, monitor: str, mode: str, restore_best: bool) -> None:
        if monitor not in self._latest:
            raise KeyError(f"loop '{state.name}' monitors '{monitor}', which epoch {state.epoch} did not log")
        value = self._latest[monitor]
        better = state.best is None or (value > state.best if mode == "max" else value < state.best)
        if better:
            state.best, state.best_epoch, state.misses = value, state.epoch, 0
            if restore_best:
                state.best_state = {
                    name: copy.deepcopy(item.state_dict())
                    for name, item in self._tracked.items()
                    if isinstance(item, nn.Module)
                }
        else:
            state.misses += 1

    def _tell(self, watch: Callable[[str, int, int, dict[str, float]], object], state: LoopState) -> None:
        """Neither its time nor the random numbers that it draws are the run's."""
        begun, before = time.perf_counter(), random_state(self._generator)
        watch(state.name, state.epoch, self._of, self._latest)
        set_random_state(before, self._generator)
        self._seconds_aside += time.perf_counter() - begun

    def _rhythm(self, state: LoopState) -> None:
        now = time.monotonic()
        if now - self._last_snapshot >= self._snapshot_every:
            self._snapshot(state)
        if now - self._last_upload >= self._upload_every:
            begun = time.perf_counter()
            self._upload()
            self._seconds_aside += time.perf_counter() - begun
            self._last_upload = time.monotonic()

    def _snapshot(self, state: LoopState) -> None:
        begun = time.perf_counter()
        state.lines, state.fit_seconds = self._line, self.fit_seconds
        self._attempt.flush()
        content = {
            "of": [self._attempt.state.key, state.name],
            "loop": vars(state),
            "tracked": {name: item.state_dict() for name, item in self._tracked.items()},
            "random": self._random_state(),
        }
        try:
            save_whole(content, self._attempt.snapshots / f"{state.name}.pt")
        except OSError as error:  # the run can go on; only a killed one would miss it
            if not self._told:
                print(f"runner: no snapshot, a killed run would begin again: {error}", file=sys.stderr)
            self._told = True
        self._last_snapshot = time.monotonic()
        self._seconds_aside += time.perf_counter() - begun

    def _left_behind(self) -> dict[str, dict[str, Any]]:
        """The snapshots of a killed attempt; none where one of them is damaged, or metrics are missing."""
        attempt = self._attempt
        try:
            found = {file.stem: load_whole(file) for file in sorted(attempt.snapshots.glob("*.pt"))}
            for name, content in found.items():
                if not isinstance(content, dict) or content.get("of") != [attempt.state.key, name]:
                    raise CorruptData(f"{name}.pt: another run's")
            lines = max((content["loop"]["lines"] for content in found.values()), default=0)
            attempt.truncate(lines)
            if attempt.lines_written < lines:
                raise CorruptData(f"{attempt.spool.name}: has {attempt.lines_written} of {lines} lines")
        except CorruptData as error:
            self._discard(str(error))
            return {}
        return found

    def _discard(self, reason: str) -> None:
        folder = self._attempt.folder
        print(f"runner: the killed attempt in {folder} can't go on ({reason}); the run begins anew", file=sys.stderr)
        for file in self._attempt.snapshots.iterdir():
            file.unlink()
        self._attempt.truncate(0)

    def _restore(self, name: str) -> LoopState | None:
        content = self._snapshots.pop(name, None)
        if content is None:
            return None
        if reason := self._unfit(content["tracked"]):
            self._discard(f"{name}.pt: {reason}")
            raise BeginAnew
        state = LoopState(**content["loop"])
        for key, values in content["tracked"].items():
            self._tracked[key].load_state_dict(values)
        set_random_state(content["random"], self._generator)
        if self._apart is not None:
            self._apart, self._turns = content["random"], 0.0
            self.draws.set_state(content["random"]["torch"])
        self._line = state.lines
        self._seconds_before = state.fit_seconds
        self.start_clock()
        self._seconds_aside = 0.0
        self.resumed_from = f"{name}, epoch {state.epoch}"
        return state

    def _unfit(self, tracked: dict[str, Any]) -> str:
        """Why a snapshot's states can't be put back into what is tracked now, or the empty string."""
        if tracked.keys() != self._tracked.keys():
            return f"holds {sorted(tracked)}, tracked are {sorted(self._tracked)}"
        for name, item in self._tracked.items():
            if isinstance(item, nn.Module):
                reason = misfit(item, tracked[name])
            else:
                reason = "" if _outline(tracked[name]) == _outline(item.state_dict()) else "of another optimiser"
            if reason:
                return f"{name}: {reason}"
        return ""


def _outline(state: dict[str, Any]) -> Any:
    """What tells optimisers apart before their first step: keys, and for each group its keys and parameters."""
    groups = state.get("param_groups", [])
    return sorted(state), [(sorted(group), group["params"]) for group in groups]


def random_state(generator: torch.Generator) -> dict[str, Any]:
    """States of all random number generators that a method may use, in types that load with ``weights_only``."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "python": random.getstate(),
        "run": generator.get_state(),
    }


def set_random_state(state: dict[str, Any], generator: torch.Generator) -> None:
    """Put back what ``random_state`` gave."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    generator.set_state(state["run"])
