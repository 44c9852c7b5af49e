"""Back-propagation through the whole network: the baseline of the methods for graphs.

Letters: N nodes, F features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional

from runner.contracts import Method, NodeClassification
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.full_batch import FullBatch
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, compact

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class Backprop(FullBatch, Method[NodeClassification]):
    """Full-batch Adam on the cross-entropy of the training nodes; the state of the best validation is kept."""

    monitor: Literal["val_acc", "val_loss"]
    """What says which state is the best."""

    def build(self, task: NodeClassification, run: Run) -> None:
        """The chosen network, from F to C."""
        self.model = run.model(task.num_features, task.num_classes)

    def fit(self, task: NodeClassification, run: Run) -> None:
        """One full-batch step an epoch."""
        x, graph = _inputs(task)

        def loss(epoch: int) -> Tensor:
            return functional.cross_entropy(self.model(x, graph)[task.train], task.y[task.train])

        def validate() -> dict[str, float | Tensor]:
            logits, labels = self.model(x, graph)[task.val], task.y[task.val]
            return {"val_acc": accuracy(logits, labels), "val_loss": functional.cross_entropy(logits, labels)}

        self.descend(run, self.model, loss=loss, validate=validate, monitor=self.monitor)

    @torch.no_grad()
    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        """``test_acc`` and ``val_acc``."""
        self.model.eval()
        logits: Tensor = self.model(*_inputs(task))
        probability = logits[task.test].softmax(1)
        run.save("predictions", {"index": task.test, "label": task.y[task.test], "probability": probability})
        return {
            "test_acc": accuracy(logits[task.test], task.y[task.test]),
            "val_acc": accuracy(logits[task.val], task.y[task.val]),
        }


def _inputs(task: NodeClassification) -> tuple[Features, Graph]:
    return compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype)
