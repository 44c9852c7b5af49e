"""Baselines for knowledge graphs: embeddings of entities, and the count of a relation's edges.

Letters: N entities, R relations, B questions, T triples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from runner.contracts import KnowledgeGraphCompletion, LinkSplit, Method
from runner.errors import BadInput
from runner.methods.ops.ranking import ranked
from runner.methods.ops.relational import with_inverses
from runner.types import PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class Embedding(Method[KnowledgeGraphCompletion]):
    """PyTorch Geometric's TransE, DistMult or RotatE: a vector for each entity, and one for each relation.

    Adam on the model's own loss: a triple against one with head or tail replaced at random.
    """

    score: Literal["transe", "distmult", "rotate"]
    width: PositiveInt
    epochs: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat
    margin: PositiveFloat
    """By which a triple shall score above a false one; the loss of distmult and transe, and an offset in rotate's."""
    validate_every: PositiveInt
    """Epochs from one validation to the next; the state of the best validation MRR stays."""

    def build(self, task: KnowledgeGraphCompletion, run: Run) -> None:
        """Refuse a test about other entities: they have no vectors."""
        from torch_geometric.nn import kge

        if task.inductive:
            raise BadInput(f"{task.name} asks about entities that are not in training; embeddings know none of them")
        kind: Any = {"transe": kge.TransE, "distmult": kge.DistMult, "rotate": kge.RotatE}[self.score]
        self.model = run.adapt(kind(len(task.entities), len(task.relations), self.width, margin=self.margin))

    def fit(self, task: KnowledgeGraphCompletion, run: Run) -> None:
        """The state of the best validation MRR stays."""
        model: Any = self.model
        optimizer = torch.optim.Adam(model.parameters(), lr=self.lr, fused=True)
        run.track(model=model, optimizer=optimizer)
        for epoch in run.epochs(self.epochs, monitor="val_mrr", every=self.validate_every, restore_best=True):
            losses = []
            for index in torch.randperm(len(task.train), generator=run.generator).to(run.device).split(self.batch_size):
                optimizer.zero_grad()
                loss = model.loss(*task.train[index].T.contiguous())
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            run.log(loss=torch.stack(losses).mean())
            if epoch.validates:
                run.log(**self._ranked(task, "val"))

    def evaluate(self, task: KnowledgeGraphCompletion, run: Run) -> dict[str, float]:
        """Filtered ranks, as of ``nbfnet``; an inverse question is that for the head."""
        return self._ranked(task, "test")

    @torch.no_grad()
    def _ranked(self, task: KnowledgeGraphCompletion, split: LinkSplit) -> dict[str, float]:
        return ranked(task, split, lambda entity, relation: self._scores(task, entity, relation), 16)

    def _scores(self, task: KnowledgeGraphCompletion, entity: Tensor, relation: Tensor) -> Tensor:
        """[B, N]."""
        inverse = (relation >= len(task.relations)).unsqueeze(1)
        everyone = torch.arange(len(task.entities), device=entity.device).expand(len(entity), -1)
        given = entity.unsqueeze(1).expand_as(everyone)
        head, tail = torch.where(inverse, everyone, given), torch.where(inverse, given, everyone)
        kind = (relation % len(task.relations)).unsqueeze(1).expand_as(everyone)
        scores: Tensor = self.model(head.flatten(), kind.flatten(), tail.flatten())
        return scores.view(everyone.shape)


@dataclass(kw_only=True, eq=False)
class DegreeRanking(Method[KnowledgeGraphCompletion]):
    """An entity's score is the number of facts in which it answers the relation asked, whoever asks."""

    batch_size: PositiveInt
    """Questions ranked at a time."""

    def build(self, task: KnowledgeGraphCompletion, run: Run) -> None:
        """Nothing is learned."""
        self.model = nn.Module()

    def fit(self, task: KnowledgeGraphCompletion, run: Run) -> None:
        """Nor fitted."""

    def evaluate(self, task: KnowledgeGraphCompletion, run: Run) -> dict[str, float]:
        """Filtered ranks, as of ``nbfnet``."""
        relations, entities = 2 * len(task.relations), len(task.test_entities)
        _, relation, tail = with_inverses(task.facts("test"), len(task.relations)).T
        count = torch.bincount(relation * entities + tail, minlength=relations * entities).view(relations, entities)
        return ranked(task, "test", lambda entity, relation: count[relation], self.batch_size)
