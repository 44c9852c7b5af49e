"""Real hardware through PyTorch: a processor or a CUDA device."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

import torch
import torch.utils.deterministic as torch_deterministic
from msgspec import Meta
from torch import nn

from runner.errors import BadInput
from runner.hardware import memory
from runner.hardware.activations import storage_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from runner.contracts import Task

Module = TypeVar("Module", bound=nn.Module)


@dataclass(kw_only=True)
class TorchDevice:
    """A device with precision, pinned threads and determinism; all of it is put back on leaving."""

    device: str
    """``cpu``, ``cuda`` or ``cuda:<n>``."""
    precision: Literal["float32", "float64"]
    threads: Annotated[int, Meta(gt=0, le=1024)]
    """OpenMP ends the process, without a word to Python, where the system can't make them."""
    deterministic: bool
    one_process: ClassVar[bool] = False
    """Whether what it does to a run is done in the run's own process alone: no method may train in another."""

    def check(self) -> None:
        """Refuse a device that this machine doesn't have.

        Raises:
            BadInput: no such device.
        """
        try:
            kind = self.torch_device.type
        except RuntimeError as error:
            raise BadInput(f"hardware.device={self.device}: not a device name (cpu, cuda, cuda:1, …)") from error
        if kind == "cuda":
            index = self.torch_device.index or 0
            if index >= torch.cuda.device_count():
                raise BadInput(
                    f"hardware.device={self.device}: this machine has {torch.cuda.device_count()} CUDA devices that "
                    f"torch {torch.__version__} can use; hardware=cpu runs here (`runner doctor` tells more)"
                )
        elif kind != "cpu":
            raise BadInput(f"hardware.device={self.device}: cpu and cuda are supported")

    @property
    def torch_device(self) -> torch.device:
        """The device as torch names it."""
        return torch.device(self.device)

    @property
    def dtype(self) -> torch.dtype:
        """Type of floating-point tensors."""
        return torch.float64 if self.precision == "float64" else torch.float32

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Set threads, determinism and default dtype for the time of a run."""
        threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
        deterministic = torch.get_deterministic_debug_mode()
        fill = torch_deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(self.threads)
        torch.set_default_dtype(self.dtype)
        # the same as torch.use_deterministic_algorithms, which would import the compiler (1.7 s)
        torch.set_deterministic_debug_mode("error" if self.deterministic else "default")
        # a debugging aid that fills every new tensor with NaN, and costs time
        torch_deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
            torch.set_deterministic_debug_mode(deterministic)
            torch_deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]

    def adapt(self, module: Module) -> Module:
        """Move a freshly built module here."""
        return module.to(device=self.torch_device, dtype=self.dtype)

    def saved_bytes(self, tensor: torch.Tensor) -> int:
        """Bytes that the target holds for all of a tensor's storage."""
        return storage_bytes(tensor)

    def step_cost(self, step: Callable[[], object], model: nn.Module) -> dict[str, float]:
        """What a training step of one sample costs on a modelled target, from the operations that ``step`` asks for.

        A real device models nothing, and doesn't make the step.
        """
        return {}

    def cost(self, model: nn.Module, task: Task) -> dict[str, float]:
        """What a finished model costs on a modelled target (cycles, energy, …); a real device has nothing to model."""
        return {}

    def costless(self, model: nn.Module, task: Task) -> str | None:
        """Why ``cost`` has nothing to say of a finished model, where it should have: told beside the run's metrics."""
        return None

    def plots(self, model: nn.Module, task: Task) -> dict[str, Figure]:
        """Figures of a modelled target, and of what a finished model costs there, to keep with the run; by name."""
        return {}

    def synchronize(self) -> None:
        """Wait for the device, so that a clock read after it is right."""
        if self.torch_device.type == "cuda":
            torch.cuda.synchronize(self.torch_device)

    def start_measuring(self) -> None:
        """Begin to count peak memory anew."""
        self._peak_known = memory.reset_peak()
        if self.torch_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.torch_device)

    def measure(self) -> dict[str, float]:
        """Costs since ``start_measuring``, in bytes; a cost that can't be had is absent."""
        costs: dict[str, float] = {}
        peak = memory.peak_bytes()
        if self._peak_known and peak is not None:
            costs["peak_memory_bytes"] = peak
        if self.torch_device.type == "cuda":
            costs["peak_device_memory_bytes"] = torch.cuda.max_memory_allocated(self.torch_device)
        return costs
