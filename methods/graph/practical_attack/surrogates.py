"""A direction that knows no victim: the sum of the gradients of networks trained on other splits of the nodes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from runner.contracts import NodeClassification
from runner.methods.graph.practical_attack import features
from runner.methods.graph.practical_attack.training import Training
from runner.methods.models.gcn_dropout import DroppedGCN
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features

if TYPE_CHECKING:
    from runner.run import Run

SEED = 2_000_000
"""Of the first surrogate; far from any replicate's, the same for all of them."""
NETWORK = DroppedGCN(
    hidden_channels=32, num_layers=2, dropout=0.5, init="default", init_operator="own", init_signal="mean"
)


def loss_gradient(
    count: int, training: Training, x: Features, graph: Graph, task: NodeClassification, run: Run
) -> Tensor:
    """sum over ``count`` GCNs of dL/dX, summed over nodes [F]; the same for all victims and replicates of a dataset.

    Each is trained as a victim is, in a loop of its own, on a random split whose parts are as large as the task's.
    """
    total = torch.zeros(task.num_features, dtype=task.x.dtype, device=task.x.device)
    for number in range(count):
        with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
            torch.manual_seed(SEED + number)
            other = _other_split(task)
            network = run.adapt(NETWORK.network(task.num_features, task.num_classes))
            training.fit(network, x, graph, other, run, name=f"surrogate{number + 1}")
        total += features.loss_gradient(network, x, graph, other)
    return total


def _other_split(task: NodeClassification) -> NodeClassification:
    """The same graph with as many training and validation nodes, drawn anew from all nodes."""
    train, val = len(task.train), len(task.val)
    order = torch.randperm(task.num_nodes).to(task.train.device)
    parts = {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}
    return dataclasses.replace(task, **{name: part.sort().values for name, part in parts.items()})
