"""ForwardGNN for link prediction: layers trained one by one on pairs of nodes with an edge and without.

Park et al., ICLR 2024, arXiv 2403.11004.
Letters: N nodes, F features, H hidden width, L layers, P pairs of a split (the positive ones first).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import LinkPrediction, LinkSplit, Method
from runner.errors import BadInput
from runner.methods.graph.forwardgnn.layer import FixedInputLayer, unit_rows
from runner.methods.ops.graph import Graph
from runner.methods.ops.link_scores import pair_products, roc_auc
from runner.methods.ops.sparse import compact
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


class LayerwiseNetwork(nn.Module):
    """Layers that are trained one by one."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


@dataclass(kw_only=True, eq=False)
class ForwardGNNLink(Method[LinkPrediction]):
    """Each layer has its own loss and optimiser; its input is the frozen output of the layer below.

    For each layer l = 1..L, messages along the training edges, z = ReLU(conv_l(norm(h_{l-1}))), e_ij = z_i * z_j
    (elementwise), over the positive pairs + and the negative pairs - of the training split::

        ce:     s_ij = sum_k e_ijk            minimise mean BCE(sigmoid(s_ij), label) over all pairs
        ff:     s_ij = sum_k e_ijk^2 - theta  minimise mean_+ softplus(-s_ij) + mean_- softplus(s_ij)
        symba:  s_ij as ff                    minimise mean softplus(-alpha (s_+ - s_-)), k-th + with k-th -

    then h_l = z, frozen. The score of a pair is the mean of all layers' sigmoid(s_ij). The features are propagated
    anew, with the trained layers, along the edges that the test may see.
    """

    objective: Literal["ce", "ff", "symba"]
    """ce: cross-entropy on inner products; ff: forward-forward's goodness; symba: goodness of couples of pairs."""
    theta: NonNegativeFloat
    """What the goodness is compared with (ff; only the score of symba)."""
    alpha: PositiveFloat
    """Steepness (symba)."""
    epochs: PositiveInt
    """At most so many for each layer."""
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    patience: PositiveInt
    """Validations without a strictly better score after which a layer's training ends."""
    validate_every: PositiveInt
    """Epochs from one validation to the next."""

    def build(self, task: LinkPrediction, run: Run) -> None:
        """L layers, all H wide."""
        positive, negative = task.train_pos.shape[1], task.train_neg.shape[1]
        if self.objective == "symba" and positive != negative:
            raise BadInput(
                f"method.objective=symba couples pairs; the task has {positive} positive, {negative} negative"
            )
        hidden = run.backbone.hidden_channels
        widths = [task.num_features] + [hidden] * (run.backbone.num_layers - 1)
        self.model: LayerwiseNetwork = LayerwiseNetwork([run.block(width, hidden) for width in widths])

    def fit(self, task: LinkPrediction, run: Run) -> None:
        """Bottom-up: train a layer, freeze it, compute its output once."""
        graph = Graph(task.message_edges("train"), task.num_nodes, task.x.dtype)
        val_pairs = task.pairs("val")
        lower_layers = torch.zeros(val_pairs.shape[1], dtype=torch.float64, device=task.x.device)
        x = unit_rows(compact(task.x))
        for number, block in enumerate(self.model.layers, start=1):
            layer = FixedInputLayer(block, x, graph)
            self._fit_layer(layer, f"layer{number}", lower_layers, task, run)
            with torch.no_grad():
                z = layer()
                lower_layers = lower_layers + self._scores(z, val_pairs)
                x = unit_rows(z)

    def _fit_layer(
        self, layer: FixedInputLayer, name: str, lower_layers: Tensor, task: LinkPrediction, run: Run
    ) -> None:
        """Train one layer; ``lower_layers`` [P] is the sum of the scores that those below give the validation pairs."""
        optimizer = torch.optim.Adam(layer.block.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        run.track(model=layer.block, optimizer=optimizer)
        # A pair's ends are numbered among the nodes that occur in the split: the others needn't be computed.
        train_nodes, train_pairs = task.pairs("train").unique(return_inverse=True)
        val_nodes, val_pairs = task.pairs("val").unique(return_inverse=True)
        train_z, val_z = layer.at(train_nodes), layer.at(val_nodes)
        train_labels, val_labels = task.labels("train"), task.labels("val")
        for epoch in run.epochs(
            self.epochs,
            name=name,
            monitor="val_auc",
            mode="max",
            patience=self.patience,
            every=self.validate_every,
            restore_best=True,
        ):
            optimizer.zero_grad()
            loss = self._loss(self._logits(train_z(), train_pairs), train_labels)
            loss.backward()
            optimizer.step()
            run.log(loss=loss.detach())
            if epoch.validates:
                with torch.no_grad():
                    scores = lower_layers + self._scores(val_z(), val_pairs)
                run.log(val_auc=roc_auc(scores, val_labels))
        optimizer.zero_grad()  # frees them: only the layer in training holds gradients

    @torch.no_grad()
    def evaluate(self, task: LinkPrediction, run: Run) -> dict[str, float]:
        """Each split on its own edges. Depth l < L comes out on the way: ``test_auc/depth1`` and so on."""
        metrics: dict[str, float] = {}
        for split in ("val", "test"):
            score = self._evaluate_split(split, task, metrics)
        run.save("predictions", {"pairs": task.pairs("test"), "label": task.labels("test"), "score": score})
        return metrics

    def _evaluate_split(self, split: LinkSplit, task: LinkPrediction, metrics: dict[str, float]) -> Tensor:
        """Scores [P] of a split's pairs; their AUC, at each depth, goes into ``metrics``."""
        graph = Graph(task.message_edges(split), task.num_nodes, task.x.dtype)
        pairs, labels = task.pairs(split), task.labels(split)
        total = torch.zeros(pairs.shape[1], dtype=torch.float64, device=task.x.device)
        x = unit_rows(compact(task.x))
        for depth, block in enumerate(self.model.layers, start=1):
            z = FixedInputLayer(block, x, graph)()
            total += self._scores(z, pairs)
            x = unit_rows(z)
            metrics[f"{split}_auc"] = metrics[f"{split}_auc/depth{depth}"] = roc_auc(total, labels)
        return total / len(self.model.layers)

    def _logits(self, z: Tensor, pairs: Tensor) -> Tensor:
        """s_ij [P] of a layer's outputs z [N, H]."""
        e = pair_products(z, pairs)
        return e.sum(1) if self.objective == "ce" else e.square().sum(1) - self.theta

    def _scores(self, z: Tensor, pairs: Tensor) -> Tensor:
        """sigmoid(s_ij) [P] in float64: float32's is 1 from 17 on, and ties cost AUC."""
        return self._logits(z, pairs).double().sigmoid()

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The objective, for the s_ij [P] of all training pairs, the positive ones first."""
        if self.objective == "ce":
            return functional.binary_cross_entropy_with_logits(logits, labels)
        positive, negative = logits[labels == 1], logits[labels == 0]
        if self.objective == "ff":
            return functional.softplus(-positive).mean() + functional.softplus(negative).mean()
        return functional.softplus(-self.alpha * (positive - negative)).mean()
