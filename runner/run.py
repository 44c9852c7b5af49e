"""The run: the only thing that a method knows of the outside."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from runner.attempt import Attempt
from runner.contracts import Backbone, Method
from runner.errors import CorruptData
from runner.hardware.activations import LiveBytes
from runner.hardware.torch_device import TorchDevice
from runner.identity import digest
from runner.loops import Epoch, Loops, Stateful
from runner.places import cache_dir
from runner.state_files import load_whole, save_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FinishedRun:
    """Another run that a method's argument refers to."""

    run_id: str
    config: dict[str, Any]
    metrics: dict[str, float]
    restore: Callable[[], Method[Any]]
    """Gives its method, built for its own task, with the trained weights."""


class Run:
    """Handed to ``Method.build``, ``fit`` and ``evaluate``."""

    def __init__(
        self,
        *,
        attempt: Attempt,
        hardware: TorchDevice,
        backbone: Backbone,
        loops: Loops,
        generator: torch.Generator,
        references: Mapping[str, FinishedRun],
    ) -> None:
        self._attempt = attempt
        self._hardware = hardware
        self._loops = loops
        self._references = references
        self.backbone = backbone
        """The chosen architecture: its numbers, and its blocks as they are before ``adapt``."""
        self.generator = generator
        """Seeded generator (CPU) for the method's own draws."""

    @property
    def device(self) -> torch.device:
        """Where tensors live."""
        return self._hardware.torch_device

    @property
    def one_process(self) -> bool:
        """Whether the hardware is modelled in this process alone: a method that trains in others must refuse."""
        return self._hardware.one_process

    def model(self, in_channels: int, out_channels: int) -> nn.Module:
        """The whole chosen network, initialised, on the device."""
        return self.adapt(self.backbone.network(in_channels, out_channels))

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Module:
        """One block of the chosen network, initialised, on the device."""
        return self.adapt(self.backbone.block(in_channels, out_channels, head=head))

    def adapt(self, module: nn.Module) -> nn.Module:
        """A module of the method's own making, on the device."""
        return self._hardware.adapt(module)

    def step_bytes(self, step: Callable[[], object], model: nn.Module) -> int:
        """Make a training step up to the gradients; most bytes that it holds at once.

        Beside parameters, their gradients and what was there before: activations, errors, whatever a rule keeps.

        Args:
            step: makes it.
            model: what it trains.
        """
        collects = gc.isenabled()
        gc.disable()  # what lies in cycles would die at a moment that hangs on all that went before
        try:
            with LiveBytes(self._hardware.saved_bytes) as live:
                step()
        finally:
            if collects:
                gc.enable()
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        return int(live.most(without=gradients))

    def step_cost(self, step: Callable[[], object], model: nn.Module) -> dict[str, float]:
        """What the hardware's model says of a training step of one sample; empty on a real device.

        Args:
            step: makes it, up to the gradients.
            model: what it trains.
        """
        return self._hardware.step_cost(step, model)

    @property
    def draws(self) -> torch.Generator:
        """Of a run that is trained in turns (``Together``): what torch's global generator would be for it alone."""
        return self._loops.draws

    def track(self, **objects: Stateful) -> None:
        """Name the modules and optimisers of the next loop: what it snapshots, and restores to the best state."""
        self._loops.track(**objects)

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
        """The epochs 1..n of a named loop; see ``runner.loops.Loops.epochs``."""
        return self._loops.epochs(
            n, name=name, monitor=monitor, mode=mode, patience=patience, every=every, restore_best=restore_best
        )

    def log(self, **values: float | Tensor) -> None:
        """Log scalar metrics of the current epoch (in memory and on disk, never in the store: cheap)."""
        self._loops.log(**values)

    def save(self, name: str, value: Tensor | Mapping[str, Tensor] | Figure | str) -> None:
        """Keep an artefact with the run: a tensor (``.npy``), named tensors (``.npz``), a figure (``.svg``), a text."""
        path = self._attempt.artifacts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, Tensor):
            np.save(f"{path}.npy", value.detach().cpu().numpy())
        elif isinstance(value, Mapping):
            arrays: dict[str, Any] = {key: tensor.detach().cpu().numpy() for key, tensor in value.items()}
            np.savez_compressed(f"{path}.npz", **arrays)
        elif isinstance(value, str):
            Path(f"{path}.txt").write_text(value, encoding="utf-8")
        else:
            value.savefig(f"{path}.svg", bbox_inches="tight")

    def reference(self, argument: str) -> FinishedRun:
        """The finished run that the method's ``argument`` refers to; ``argument.0``, … where it is a list."""
        return self._references[argument]

    def memo(self, name: str, content: Any, compute: Callable[[], Tensor]) -> Tensor:
        """A derived tensor, computed once for its content and kept in the cache between runs; anew if it is damaged.

        Args:
            name: says what it is; part of the file's name.
            content: all that decides the value, as JSON-able values (task fingerprint, parameters).
            compute: called when the cache has none.
        """
        file = cache_dir() / "memo" / f"{name}-{digest(content)}.pt"
        with suppress(FileNotFoundError, CorruptData):
            return load_whole(file, self.device)  # type: ignore[no-any-return]
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            with suppress(FileNotFoundError, CorruptData):
                return load_whole(file, self.device)  # type: ignore[no-any-return]
            save_whole(compute(), file)
            return load_whole(file, self.device)  # type: ignore[no-any-return]


def save_json(value: Any, file: Path) -> None:
    """Write indented JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2, sort_keys=True), encoding="utf-8")
