"""NBFNet for knowledge graphs: training with edge dropout, filtered ranking, paths that decided a score.

Letters: B questions of a batch, n negatives, N entities, R relations without inverses, D width, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from runner.contracts import KnowledgeGraphCompletion, LinkSplit, Method
from runner.errors import BadInput
from runner.methods.graph.nbfnet.network import NBFNet, weighted_loss
from runner.methods.graph.nbfnet.paths import described, explained
from runner.methods.ops.ranking import ranked
from runner.methods.ops.relational import Answers, RelationalGraph, inverted, with_inverses
from runner.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


def questions(triples: Tensor, num_relations: int) -> Tensor:
    """Rows (source, r, answer): the first half of triples [B, 3] asks for tails; the rest, inverted, for heads."""
    half = (len(triples) + 1) // 2
    return torch.cat([triples[:half], inverted(triples[half:], num_relations)])


EdgeDropout = Literal["none", "asked", "one_hop"]


def with_edges_dropped(
    graph: RelationalGraph, asked: Tensor, candidates: Tensor, num_relations: int, which: EdgeDropout
) -> RelationalGraph:
    """The graph without what would give the batch's answers away; ``graph`` stays as it is.

    Args:
        graph: with inverse edges.
        asked: (source, relation, answer) [B, 3].
        candidates: the answer and the negatives of each row [B, 1 + n].
        num_relations: R.
        which: "asked": the asked triples and their inverses; "one_hop": all edges between a source and its candidates,
            either way; "none": nothing, and the answers are there to be read.
    """
    if which == "none":
        return graph
    if which == "asked":
        return graph.without(graph.places_of(with_inverses(asked, num_relations)))
    source, target = asked[:, :1].expand_as(candidates).flatten(), candidates.flatten()
    return graph.without(torch.cat([graph.places_between(source, target), graph.places_between(target, source)]))


@dataclass(kw_only=True, eq=False)
class NBFNetCompletion(Method[KnowledgeGraphCompletion]):
    """Adam on the cross-entropy of each training triple against n entities that don't answer its question.

    A pass of L generalised Bellman-Ford iterations from a question's source scores all entities at once.
    """

    num_layers: PositiveInt
    width: PositiveInt
    message: Literal["transe", "distmult", "rotate"]
    """transe: h + w; distmult: h w; rotate: complex product."""
    aggregate: Literal["sum", "mean", "max", "min", "pna"]
    """pna: mean, max, min and std, each scaled by 1, s and 1 / s, s the logarithm of a node's degree."""
    relations: Literal["dependent", "independent"]
    """An edge's vector is a map of the query, or one of its relation in each layer."""
    edge_dropout: Literal["none", "asked", "one_hop"]
    """What leaves the graph before a batch's messages: the asked triples, or all edges between source and candidates.
    ``none`` is there to show what comes of it."""
    negatives: PositiveInt
    temperature: NonNegativeFloat
    """Of the negatives' self-adversarial weights; 0: even weights."""
    epochs: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat
    triples_per_epoch: PositiveInt | None
    """Random ones; null: all training triples."""
    val_triples: PositiveInt | None
    """Of validation, the first of a random order; null: all."""
    validate_every: PositiveInt
    """Epochs from one validation to the next."""
    keep: Literal["best", "last"]
    """State of the best validation MRR, or the last; then nothing is validated."""
    explained: NonNegativeInt
    """Test triples whose best paths are printed and saved."""
    paths: PositiveInt
    """For each of them."""
    beam: PositiveInt
    """Paths that the search keeps at a node."""

    def build(self, task: KnowledgeGraphCompletion, run: Run) -> None:
        """Nothing of the network belongs to an entity: it serves any graph with these relations."""
        if self.message == "rotate" and self.width % 2:
            raise BadInput(f"method.width: message=rotate takes complex numbers, so an even width; it is {self.width}")
        network = NBFNet(
            self.width,
            self.num_layers,
            2 * len(task.relations),
            self.message,
            self.aggregate,
            dependent=self.relations == "dependent",
        )
        self.model: NBFNet = run.adapt(network)  # type: ignore[assignment]

    def fit(self, task: KnowledgeGraphCompletion, run: Run) -> None:
        """Each epoch takes the triples in another order."""
        graph = graph_of(task, "train")
        known = Answers(with_inverses(task.train, len(task.relations)), len(task.entities), 2 * len(task.relations))
        val = task.val[torch.randperm(len(task.val), generator=run.generator)[: self.val_triples].to(run.device)]
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr, fused=True)
        run.track(model=self.model, optimizer=optimizer)
        best = self.keep == "best"
        for epoch in run.epochs(
            self.epochs, monitor="val_mrr" if best else None, every=self.validate_every, restore_best=best
        ):
            losses = []
            order = torch.randperm(len(task.train), generator=run.generator)[: self.triples_per_epoch].to(run.device)
            for index in order.split(self.batch_size):
                optimizer.zero_grad()
                loss = self.loss(questions(task.train[index], len(task.relations)), graph, known, run)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            run.log(loss=torch.stack(losses).mean())
            if best and epoch.validates:
                run.log(**ranked(task, "val", self._scorer(graph), self.batch_size, val))

    def loss(self, asked: Tensor, graph: RelationalGraph, known: Answers, run: Run) -> Tensor:
        """Of rows (source, relation, answer) [B, 3]."""
        others = known.draw_others(asked[:, 0], asked[:, 1], self.negatives, run.generator)
        candidates = torch.cat([asked[:, 2:], others], dim=1)
        num_relations = graph.num_relations // 2
        seen = with_edges_dropped(graph, asked, candidates, num_relations, self.edge_dropout)
        h, query = self.model(asked[:, 0], asked[:, 1], seen)
        return weighted_loss(self.model.score(self.model.features(h, query, candidates)), self.temperature)

    def evaluate(self, task: KnowledgeGraphCompletion, run: Run) -> dict[str, float]:
        """Filtered ranks: ``test_mrr``, ``test_mr``, ``test_hits1``, ``_hits3``, ``_hits10`` and ``_hits10_50``."""
        graph = graph_of(task, "test")
        metrics = ranked(task, "test", self._scorer(graph), self.batch_size)
        texts = []
        for triple in task.test[: self.explained]:
            found = explained(self.model, graph, triple, self.paths, self.beam)
            texts.append(described(found, triple, task.test_entities, task.relations))
        if texts:
            text = "\n".join(texts)
            run.save("paths", text)
            print(text)
        return metrics

    def _scorer(self, graph: RelationalGraph) -> Scorer:
        return Scorer(self.model, graph)


@dataclass(frozen=True)
class Scorer:
    """Scores all entities of a graph."""

    model: NBFNet
    graph: RelationalGraph

    def __call__(self, entity: Tensor, relation: Tensor) -> Tensor:
        """[B, N] for questions (entity, relation, ?) [B]."""
        h, query = self.model(entity, relation, self.graph)
        return self.model.score(self.model.features(h, query))


def graph_of(task: KnowledgeGraphCompletion, split: LinkSplit) -> RelationalGraph:
    """The facts that may be seen, and their inverses."""
    num_relations = len(task.relations)
    return RelationalGraph(with_inverses(task.facts(split), num_relations), len(task.names(split)), 2 * num_relations)
