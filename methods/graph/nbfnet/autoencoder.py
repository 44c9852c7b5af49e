"""Baseline for link prediction: the graph autoencoder and its variational form (Kipf & Welling 2016, arXiv 1611.07308).

Letters: N nodes, F features, Z width of a node's code, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import LinkPrediction, LinkSplit, Method
from runner.methods.graph.nbfnet.link import PairsWithoutEdge
from runner.methods.ops.full_batch import FullBatch
from runner.methods.ops.graph import Graph
from runner.methods.ops.link_scores import average_precision, inner_products, roc_auc
from runner.methods.ops.sparse import Features, compact
from runner.types import PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


class Encoder(nn.Module):
    """Blocks with ReLU between them; the last one gives the code, or one its mean and another its log deviation."""

    def __init__(self, hidden: list[nn.Module], ends: list[nn.Module]) -> None:
        super().__init__()
        self.hidden, self.ends = nn.ModuleList(hidden), nn.ModuleList(ends)

    def forward(self, x: Features, graph: Graph) -> Tensor | list[Tensor]:
        """[N, Z], or two of them."""
        h = x
        for block in self.hidden:
            h = block(h, graph).relu()
        found = [end(h, graph) for end in self.ends]
        return found[0] if len(found) == 1 else found


@dataclass(kw_only=True, eq=False)
class GraphAutoencoder(FullBatch, Method[LinkPrediction]):
    """PyTorch Geometric's GAE or VGAE: full-batch Adam on the cross-entropy of sigmoid(z_i . z_j), z a node's code.

    The loss is the mean over training pairs plus that over as many pairs without an edge, drawn anew in each epoch. The
    variational form adds 1/N of the mean of KL(q(z) || N(0, 1)) over nodes; a test takes the mean of q. Unlike NBFNet
    it reads nodes' features.
    """

    variational: bool
    code: PositiveInt
    """Z."""

    def build(self, task: LinkPrediction, run: Run) -> None:
        """Blocks of ``model=…``; the hidden ones are shared."""
        from torch_geometric.nn import GAE, VGAE

        width = run.backbone.hidden_channels
        widths = [task.num_features] + [width] * (run.backbone.num_layers - 1)
        hidden = [run.block(each, width) for each in widths[:-1]]
        ends = [run.block(widths[-1], self.code, head=True) for _ in range(2 if self.variational else 1)]
        self.model = run.adapt((VGAE if self.variational else GAE)(Encoder(hidden, ends)))

    def fit(self, task: LinkPrediction, run: Run) -> None:
        """One full-batch step an epoch."""
        model: Any = self.model
        x, graph = _inputs(task, "train")
        absent = PairsWithoutEdge(task.message_edges("train"), task.num_nodes)
        count = task.train_pos.shape[1]
        labels = (torch.arange(2 * count, device=run.device) < count).to(task.x.dtype)

        def loss(epoch: int) -> Tensor:
            pairs = torch.cat([task.train_pos, absent.draw(count, run.generator)], dim=1)
            found = 2 * functional.binary_cross_entropy_with_logits(
                inner_products(model.encode(x, graph), pairs), labels
            )
            return found + model.kl_loss() / task.num_nodes if self.variational else found

        def validate() -> dict[str, float | Tensor]:
            return {"val_auc": roc_auc(self._scores(task, "val"), task.labels("val"))}

        self.descend(run, model, loss=loss, validate=validate, monitor="val_auc")

    @torch.no_grad()
    def _scores(self, task: LinkPrediction, split: LinkSplit) -> Tensor:
        """Logits [P] of a split's pairs."""
        model: Any = self.model.eval()
        return inner_products(model.encode(*_inputs(task, split)), task.pairs(split))

    def evaluate(self, task: LinkPrediction, run: Run) -> dict[str, float]:
        """``test_auc`` and ``test_ap`` (average precision), along the edges that the test may see."""
        scores, labels = self._scores(task, "test"), task.labels("test")
        run.save("predictions", {"pairs": task.pairs("test"), "label": labels, "score": scores})
        return {"test_auc": roc_auc(scores, labels), "test_ap": average_precision(scores, labels)}


def _inputs(task: LinkPrediction, split: LinkSplit) -> tuple[Features, Graph]:
    return compact(task.x), Graph(task.message_edges(split), task.num_nodes, task.x.dtype)
