"""PEPITA on graphs: a second forward pass, with the error added to the input, in the place of the backward one.

Dellaferrera & Kreiman, ICML 2022, arXiv 2201.11665, as Park et al. (ICLR 2024) name it among their baselines.
Letters: N nodes, F features, C classes, L layers, n training nodes, I and O a layer's widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import Method, NodeClassification
from runner.errors import BadInput
from runner.methods.models.mlp import AffineBlock
from runner.methods.models.stack import AggregateThenTransform, Stack
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, Product, SparseMatrix, compact
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(frozen=True, eq=False)
class Modulated:
    """Aggregated features plus an aggregated error that is projected to the features: P + Q B^T, not multiplied out."""

    features: Features | Product
    """P [N, F]."""
    error: Features | Product
    """Q [N, C]."""
    feedback: Tensor
    """B [F, C]."""

    def __matmul__(self, weight: Tensor) -> Tensor:
        return self.features @ weight + self.error @ (self.feedback.T @ weight)


Part: TypeAlias = Features | Product | Modulated
"""What a block multiplies by one of its weights: [N, I]."""


def outer(part: Part, delta: Tensor) -> Tensor:
    """part^T delta [I, O], for a part [N, I] and delta [N, O]."""
    if isinstance(part, Modulated):
        return outer(part.features, delta) + part.feedback @ outer(part.error, delta)
    if isinstance(part, Product):
        return outer(part.right, part.left.transposed @ delta)
    if isinstance(part, SparseMatrix):
        return part.transposed @ delta
    if isinstance(part, Tensor):
        return part.T @ delta
    raise TypeError(f"no outer product of a {type(part).__name__}")


class AffineLayer:
    """A block seen as Y = sum_k P_k W_k + b, P_k the parts of its aggregate.

    Its matrices are taken in the order of the parts, and its one vector is b.
    """

    def __init__(self, block: nn.Module) -> None:
        if not isinstance(block, AggregateThenTransform | AffineBlock):
            raise BadInput(
                f"method=pepita can't train a {type(block).__name__}: its update is the outer product of a weight's "
                "input and the change of its output, which attention's parameters have not; use model=gcn, sage or mlp"
            )
        self.block = block
        self.weights = [parameter for parameter in block.parameters() if parameter.ndim == 2]
        (self.bias,) = (parameter for parameter in block.parameters() if parameter.ndim == 1)

    def aggregate(self, x: Features, graph: Graph) -> tuple[Features | Product, ...]:
        """P_k, for an input [N, I]."""
        return self.block.aggregate(x, graph) if isinstance(self.block, AggregateThenTransform) else (x,)

    def __call__(self, parts: Sequence[Part]) -> Tensor:
        """Y [N, O]."""
        products = [part @ weight for part, weight in zip(parts, self.weights, strict=True)]
        return sum(products, self.bias)

    def set_update(self, parts: Sequence[Part], delta: Tensor) -> None:
        """What the optimiser shall take for the gradient: dW_k = P_k^T delta, db = sum_i delta_i; delta [N, O]."""
        for part, weight in zip(parts, self.weights, strict=True):
            weight.grad = outer(part, delta)
        self.bias.grad = delta.sum(0)


@dataclass(kw_only=True, eq=False)
class Pepita(Method[NodeClassification]):
    """Two forward passes a step; what each layer changes by between them tells its update. Nothing goes backward.

    With h_0 = x, h_l = ReLU(block_l(h_{l-1})), and the class probabilities p = softmax(block_L(h_{L-1}))::

        e_i = p_i - onehot(y_i) for training nodes i, 0 for all others
        modulated pass: h'_0 = x + e B^T,  h'_l = ReLU(block_l(h'_{l-1}))             B [F, C] random, fixed
        dW_l = 1/n sum_i (h_l - h'_l)_i (aggregated h'_{l-1})_i   for l < L
        dW_L = 1/n sum_i e_i (aggregated h'_{L-1})_i

    and a step of Adam along -dW; the sums go over the training nodes. Weight decay is decoupled (AdamW): dW is no
    gradient, and often so small that a decay added to it would be all that Adam follows.
    """

    epochs: PositiveInt
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    patience: PositiveInt
    """Validations without a strictly better score after which training ends."""
    validate_every: PositiveInt
    """Epochs from one validation to the next."""
    feedback_scale: PositiveFloat
    """B is uniform in +-feedback_scale sqrt(6 / F)."""

    def build(self, task: NodeClassification, run: Run) -> None:
        """The chosen network, from F to C, and B.

        Raises:
            BadInput: a block is no affine map of an aggregate.
        """
        hidden = run.backbone.hidden_channels
        widths = [task.num_features] + [hidden] * (run.backbone.num_layers - 1)
        blocks = [run.block(before, after) for before, after in pairwise(widths)]
        self.model = Stack([*blocks, run.block(widths[-1], task.num_classes, head=True)])
        self.layers = [AffineLayer(block) for block in self.model.blocks]
        bound = self.feedback_scale * (6 / task.num_features) ** 0.5
        feedback = torch.empty(task.num_features, task.num_classes, dtype=task.x.dtype).uniform_(-bound, bound)
        self.feedback = feedback.to(run.device)

    def fit(self, task: NodeClassification, run: Run) -> None:
        """One full-batch step an epoch."""
        x, graph = _inputs(task)
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        run.track(model=self.model, optimizer=optimizer)
        first_parts = self.layers[0].aggregate(x, graph)  # the input of the first layer stays: aggregated once
        for epoch in run.epochs(
            self.epochs,
            name="train",
            monitor="val_acc",
            mode="max",
            patience=self.patience,
            every=self.validate_every,
            restore_best=True,
        ):
            with torch.no_grad():
                run.log(loss=self._set_updates(first_parts, task, graph))
                optimizer.step()
                if epoch.validates:
                    logits = self._forward(first_parts, graph)[-1][task.val]
                    run.log(val_acc=accuracy(logits, task.y[task.val]))

    def _set_updates(self, first_parts: Sequence[Features | Product], task: NodeClassification, graph: Graph) -> Tensor:
        """Both passes; leaves every layer's update where the optimiser looks, and gives the training loss."""
        outputs = self._forward(first_parts, graph)
        logits, labels = outputs[-1][task.train], task.y[task.train]
        error = torch.zeros_like(outputs[-1])
        error[task.train] = logits.softmax(1) - functional.one_hot(labels, task.num_classes)
        trained = torch.zeros_like(error[:, :1])
        trained[task.train] = 1 / task.train.numel()
        error_parts = self.layers[0].aggregate(error, graph)
        parts: Sequence[Part] = [
            Modulated(part, error_part, self.feedback)
            for part, error_part in zip(first_parts, error_parts, strict=True)
        ]
        *hidden, last = self.layers
        for layer, below, output in zip(hidden, self.layers[1:], outputs, strict=False):
            modulated = layer(parts).relu()
            layer.set_update(parts, (output - modulated) * trained)
            parts = below.aggregate(modulated, graph)
        last.set_update(parts, error * trained)
        return functional.cross_entropy(logits, labels)

    def _forward(self, first_parts: Sequence[Features | Product], graph: Graph) -> list[Tensor]:
        """h_1, …, h_{L-1} and the logits [N, C], from the aggregate of the features."""
        outputs = [self.layers[0](first_parts)]
        for layer in self.layers[1:]:
            outputs[-1] = outputs[-1].relu_()
            outputs.append(layer(layer.aggregate(outputs[-1], graph)))
        return outputs

    @torch.no_grad()
    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        """``test_acc`` and ``val_acc``, of one ordinary forward pass."""
        logits: Tensor = self.model(*_inputs(task))
        probability = logits[task.test].softmax(1)
        run.save("predictions", {"index": task.test, "label": task.y[task.test], "probability": probability})
        return {
            "test_acc": accuracy(logits[task.test], task.y[task.test]),
            "val_acc": accuracy(logits[task.val], task.y[task.val]),
        }


def _inputs(task: NodeClassification) -> tuple[Features, Graph]:
    return compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype)
