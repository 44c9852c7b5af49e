"""Back-propagation through the whole network for classes of graphs: the baseline.

Letters: F features, H hidden width, C classes, g graphs of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import GraphClassification, Method
from runner.methods.models.stack import Stack
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.graph_batches import Batch, GraphBatches
from runner.methods.ops.sparse import Features, compact
from runner.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


class Pooled(nn.Module):
    """Classes of graphs: the mean over a graph's nodes of the last block's output, then an affine map."""

    def __init__(self, blocks: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.network = Stack(blocks)
        self.head = head

    def forward(self, x: Features, batch: Batch) -> Tensor:
        """[g, C] for the features [N, F] of all nodes."""
        scores: Tensor = self.head(batch.mean @ self.network(x[batch.nodes], batch.graph))
        return scores


@dataclass(kw_only=True, eq=False)
class BackpropGraph(Method[GraphClassification]):
    """Adam on the cross-entropy of batches of training graphs; the last state counts, whatever its accuracy."""

    epochs: PositiveInt
    batch_size: PositiveInt
    """Graphs."""
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    halve_every: NonNegativeInt
    """Epochs after which the learning rate is halved, again and again; 0: never."""

    def build(self, task: GraphClassification, run: Run) -> None:
        """Blocks from F to H, none of them a head, and an affine map from H to C."""
        hidden = run.backbone.hidden_channels
        widths = [task.num_features] + [hidden] * (run.backbone.num_layers - 1)
        blocks = [run.block(width, hidden) for width in widths]
        self.model: Pooled = Pooled(blocks, run.adapt(nn.Linear(hidden, task.num_classes)))

    def fit(self, task: GraphClassification, run: Run) -> None:
        """One pass over the training graphs an epoch, in an order drawn anew."""
        x, batches = compact(task.x), GraphBatches(task)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        run.track(model=self.model, optimizer=optimizer)
        for epoch in run.epochs(self.epochs, name="train", restore_best=False):
            if self.halve_every:
                for group in optimizer.param_groups:
                    group["lr"] = self.lr / 2 ** ((epoch - 1) // self.halve_every)
            order = torch.randperm(len(task.train), generator=run.generator).to(task.train.device)
            loss_sum = task.x.new_zeros(())
            for graphs in task.train[order].split(self.batch_size):
                optimizer.zero_grad()
                loss = functional.cross_entropy(self.model(x, batches(graphs)), task.y[graphs])
                loss.backward()
                optimizer.step()
                loss_sum += loss.detach() * len(graphs)
            run.log(loss=loss_sum / len(task.train))

    @torch.no_grad()
    def evaluate(self, task: GraphClassification, run: Run) -> dict[str, float]:
        """``test_acc`` and ``train_acc``."""
        x, batches = compact(task.x), GraphBatches(task)
        logits = {split: self.model(x, batches(graphs)) for split, graphs in task.splits().items() if len(graphs)}
        probability = logits["test"].softmax(1)
        run.save("predictions", {"index": task.test, "label": task.y[task.test], "probability": probability})
        return {f"{split}_acc": accuracy(scores, task.y[task.splits()[split]]) for split, scores in logits.items()}
