"""Back-propagation as the paper trains, with a note of how soon it gets going.

Li et al., ICML 2023, arXiv 2312.02622. Letters: N nodes, F features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import Method, NodeClassification
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.full_batch import FullBatch
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, compact
from runner.types import Probability

if TYPE_CHECKING:
    from runner.run import Run


class Noted(nn.Module):
    """A network, and the epoch in which it got going: kept with its weights, as evaluation needs nothing else."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.started: Tensor
        self.register_buffer("started", torch.tensor(0))


class Start:
    """The first epoch whose training accuracy reaches a share; goes on with a run that is resumed."""

    def __init__(self) -> None:
        self.epoch = 0
        """0: not yet."""

    def state_dict(self) -> dict[str, Any]:
        """The epoch."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put it back."""
        self.epoch = state_dict["epoch"]


@dataclass(kw_only=True, eq=False)
class InitialisedBackprop(FullBatch, Method[NodeClassification]):
    """Full-batch Adam on the training nodes' cross-entropy; the state of the best validation accuracy is kept."""

    started_at: Probability
    """Training accuracy from which training counts as under way."""

    def build(self, task: NodeClassification, run: Run) -> None:
        """The chosen network, from F to C."""
        self.model: Noted = run.adapt(Noted(run.model(task.num_features, task.num_classes)))

    def fit(self, task: NodeClassification, run: Run) -> None:
        """One full-batch step an epoch."""
        x, graph = _inputs(task)
        network, start = self.model.network, Start()
        train_y, val_y = task.y[task.train], task.y[task.val]

        def loss(epoch: int) -> Tensor:
            logits = network(x, graph)[task.train]
            train_acc = accuracy(logits, train_y)  # before the step: of the epoch before
            if not start.epoch and train_acc >= self.started_at:
                start.epoch = int(epoch)
            run.log(train_acc=train_acc)
            return functional.cross_entropy(logits, train_y)

        def validate() -> dict[str, float | Tensor]:
            return {"val_acc": accuracy(network(x, graph)[task.val], val_y)}

        self.descend(run, network, loss=loss, validate=validate, monitor="val_acc", start=start)
        self.model.started.fill_(start.epoch)

    @torch.no_grad()
    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        """``test_acc``, ``val_acc``; ``start_epoch``, at most ``epochs`` + 1: what stands where it never got going."""
        self.model.eval()
        logits: Tensor = self.model.network(*_inputs(task))
        probability = logits[task.test].softmax(1)
        run.save("predictions", {"index": task.test, "label": task.y[task.test], "probability": probability})
        return {
            "test_acc": accuracy(logits[task.test], task.y[task.test]),
            "val_acc": accuracy(logits[task.val], task.y[task.val]),
            "start_epoch": float(int(self.model.started) or self.epochs + 1),
        }


def _inputs(task: NodeClassification) -> tuple[Features, Graph]:
    return compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype)
