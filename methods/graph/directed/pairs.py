"""Classes of ordered pairs of nodes: which way an edge goes, whether there is one, or both at once.

Letters: N nodes, P pairs, W width of an encoding, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import Method, PairClassification
from runner.errors import BadInput
from runner.methods.graph.directed.encoding import Encoder, EncodingBackbone
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.full_batch import FullBatch
from runner.methods.ops.graph import Graph
from runner.methods.ops.link_scores import roc_auc
from runner.methods.ops.sparse import Features, compact
from runner.types import Probability

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class DirectedPairs(FullBatch, Method[PairClassification]):
    """Full-batch Adam on the cross-entropy of all training pairs; the state of the best validation is kept."""

    monitor: Literal["val_acc", "val_loss"]
    """What says which state is the best."""
    dropout: Probability
    """Of a pair's encoding, before the affine map to classes."""

    def build(self, task: PairClassification, run: Run) -> None:
        """The chosen network's encoder, and a map of two encodings.

        Raises:
            BadInput: the chosen model gives no encodings.
        """
        if not isinstance(run.backbone, EncodingBackbone):
            raise BadInput(
                "method=directed_pairs takes a model that encodes nodes: `runner list models field=directed`"
            )
        encoder = run.backbone.encoder(task.num_features)
        self.model = run.adapt(PairClassifier(encoder, task.num_classes, self.dropout))

    def fit(self, task: PairClassification, run: Run) -> None:
        """One full-batch step an epoch."""
        x, graph = _inputs(task)

        def loss(epoch: int) -> Tensor:
            return functional.cross_entropy(self.model(x, graph, task.train_pairs), task.train_y)

        def validate() -> dict[str, float | Tensor]:
            logits = self.model(x, graph, task.val_pairs)
            return {"val_acc": accuracy(logits, task.val_y), "val_loss": functional.cross_entropy(logits, task.val_y)}

        self.descend(run, self.model, loss=loss, validate=validate, monitor=self.monitor)

    @torch.no_grad()
    def evaluate(self, task: PairClassification, run: Run) -> dict[str, float]:
        """``test_acc`` and ``val_acc``; of two classes ``test_auc`` too, the area under the ROC curve of class 1."""
        self.model.eval()
        x, graph = _inputs(task)
        logits = self.model(x, graph, task.test_pairs)
        metrics = {
            "test_acc": accuracy(logits, task.test_y),
            "val_acc": accuracy(self.model(x, graph, task.val_pairs), task.val_y),
        }
        if task.num_classes == 2:
            metrics["test_auc"] = roc_auc(logits[:, 1] - logits[:, 0], task.test_y)
        run.save("predictions", {"pairs": task.test_pairs, "label": task.test_y, "probability": logits.softmax(1)})
        return metrics


class PairClassifier(nn.Module):
    """Linear(dropout([z_u | z_v])), z = encoder(x)."""

    def __init__(self, encoder: Encoder, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * encoder.width, num_classes)

    def forward(self, x: Features, graph: Graph, pairs: Tensor) -> Tensor:
        """[P, C] for pairs [2, P]."""
        z = self.encoder(x, graph)
        both = torch.cat([z.index_select(0, pairs[0]), z.index_select(0, pairs[1])], dim=1)
        logits: Tensor = self.head(self.dropout(both))
        return logits


def _inputs(task: PairClassification) -> tuple[Features, Graph]:
    return compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype)
