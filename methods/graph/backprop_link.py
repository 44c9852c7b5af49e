"""Back-propagation through the whole network for link prediction: the baseline.

Letters: N nodes, F features, H hidden width, P pairs of a split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from runner.contracts import LinkPrediction, LinkSplit, Method
from runner.methods.models.stack import Stack
from runner.methods.ops.full_batch import FullBatch
from runner.methods.ops.graph import Graph
from runner.methods.ops.link_scores import inner_products, roc_auc
from runner.methods.ops.sparse import Features, compact

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class BackpropLink(FullBatch, Method[LinkPrediction]):
    """Full-batch Adam on the mean of BCE(sigmoid(h_i . h_j), label) over the training pairs, h the network's output.

    The state of the best validation is kept.
    """

    def build(self, task: LinkPrediction, run: Run) -> None:
        """Blocks with ReLU between them, from F to H. None is a head: GAT concatenates in the last one too."""
        hidden = run.backbone.hidden_channels
        widths = [task.num_features] + [hidden] * (run.backbone.num_layers - 1)
        self.model = Stack([run.block(width, hidden) for width in widths])

    def fit(self, task: LinkPrediction, run: Run) -> None:
        """One full-batch step an epoch."""
        x, graph = _inputs(task, "train")
        train_pairs, train_labels = task.pairs("train"), task.labels("train")
        val_pairs, val_labels = task.pairs("val"), task.labels("val")

        def loss(epoch: int) -> Tensor:
            logits = inner_products(self.model(x, graph), train_pairs)
            return functional.binary_cross_entropy_with_logits(logits, train_labels)

        def validate() -> dict[str, float | Tensor]:
            return {"val_auc": roc_auc(inner_products(self.model(x, graph), val_pairs), val_labels)}

        self.descend(run, self.model, loss=loss, validate=validate, monitor="val_auc")

    @torch.no_grad()
    def evaluate(self, task: LinkPrediction, run: Run) -> dict[str, float]:
        """``test_auc`` and ``val_auc``, each on the edges that its split may see."""
        self.model.eval()
        metrics = {}
        for split in ("val", "test"):
            logits = inner_products(self.model(*_inputs(task, split)), task.pairs(split))
            metrics[f"{split}_auc"] = roc_auc(logits, task.labels(split))
        run.save("predictions", {"pairs": task.pairs("test"), "label": task.labels("test"), "score": logits.sigmoid()})
        return metrics


def _inputs(task: LinkPrediction, split: LinkSplit) -> tuple[Features, Graph]:
    return compact(task.x), Graph(task.message_edges(split), task.num_nodes, task.x.dtype)
