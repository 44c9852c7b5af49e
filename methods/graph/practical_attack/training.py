"""How a victim is trained: the released procedure, and the cleaner one.

Letters: N nodes, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional

from runner.contracts import NodeClassification
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(frozen=True, kw_only=True)
class Training:
    """Full-batch Adam on the cross-entropy of the training nodes, with an early stop by the validation loss."""

    epochs: int
    lr: float
    weight_decay: float
    patience: int
    validation: Literal["training_pass", "evaluation_pass"]
    """The loss of the epoch's own pass, dropout on, before its update; or that of a pass of its own after it."""
    keep: Literal["last", "best"]

    def fit(
        self, network: nn.Module, x: Features, graph: Graph, task: NodeClassification, run: Run, *, name: str
    ) -> None:
        """Train ``network`` in the loop ``name``; it ends in evaluation mode."""
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        run.track(model=network, optimizer=optimizer)
        for _ in run.epochs(
            self.epochs,
            name=name,
            monitor="val_loss",
            mode="min",
            patience=self.patience,
            restore_best=self.keep == "best",
        ):
            network.train()
            optimizer.zero_grad()
            logits = network(x, graph)
            loss = functional.cross_entropy(logits[task.train], task.y[task.train])
            loss.backward()
            optimizer.step()
            if self.validation == "evaluation_pass":
                network.eval()
                with torch.no_grad():
                    logits = network(x, graph)
            val = logits.detach()[task.val]
            val_loss = functional.cross_entropy(val, task.y[task.val])
            run.log(loss=loss.detach(), val_loss=val_loss, val_acc=accuracy(val, task.y[task.val]))
        network.eval()
