"""CaFo, the cascaded forward algorithm, for node classification: random blocks, and a trained predictor on each.

Zhao et al. 2023, arXiv 2303.09728, as Park et al. (ICLR 2024) name it among their baselines for graphs.
Letters: N nodes, F features, C classes, H hidden width, L layers, n nodes of a split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import Method, NodeClassification
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, compact
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


class Cascade(nn.Module):
    """L blocks that stay as they were drawn, and a linear predictor for the output of each."""

    def __init__(self, blocks: list[nn.Module], predictors: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks).requires_grad_(False)
        self.predictors = nn.ModuleList(predictors)

    def outputs(self, x: Features, graph: Graph) -> Iterator[Tensor]:
        """h_1, …, h_L, each [N, H] with rows of mean square 1 (rows of zeros stay)."""
        h = x
        for block in self.blocks:
            # Random blocks shrink or stretch their input; the scale is taken out, as CaFo's batch norm does.
            z: Tensor = block(h, graph).relu()
            h = functional.normalize(z, dim=1) * z.shape[1] ** 0.5
            yield h


@dataclass(kw_only=True, eq=False)
class CaFo(Method[NodeClassification]):
    """Only the predictors learn, one after the other, each from its own block's output.

    For each layer l = 1..L::

        h_l = rows of ReLU(block_l(h_{l-1})), scaled to mean square 1     block_l random, never trained
        minimise CE(h_l V_l + c_l, y) over the training nodes by V_l and c_l

    Prediction: argmax_c sum_l softmax_c(h_l V_l + c_l).
    """

    epochs: PositiveInt
    """At most so many for each predictor."""
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    patience: PositiveInt
    """Validations without a strictly better score after which a predictor's training ends."""
    validate_every: PositiveInt
    """Epochs from one validation to the next."""

    def build(self, task: NodeClassification, run: Run) -> None:
        """L random blocks, all H wide, and L predictors from H to C."""
        hidden = run.backbone.hidden_channels
        widths = [task.num_features] + [hidden] * (run.backbone.num_layers - 1)
        # Block and predictor in turn: a shallower run starts as the lower layers of a deeper one.
        pairs = [(run.block(width, hidden), run.adapt(nn.Linear(hidden, task.num_classes))) for width in widths]
        self.model: Cascade = Cascade([block for block, _ in pairs], [predictor for _, predictor in pairs])

    def fit(self, task: NodeClassification, run: Run) -> None:
        """Bottom-up, as validation is that of the sum of the predictions so far."""
        lower_layers = task.x.new_zeros(task.val.numel(), task.num_classes)
        layers = zip(self.model.predictors, self.model.outputs(*_inputs(task)), strict=True)
        for number, (predictor, h) in enumerate(layers, start=1):
            self._fit_predictor(predictor, h, f"layer{number}", lower_layers, task, run)
            with torch.no_grad():
                lower_layers = lower_layers + predictor(h[task.val]).softmax(1)

    def _fit_predictor(
        self, predictor: nn.Module, h: Tensor, name: str, lower_layers: Tensor, task: NodeClassification, run: Run
    ) -> None:
        """Train one predictor; ``lower_layers`` [n, C] is the prediction of those below for the validation nodes."""
        optimizer = torch.optim.Adam(predictor.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        run.track(model=predictor, optimizer=optimizer)
        train_h, val_h = h[task.train], h[task.val]
        train_y, val_y = task.y[task.train], task.y[task.val]
        for epoch in run.epochs(
            self.epochs,
            name=name,
            monitor="val_acc",
            mode="max",
            patience=self.patience,
            every=self.validate_every,
            restore_best=True,
        ):
            optimizer.zero_grad()
            loss = functional.cross_entropy(predictor(train_h), train_y)
            loss.backward()
            optimizer.step()
            run.log(loss=loss.detach())
            if epoch.validates:
                with torch.no_grad():
                    prediction = lower_layers + predictor(val_h).softmax(1)
                run.log(val_acc=accuracy(prediction, val_y))
        optimizer.zero_grad()

    @torch.no_grad()
    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        """Depth l < L comes out on the way: ``test_acc/depth1`` and so on."""
        prediction = task.x.new_zeros(task.num_nodes, task.num_classes)
        metrics: dict[str, float] = {}
        layers = zip(self.model.predictors, self.model.outputs(*_inputs(task)), strict=True)
        for depth, (predictor, h) in enumerate(layers, start=1):
            prediction += predictor(h).softmax(1)
            for split, index in (("test", task.test), ("val", task.val)):
                metrics[f"{split}_acc/depth{depth}"] = accuracy(prediction[index], task.y[index])
                metrics[f"{split}_acc"] = metrics[f"{split}_acc/depth{depth}"]
        probability = prediction[task.test] / len(self.model.blocks)
        run.save("predictions", {"index": task.test, "label": task.y[task.test], "probability": probability})
        return metrics


def _inputs(task: NodeClassification) -> tuple[Features, Graph]:
    return compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype)
