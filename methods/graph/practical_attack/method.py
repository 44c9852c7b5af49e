"""Attacks on few, unimportant nodes (Ma, Ding & Mei, NeurIPS 2020, arXiv 2006.05057).

A victim is trained as usual. Then r nodes of low degree are chosen, without a look at the victim, and the same small
vector is added to the features of each: how often is the victim wrong on its test nodes?

Letters: N nodes, F features, C classes, r nodes that are attacked, S strategies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import Method, NodeClassification
from runner.errors import BadInput
from runner.methods.graph.practical_attack import features, surrogates
from runner.methods.graph.practical_attack.features import Shifted
from runner.methods.graph.practical_attack.plot import discrepancy
from runner.methods.graph.practical_attack.selection import Bar, Selection
from runner.methods.graph.practical_attack.training import Training
from runner.methods.graph.practical_attack.walk import Walk
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, compact
from runner.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Probability

if TYPE_CHECKING:
    from runner.run import Run


class Attacked(nn.Module):
    """A victim, with the nodes that each strategy chose, and the direction of what is added to their features."""

    nodes: Tensor
    direction: Tensor

    def __init__(self, victim: nn.Module, nodes: Tensor, direction: Tensor) -> None:
        """``nodes`` [S, r], int64; ``direction`` [F]."""
        super().__init__()
        self.victim = victim
        self.register_buffer("nodes", nodes)
        self.register_buffer("direction", direction)


@dataclass(kw_only=True, eq=False)
class PracticalAttack(Method[NodeClassification]):
    """Trains a victim, chooses nodes by each strategy, and measures the victim with their features changed."""

    epochs: PositiveInt
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    patience: PositiveInt
    """Epochs in a row without a strictly lower validation loss after which training ends."""
    validation: Literal["training_pass", "evaluation_pass"]
    """Where the validation loss is read."""
    keep: Literal["last", "best"]
    """Which weights are attacked."""
    strategies: list[
        Literal["random", "degree", "pagerank", "betweenness", "rwcs", "gc_rwcs", "infmax_uniform", "infmax_normal"]
    ]
    budget: Probability
    """Share of the nodes that are attacked, rounded down, at least one."""
    threshold: Probability
    """Share of the nodes, those of the highest degree, that can't be touched."""
    steps: NonNegativeInt
    top: PositiveInt
    hops: NonNegativeInt
    saturation: PositiveFloat
    perturbation: Literal["gradient", "surrogate", "informative"]
    features: Probability
    """Share of the features that are changed, rounded down, at least one."""
    surrogates: PositiveInt
    strength: NonNegativeFloat
    curve: list[NonNegativeFloat]
    """Further strengths at which the victim is measured."""

    def build(self, task: NodeClassification, run: Run) -> None:
        """The chosen network, from F to C, nothing chosen yet."""
        if not self.strategies or len(set(self.strategies)) < len(self.strategies):
            raise BadInput("method.strategies must be one or more names, each once")
        nodes = torch.zeros(len(self.strategies), self._count(task), dtype=torch.int64)
        direction = torch.zeros(task.num_features, dtype=task.x.dtype)
        victim = run.model(task.num_features, task.num_classes)
        self.model = Attacked(victim, nodes, direction).to(run.device)

    def fit(self, task: NodeClassification, run: Run) -> None:
        """Train the victim; choose direction and nodes."""
        x, graph = _inputs(task)
        training = Training(
            epochs=self.epochs,
            lr=self.lr,
            weight_decay=self.weight_decay,
            patience=self.patience,
            validation=self.validation,
            keep=self.keep,
        )
        training.fit(self.model.victim, x, graph, task, run, name="victim")
        self.model.direction.copy_(self._direction(training, x, graph, task, run))
        selection = self._selection(task, run)
        for place, strategy in enumerate(self.strategies):
            self.model.nodes[place] = selection.nodes(strategy)

    @torch.no_grad()
    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        """``test_acc`` and ``test_loss`` without an attack, and by strategy: ``test_acc/gc_rwcs``, … .

        ``test_acc/gc_rwcs/2`` is that at strength 2, for the strengths of ``curve``. ``influence/…`` is the sum of the
        walk's column sums of the chosen nodes, ``coverage/…`` the number of nodes that they reach among the strongest.
        """
        x, graph = _inputs(task)
        self.model.eval()
        signs = features.informative_signs(task.x) if self.perturbation == "informative" else torch.ones(task.num_nodes)
        selection = self._selection(task, run)
        metrics = self._measured(x, graph, task)
        for strategy, nodes in zip(self.strategies, self.model.nodes, strict=True):
            rows = torch.zeros_like(task.x[:, 0])
            rows[nodes] = signs.to(rows)[nodes]
            metrics[f"coverage/{strategy}"] = selection.covered(nodes.cpu())
            metrics[f"influence/{strategy}"] = float(selection.column_sums[nodes.cpu()].sum())
            for strength, suffix in [(self.strength, ""), *((value, f"/{value:g}") for value in self.curve)]:
                shifted = Shifted(x, rows, strength * self.model.direction)
                for name, value in self._measured(shifted, graph, task).items():
                    metrics[f"{name}/{strategy}{suffix}"] = value
        run.save("attack", {"nodes": self.model.nodes, "direction": self.model.direction})
        if self.curve:
            run.save("discrepancy", discrepancy(metrics, self.strategies, self.curve))
        return metrics | {"degree_bar": selection.bar.degree, "attacked_nodes": selection.count}

    def _measured(self, x: Features | Shifted, graph: Graph, task: NodeClassification) -> dict[str, float]:
        logits = self.model.victim(x, graph)[task.test]
        labels = task.y[task.test]
        return {
            "test_acc": accuracy(logits, labels),
            "test_loss": float(functional.cross_entropy(logits, labels)),
        }

    def _count(self, task: NodeClassification) -> int:
        return max(1, int(self.budget * task.num_nodes))

    def _direction(self, training: Training, x: Features, graph: Graph, task: NodeClassification, run: Run) -> Tensor:
        if self.perturbation == "informative":
            return features.informative_direction(task)
        if self.perturbation == "surrogate":
            gradient = surrogates.loss_gradient(self.surrogates, training, x, graph, task, run)
        else:
            gradient = features.loss_gradient(self.model.victim, x, graph, task)
        return features.signs_of_largest(gradient, max(1, int(self.features * task.num_features)))

    def _selection(self, task: NodeClassification, run: Run) -> Selection:
        walk = Walk(task.edge_index, task.num_nodes, self.steps)
        count = self._count(task)
        return Selection(
            walk=walk,
            count=count,
            bar=Bar.of(walk.degree, self.threshold, count),
            top=self.top,
            hops=self.hops,
            saturation=self.saturation,
            # A generator of its own: what is drawn doesn't hang on what was drawn before.
            generator=torch.Generator().manual_seed(run.generator.initial_seed()),
            memo=run.memo,
            content={"task": task.fingerprint},
        )


def _inputs(task: NodeClassification) -> tuple[Features, Graph]:
    return compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype)
