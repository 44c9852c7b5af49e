"""Back-propagation through the whole network: the baseline of the methods for graphs.

Letters: N nodes, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from runner.contracts import Method, NodeClassification, Together
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.full_batch import FullBatch
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, SparseMatrix, compact

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
        loss, validate = self.losses(task, *inputs(task))
        self.descend(run, self.model, loss=lambda epoch: loss(), validate=validate, monitor=self.monitor)

    def losses(
        self, task: NodeClassification, x: Features, graph: Graph
    ) -> tuple[Callable[[], Tensor], Callable[[], dict[str, float | Tensor]]]:
        """The training loss, and the figures of a validation, of the network as it is when they are called."""

        def loss() -> Tensor:
            return functional.cross_entropy(self.model(x, graph)[task.train], task.y[task.train])

        def validate() -> dict[str, float | Tensor]:
            logits, labels = self.model(x, graph)[task.val], task.y[task.val]
            return {"val_acc": accuracy(logits, labels), "val_loss": functional.cross_entropy(logits, labels)}

        return loss, validate

    @classmethod
    def together(
        cls, methods: Sequence[Self], tasks: Sequence[NodeClassification], runs: Sequence[Run]
    ) -> Together | str:
        """GCN, SAGE and MLP on one graph of a processor; the splits may differ."""
        from runner.methods.graph.backprop_together import BackpropTogether, obstacle

        return obstacle(methods, tasks, runs) or BackpropTogether(methods, tasks, runs)

    @torch.no_grad()
    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        """``test_acc`` and ``val_acc``."""
        self.model.eval()
        logits: Tensor = self.model(*inputs(task))
        probability = logits[task.test].softmax(1)
        run.save("predictions", {"index": task.test, "label": task.y[task.test], "probability": probability})
        return {
            "test_acc": accuracy(logits[task.test], task.y[task.test]),
            "val_acc": accuracy(logits[task.val], task.y[task.val]),
        }


def inputs(task: NodeClassification) -> tuple[Tensor | SparseMatrix, Graph]:
    """Features, and the graph."""
    return compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype)
