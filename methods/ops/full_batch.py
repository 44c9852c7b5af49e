"""Full-batch training with an early stop: the loop that back-propagation on one graph comes down to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt

if TYPE_CHECKING:
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
        optimizer = torch.optim.Adam(model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        run.track(model=model, optimizer=optimizer, **tracked)
        for epoch in run.epochs(
            self.epochs,
            name="train",
            monitor=monitor,
            mode="min" if monitor.endswith("loss") else "max",
            patience=self.patience,
            every=self.validate_every,
            restore_best=True,
        ):
            model.train()
            optimizer.zero_grad()
            value = loss(epoch)
            value.backward()
            optimizer.step()
            run.log(loss=value.detach())
            if epoch.validates:
                model.eval()
                with torch.no_grad():
                    run.log(**validate())
