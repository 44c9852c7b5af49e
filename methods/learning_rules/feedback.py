"""Rules that send the error back through fixed random matrices: feedback alignment, direct feedback alignment, DRTP.

Letters: B images of a batch, K classes, L layers, D_l width of layer l.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import ImageClassification
from runner.errors import BadInput
from runner.methods.learning_rules.rule import LearningRule
from runner.methods.models.perceptron import PerceptronNetwork
from runner.types import PositiveFloat

if TYPE_CHECKING:
    from runner.run import Run


def layered(model: nn.Module) -> PerceptronNetwork:
    """The model, which must be a list of affine layers.

    Raises:
        BadInput: it is another network.
    """
    if not isinstance(model, PerceptronNetwork):
        raise BadInput("this rule trains affine layers: model=perceptron")
    return model


def set_affine_gradient(layer: nn.Linear, below: Tensor, delta: Tensor) -> None:
    """dW = delta^T a_{l-1}, db = sum over the batch of delta, for a_{l-1} [B, I] and delta [B, O]."""
    layer.weight.grad = delta.T @ below
    if layer.bias is not None:
        layer.bias.grad = delta.sum(0)


@dataclass(kw_only=True, eq=False)
class FixedFeedback(LearningRule):
    """A rule for affine layers with fixed random matrices, which are drawn with the network."""

    feedback_scale: PositiveFloat
    """Fixed matrices are uniform in +-feedback_scale / sqrt(their number of rows, which are summed over)."""

    def build(self, task: ImageClassification, run: Run) -> None:
        """The network, and the rule's fixed matrices.

        Raises:
            BadInput: the network is no list of affine layers.
        """
        super().build(task, run)
        self.network = layered(self.model)
        self.feedback = [self._uniform(*shape) for shape in self.shapes()]

    def _uniform(self, rows: int, columns: int) -> Tensor:
        bound = self.feedback_scale * rows**-0.5
        return torch.empty_like(self.network.layers[0].weight[:1, :1]).new_empty(rows, columns).uniform_(-bound, bound)

    def widths(self) -> list[int]:
        """D_1, …, D_L."""
        return [layer.out_features for layer in self.network.layers]

    @abstractmethod
    def shapes(self) -> Sequence[tuple[int, int]]:
        """Of the fixed matrices, for layers 1, …, L-1: rows are summed over."""


@dataclass(kw_only=True, eq=False)
class FeedbackRule(FixedFeedback):
    """Layer l moves along -delta_l^T a_{l-1}; the output layer's delta is that of the mean cross-entropy.

    With z_l = W_l a_{l-1} + b_l, a_l = f(z_l), p = softmax(z_L)::

        e = (p - onehot(y)) / B,   delta_L = e,   delta_l = signal_l * f'(z_l)   for l < L

    A rule says what signal_l [B, D_l] is.
    """

    @abstractmethod
    def signal(self, layer: int, error: Tensor, above: Tensor, target: Tensor) -> Tensor:
        """signal_l [B, D_l], for ``layer`` = l - 1, e [B, K], delta_{l+1} and the one-hot classes [B, K]."""

    @torch.no_grad()
    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """From the output layer down."""
        outputs = self.network.trace(x)
        target = functional.one_hot(y, outputs[-1].shape[1]).to(x.dtype)
        error = delta = (outputs[-1].softmax(1) - target) / len(y)
        for place in reversed(range(len(self.network.layers))):
            set_affine_gradient(self.network.layers[place], outputs[place], delta)
            if place:
                signal = self.signal(place - 1, error, delta, target)
                delta = signal * self.network.activation.derivative(outputs[place])
        return functional.cross_entropy(outputs[-1], y)


@dataclass(kw_only=True, eq=False)
class FeedbackAlignment(FeedbackRule):
    """signal_l = delta_{l+1} B_{l+1}, B_{l+1} [D_{l+1}, D_l] fixed in the place of W_{l+1} (Lillicrap et al. 2016)."""

    def shapes(self) -> Sequence[tuple[int, int]]:
        """Those of W_2, …, W_L."""
        widths = self.widths()
        return list(zip(widths[1:], widths[:-1], strict=True))

    def signal(self, layer: int, error: Tensor, above: Tensor, target: Tensor) -> Tensor:
        """Layer by layer."""
        return above @ self.feedback[layer]


@dataclass(kw_only=True, eq=False)
class DirectFeedbackAlignment(FeedbackRule):
    """signal_l = e D_l, D_l [K, D_l] fixed: every layer hears the output's error (Nøkland 2016)."""

    def shapes(self) -> Sequence[tuple[int, int]]:
        """From K to each hidden width."""
        *hidden, classes = self.widths()
        return [(classes, width) for width in hidden]

    def signal(self, layer: int, error: Tensor, above: Tensor, target: Tensor) -> Tensor:
        """At once."""
        return error @ self.feedback[layer]


@dataclass(kw_only=True, eq=False)
class RandomTargetProjection(DirectFeedbackAlignment):
    """signal_l = -(onehot(y) / B) D_l: the target alone moves hidden layers (DRTP, Frenkel et al. 2021).

    A hidden layer moves towards its projection of the target; the output layer learns from its own error.
    """

    def signal(self, layer: int, error: Tensor, above: Tensor, target: Tensor) -> Tensor:
        """Before the output is known."""
        return -(target / len(target)) @ self.feedback[layer]
