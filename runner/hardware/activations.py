"""Bytes that a training step saves for its backward pass, and all that it holds, whatever its rule.

The first are measured in one epoch of a loop with hooks on saved tensors. A step ends where an optimiser has stepped;
the epoch's largest step counts, and in it each storage once. A storage that is still alive two epochs later is not
an activation: it is a parameter, the task's data or a layer's fixed input; these are counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from types import TracebackType
from typing import Any, Self

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

EPOCHS_TO_SETTLE = 2


def storage_bytes(tensor: torch.Tensor) -> int:
    """Of all of a tensor's storage, as it lies in memory here."""
    return tensor.untyped_storage().nbytes()


class _Step:
    """Storages that one step saved. A reference to a dead one pins its place in memory, so these are not kept."""

    def __init__(self) -> None:
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.gone = 0
        """Bytes of those that died."""

    def bury(self, parameters: set[int]) -> None:
        """Count the dead; their places, which others may take, are no longer ``parameters``."""
        for key, (reference, size) in list(self.alive.items()):
            if reference.expired():  # type: ignore[no-untyped-call]
                self.gone += size
                del self.alive[key]
                parameters.discard(key)


class SavedActivations:
    """Context manager around the measured epoch; ``settle`` after it and after each later one."""

    def __init__(self, size: Callable[[torch.Tensor], int] = storage_bytes) -> None:
        """``size``: bytes that the target would hold for all of a tensor's storage."""
        self._size = size
        self._steps: list[_Step] = [_Step()]
        self._parameters: set[int] = set()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._saved, lambda tensor: tensor)
        self._waited = 0
        self.bytes = 0
        """Bytes of the largest step's activations, without parameters, task tensors and fixed inputs."""
        self.fixed_bytes = 0
        """Most bytes of a step's saved tensors that outlive the epoch, parameters left out."""

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._hooks.__enter__()
        self._stepping = register_optimizer_step_post_hook(lambda *_: self._next_step())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._stepping.remove()
        self._hooks.__exit__(kind, error, trace)

    def settle(self, epoch: int) -> bool:
        """Note that an epoch ended; true once the figures are there."""
        if epoch <= EPOCHS_TO_SETTLE:
            return False
        for step in self._steps:
            step.bury(self._parameters)
            fixed = sum(size for key, (_, size) in step.alive.items() if key not in self._parameters)
            self.bytes, self.fixed_bytes = max(self.bytes, step.gone), max(self.fixed_bytes, fixed)
        self._steps.clear()
        return True

    def _next_step(self) -> None:
        for step in self._steps[-2:]:  # what a step leaves in variables goes in the next one
            step.bury(self._parameters)
        self._steps.append(_Step())

    def _saved(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.layout is torch.strided:
            self._note(tensor, isinstance(tensor, torch.nn.Parameter))
        elif tensor.layout is torch.sparse_csr:
            for part in (tensor.crow_indices(), tensor.col_indices(), tensor.values()):
                self._note(part, False)
        return tensor

    def _note(self, tensor: torch.Tensor, parameter: bool) -> None:
        storage = tensor.untyped_storage()
        reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        self._steps[-1].alive.setdefault(reference.cdata, (reference, self._size(tensor)))
        if parameter or (tensor.is_leaf and tensor.requires_grad):
            self._parameters.add(reference.cdata)


class LiveBytes(TorchDispatchMode):
    """While it is entered, the tensors that operations make are followed from birth to death.

    A rule that never asks autograd saves nothing for a backward pass, and yet holds what its layers gave.
    """

    def __init__(self, size: Callable[[torch.Tensor], int] = storage_bytes) -> None:
        """``size``: bytes that the target would hold for all of a tensor's storage."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._size = size
        self._alive: dict[int, tuple[StorageWeakRef, int, int]] = {}
        self._lives: list[tuple[int, int, int, int]] = []
        self._time = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operation: its results are born, whatever is gone since the last one has died before it."""
        self._time += 1
        given = [_key(tensor) for tensor in _tensors([*args, *(kwargs or {}).values()])]
        self._bury()
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors([result]):
            key = _key(tensor)
            if key not in given and key not in self._alive:
                reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
                self._alive[key] = (reference, self._size(tensor), self._time)
        return result

    def most(self, without: Iterable[torch.Tensor] = ()) -> int:
        """Bytes of the moment at which most were alive, once it is left; ``without`` some tensors that live on."""
        self._time += 1
        self._bury()
        aside = {_key(tensor) for tensor in without}
        lives = [*self._lives, *((key, size, born, self._time) for key, (_, size, born) in self._alive.items())]
        change = [0] * (self._time + 1)
        for key, size, born, died in lives:
            if not (died == self._time and key in aside):
                change[born] += size
                change[died] -= size
        return max(accumulate(change))

    def _bury(self) -> None:
        for key, (reference, size, born) in list(self._alive.items()):
            if reference.expired():  # type: ignore[no-untyped-call]
                self._lives.append((key, size, born, self._time))
                del self._alive[key]


def _tensors(values: Iterable[Any]) -> list[torch.Tensor]:
    leaves = tree_leaves(list(values))
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.layout is torch.strided]


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
