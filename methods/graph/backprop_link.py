"""Back-propagation through the whole network for link prediction: the baseline.

Letters: N nodes, F features, H hidden width, P pairs of a split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from runner.contracts import LinkPrediction, LinkSplit, Method
from runner.methods.models.stack import Stack
from runner.methods.ops.graph import Graph
from runner.methods.ops.link_scores import inner_products, roc_auc
from runner.methods.ops.sparse import Features, compact
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class BackpropLink(Method[LinkPrediction]):
    """Full-batch Adam on the mean of BCE(sigmoid(h_i . h_j), label) over the training pairs, h the network's output.

    The state of the best validation is kept.
    """

    epochs: PositiveInt
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    patience: PositiveInt
    """Validations without a strictly better score after which training ends."""
    validate_every: PositiveInt
    """Epochs from one validation to the next."""

    def build(self, task: LinkPrediction, run: Run) -> None:
        """Blocks with ReLU between them, from F to H. None is a head: GAT concatenates in the last one too."""
        hidden = run.backbone.hidden_channels
        widths = [task.num_features] + [hidden] * (run.backbone.num_layers - 1)
        self.model = Stack([run.block(width, hidden) for width in widths])

    def fit(self, task: LinkPrediction, run: Run) -> None:
        """One full-batch step an epoch."""
        x, graph = _inputs(task, "train")
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        run.track(model=self.model, optimizer=optimizer)
        train_pairs, train_labels = task.pairs("train"), task.labels("train")
        val_pairs, val_labels = task.pairs("val"), task.labels("val")
        for epoch in run.epochs(
            self.epochs,
            name="train",
            monitor="val_auc",
            mode="max",
            patience=self.patience,
            every=self.validate_every,
            restore_best=True,
        ):
            optimizer.zero_grad()
            logits = inner_products(self.model(x, graph), train_pairs)
            loss = functional.binary_cross_entropy_with_logits(logits, train_labels)
            loss.backward()
            optimizer.step()
            run.log(loss=loss.detach())
            if epoch.validates:
                with torch.no_grad():
                    scores = inner_products(self.model(x, graph), val_pairs)
                run.log(val_auc=roc_auc(scores, val_labels))

    @torch.no_grad()
    def evaluate(self, task: LinkPrediction, run: Run) -> dict[str, float]:
        """``test_auc`` and ``val_auc``, each on the edges that its split may see."""
        metrics = {}
        for split in ("val", "test"):
            logits = inner_products(self.model(*_inputs(task, split)), task.pairs(split))
            metrics[f"{split}_auc"] = roc_auc(logits, task.labels(split))
        run.save("predictions", {"pairs": task.pairs("test"), "label": task.labels("test"), "score": logits.sigmoid()})
        return metrics


def _inputs(task: LinkPrediction, split: LinkSplit) -> tuple[Features, Graph]:
    return compact(task.x), Graph(task.message_edges(split), task.num_nodes, task.x.dtype)
