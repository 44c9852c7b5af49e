"""Full-batch training with an early stop: the loop that back-propagation on one graph comes down to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.loops import Epoch
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class FullBatch:
    """Options of a method that trains so: one step of Adam an epoch, and the state of the best validation is kept."""

    epochs: PositiveInt
    """At most."""
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    patience: PositiveInt
    """Validations without a strictly better score after which training ends."""
    validate_every: PositiveInt
    """Epochs from one validation to the next."""

    def descend(
        self,
        run: Run,
        model: nn.Module,
        *,
        loss: Callable[[int], Tensor],
        validate: Callable[[], Mapping[str, float | Tensor]],
        monitor: str,
        **tracked: Any,
    ) -> None:
        """Train ``model`` in the loop ``train``.

        Args:
            run: gives the epochs and logs ``loss``.
            model: in training mode for ``loss``, in evaluation mode, without gradients, for ``validate``.
            loss: the scalar to descend, in the epoch of this number.
            validate: what to log.
            monitor: which of it says what is the best: the least, if its name ends in ``loss``, else the most.
            tracked: what else a snapshot has to hold.
        """
        optimizer = self._optimizer(model)
        run.track(model=model, optimizer=optimizer, **tracked)
        for epoch in self._epochs(run, monitor):
            run.log(loss=_step(model, optimizer, lambda: loss(epoch)))  # noqa: B023
            if epoch.validates:
                run.log(**_validation(model, validate))

    def descend_in_turns(
        self,
        run: Run,
        model: nn.Module,
        *,
        loss: Callable[[], Tensor],
        validate: Callable[[], Mapping[str, float | Tensor]],
        turn: Turn,
        monitor: str,
    ) -> Iterator[None]:
        """The same, where each step but the first is made by another hand while this waits: see ``Together.fit``.

        The first is made here: what a step saves for its backward pass is measured then, and it makes Adam's state.

        Args:
            run, model, loss, validate, monitor: as of ``descend``.
            turn: says what is waited for, and takes what came of it.
        """
        turn.optimizer = self._optimizer(model)
        run.track(model=model, optimizer=turn.optimizer)
        for epoch in self._epochs(run, monitor):
            if epoch == 1:
                torch.set_rng_state(run.draws.get_state())
                run.log(loss=_step(model, turn.optimizer, loss))
                run.draws.set_state(torch.get_rng_state())
                if epoch.validates:
                    run.log(**_validation(model, validate))
                continue
            turn.validates = epoch.validates
            yield
            run.log(loss=turn.loss)
            if epoch.validates:
                run.log(**turn.validation)

    def _optimizer(self, model: nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)

    def _epochs(self, run: Run, monitor: str) -> Iterator[Epoch]:
        return run.epochs(
            self.epochs,
            name="train",
            monitor=monitor,
            mode="min" if monitor.endswith("loss") else "max",
            patience=self.patience,
            every=self.validate_every,
            restore_best=True,
        )


@dataclass(eq=False)
class Turn:
    """A step that a network waits for."""

    optimizer: torch.optim.Adam = field(init=False)
    validates: bool = False
    """Whether a validation is to follow."""
    loss: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)


def _step(model: nn.Module, optimizer: torch.optim.Adam, loss: Callable[[], Tensor]) -> Tensor:
    model.train()
    optimizer.zero_grad()
    value = loss()
    value.backward()
    optimizer.step()
    return value.detach()


@torch.no_grad()
def _validation(model: nn.Module, validate: Callable[[], Mapping[str, float | Tensor]]) -> Mapping[str, float | Tensor]:
    model.eval()
    return validate()
