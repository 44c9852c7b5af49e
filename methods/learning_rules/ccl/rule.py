"""What counter-current learners share: two networks, two learning rates, a warm-up, centralised gradients."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from runner.errors import BadInput
from runner.methods.learning_rules.ccl.losses import centralise
from runner.methods.learning_rules.ccl.pair import CounterCurrentPair
from runner.methods.learning_rules.rule import LearningRule
from runner.methods.models.layered import MirroredBackbone
from runner.types import NonNegativeFloat, NonNegativeInt, Probability

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class CentralisedRule(LearningRule):
    """Gradients without their mean, and a learning rate that falls: of counter-current learning and its baselines."""

    centralise: bool
    """Whether the mean is taken from each output unit's gradient."""
    final_lr_share: Probability
    """Learning rates fall along a cosine that would reach this share of them after the last epoch; 1: they stay."""

    def descend(self, loss: Tensor) -> None:
        """Leave the gradients of ``loss`` where the optimiser looks."""
        loss.backward()
        if self.centralise:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    centralise(parameter.grad)

    def rate(self, epoch: int) -> float:
        """f + (1 - f) (1 + cos(pi (epoch - 1) / epochs)) / 2, f = ``final_lr_share``: 1 in the first epoch."""
        progress = (epoch - 1) / self.epochs
        return self.final_lr_share + (1 - self.final_lr_share) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(kw_only=True, eq=False)
class CounterCurrentRule(CentralisedRule):
    """Every layer of both networks learns from the loss at its own output; nothing passes a layer backwards.

    Kao & Hariharan, NeurIPS 2024, arXiv 2409.19841::

        a_0 = x,  a_l = f(U_l sg(a_{l-1}))        b_L = target,  b_{l-1} = f(V_l sg(b_l))

    Gradients of both networks are limited by ``clip``, each network's apart.
    """

    feedback_lr: NonNegativeFloat
    """Learning rate of the V_l; 0: feedback stays as it was drawn."""
    warm_up: NonNegativeInt
    """Steps in which the loss grows from 1/warm_up of itself to itself."""

    def pair(self, run: Run, in_channels: int, out_channels: int) -> CounterCurrentPair:
        """The chosen network and its mirror.

        Raises:
            BadInput: it has none.
        """
        if not isinstance(run.backbone, MirroredBackbone):
            raise BadInput(
                "counter-current learning needs a network that can stand the other way round: "
                "model=perceptron_elu, cnn_pool or autoencoder"
            )
        network = run.backbone.network(in_channels, out_channels)
        feedback = run.backbone.mirror(in_channels, out_channels)
        pair = CounterCurrentPair(network, feedback)
        run.adapt(pair)
        return pair

    @abstractmethod
    def losses(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """What is summed: for l = 0..L, the loss at a_l and b_l."""

    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """Of the sum of all losses, in one backward pass that ends at each layer's input."""
        loss = torch.stack(self.losses(x, y)).sum()
        self.model.steps += 1
        warmth = (self.model.steps / self.warm_up).clamp(max=1) if self.warm_up else 1
        self.descend(loss * warmth)
        return loss

    def groups(self) -> list[dict[str, Any]]:
        """U_l and V_l."""
        upward, downward = self.model.network, self.model.feedback
        return [{"params": list(upward.parameters())}, {"params": list(downward.parameters()), "lr": self.feedback_lr}]
