"""Classes of ordered pairs of nodes: which way an edge goes, whether there is one, or both at once.

Letters: N nodes, P pairs, W width of an encoding, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import Method, PairClassification
from runner.errors import BadInput
from runner.methods.graph.directed.encoding import Encoder, EncodingBackbone
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.dropout import dropout
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
    head: Literal["linear", "source_target", "gravity"]
    """What maps two encodings to classes; see :class:`PairClassifier` and :class:`ScoredPairs`."""
    dropout: Probability
    """Of a pair's encoding, before the map to classes."""

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
        if self.head == "linear":
            self.model: nn.Module = run.adapt(PairClassifier(encoder, task.num_classes, self.dropout))
        elif encoder.width % 2 and self.head == "source_target":
            raise BadInput(f"method.head=source_target halves encodings, of a width of {encoder.width} here")
        else:
            self.model = run.adapt(ScoredPairs(encoder, task.num_classes, self.dropout, SCORES[self.head]))

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

    def __init__(self, encoder: Encoder, num_classes: int, dropout_share: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = dropout_share
        self.head = nn.Linear(2 * encoder.width, num_classes)

    def forward(self, x: Features, graph: Graph, pairs: Tensor) -> Tensor:
        """[P, C] for pairs [2, P]."""
        z = self.encoder(x, graph)
        # Each end by itself: [z_u | z_v] would be the largest tensor of all, and is not needed.
        ends = zip(pairs, self.head.weight.split(self.encoder.width, dim=1), strict=True)
        parts = [dropout(z.index_select(0, nodes), self.dropout, self.training) @ weight.T for nodes, weight in ends]
        return parts[0] + parts[1] + self.head.bias


class ScoredPairs(nn.Module):
    """Affine([score(u, v), score(v, u)]) of dropout(z): decoders of graph autoencoders, asked for classes of pairs."""

    def __init__(
        self, encoder: Encoder, num_classes: int, dropout_share: float, score: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = dropout_share
        self.score = score
        self.head = nn.Linear(2, num_classes)

    def forward(self, x: Features, graph: Graph, pairs: Tensor) -> Tensor:
        """[P, C] for pairs [2, P]."""
        z = dropout(self.encoder(x, graph), self.dropout, self.training)
        z_u, z_v = (z.index_select(0, nodes) for nodes in pairs)
        logits: Tensor = self.head(torch.stack([self.score(z_u, z_v), self.score(z_v, z_u)], dim=1))
        return logits


def source_target(z_u: Tensor, z_v: Tensor) -> Tensor:
    """s_u . t_v [P], z = [s | t] (source/target autoencoder, Salha et al., CIKM 2019, arXiv 1905.09570)."""
    half = z_u.shape[1] // 2
    return (z_u[:, :half] * z_v[:, half:]).sum(1)


def gravity(z_u: Tensor, z_v: Tensor) -> Tensor:
    """m_v - log |p_u - p_v|^2 [P], z = [p | m] (gravity-inspired autoencoder, the same paper; its lambda is 1)."""
    distance = (z_u[:, :-1] - z_v[:, :-1]).square().sum(1)
    return z_v[:, -1] - (distance + CLOSEST).log()


CLOSEST = 1e-2
"""Added to squared distances, as two nodes may have the same encoding."""
SCORES = {"source_target": source_target, "gravity": gravity}


def _inputs(task: PairClassification) -> tuple[Features, Graph]:
    return compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype)
