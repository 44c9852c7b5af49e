"""Classes of nodes by back-propagation through a network that sees direction.

Letters: N nodes, F features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

from runner.contracts import Method, NodeClassification
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, compact
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class DirectedNodes(Method[NodeClassification]):
    """Full-batch Adam on the cross-entropy of the training nodes; the state of the best validation is kept.

    It differs from :class:`~runner.methods.graph.backprop.Backprop` in that networks may have dropout, and that
    training may stop by the loss, as MagNet's does.
    """

    epochs: PositiveInt
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    monitor: Literal["val_acc", "val_loss"]
    """What says which state is the best."""
    patience: PositiveInt
    """Validations without a strictly better value after which training ends."""
    validate_every: PositiveInt
    """Epochs from one validation to the next."""

    def build(self, task: NodeClassification, run: Run) -> None:
        """The chosen network, from F to C."""
        self.model = run.model(task.num_features, task.num_classes)

    def fit(self, task: NodeClassification, run: Run) -> None:
        """One full-batch step an epoch."""
        x, graph = _inputs(task)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        run.track(model=self.model, optimizer=optimizer)
        for epoch in run.epochs(
            self.epochs,
            name="train",
            monitor=self.monitor,
            mode="max" if self.monitor == "val_acc" else "min",
            patience=self.patience,
            every=self.validate_every,
            restore_best=True,
        ):
            self.model.train()
            optimizer.zero_grad()
            loss = functional.cross_entropy(self.model(x, graph)[task.train], task.y[task.train])
            loss.backward()
            optimizer.step()
            run.log(loss=loss.detach())
            if epoch.validates:
                self.model.eval()
                with torch.no_grad():
                    logits = self.model(x, graph)[task.val]
                labels = task.y[task.val]
                run.log(val_acc=accuracy(logits, labels), val_loss=functional.cross_entropy(logits, labels))

    @torch.no_grad()
    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        """``test_acc`` and ``val_acc``."""
        self.model.eval()
        logits = self.model(*_inputs(task))
        probability = logits[task.test].softmax(1)
        run.save("predictions", {"index": task.test, "label": task.y[task.test], "probability": probability})
        return {
            "test_acc": accuracy(logits[task.test], task.y[task.test]),
            "val_acc": accuracy(logits[task.val], task.y[task.val]),
        }


def _inputs(task: NodeClassification) -> tuple[Features, Graph]:
    return compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype)
