"""Back-propagation with what counter-current learning's baselines have: centralised gradients, a falling rate."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from runner.methods.learning_rules.ccl.rule import CentralisedRule


@dataclass(kw_only=True, eq=False)
class CentralisedBackprop(CentralisedRule):
    """The gradient of the batch's mean cross-entropy."""

    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """By autograd."""
        loss = functional.cross_entropy(self.model(x), y)
        self.descend(loss)
        return loss
