"""NBFNet for one undirected graph without relations: each pair is scored from both of its ends.

Letters: N nodes, P pairs, U different nodes in them, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from runner.contracts import LinkPrediction, LinkSplit, Method
from runner.errors import BadInput
from runner.methods.graph.nbfnet.network import NBFNet, weighted_loss
from runner.methods.ops.link_scores import average_precision, roc_auc
from runner.methods.ops.relational import Answers, RelationalGraph
from runner.types import PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


def unlabelled(edge_index: Tensor, num_nodes: int) -> RelationalGraph:
    """The edges [2, E] as those of one relation."""
    source, target = edge_index
    return RelationalGraph(torch.stack([source, torch.zeros_like(source), target], dim=1), num_nodes, 1)


class PairsWithoutEdge:
    """Draws pairs of different nodes without an edge, all equally likely."""

    def __init__(self, edge_index: Tensor, num_nodes: int) -> None:
        """``edge_index`` [2, E], both directions of each edge."""
        node = torch.arange(num_nodes, device=edge_index.device)
        pairs = torch.cat([edge_index, torch.stack([node, node])], dim=1)
        self._neighbours = Answers(unlabelled(pairs, num_nodes).triples, num_nodes, 1)
        self._others = (num_nodes - pairs[0].unique(return_counts=True)[1]).double()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """[2, count], with replacement."""
        device = self._others.device
        head = torch.multinomial(self._others.cpu(), count, replacement=True, generator=generator).to(device)
        return torch.stack([head, self._neighbours.draw_others(head, torch.zeros_like(head), 1, generator).squeeze(1)])


@dataclass(kw_only=True, eq=False)
class NBFNetLink(Method[LinkPrediction]):
    """Adam on the cross-entropy of training pairs against as many pairs without an edge, drawn anew for each batch.

    Features of nodes are not used. Before the messages of a batch, the edges of its pairs are taken out of the graph,
    and every node gets an edge to itself. A pair's score is MLP((f(u, v) + f(v, u)) / 2), f(u, v) = [h_u(v), q].
    """

    num_layers: PositiveInt
    width: PositiveInt
    message: Literal["transe", "distmult", "rotate"]
    aggregate: Literal["sum", "mean", "max", "min", "pna"]
    epochs: PositiveInt
    batch_size: PositiveInt
    """Pairs with an edge."""
    lr: PositiveFloat
    pairs_per_epoch: PositiveInt | None
    """Random ones; null: all training pairs."""
    validate_every: PositiveInt
    """Epochs from one validation to the next."""
    keep: Literal["best", "last"]
    """State of the best validation AUC, or the last; then nothing is validated."""

    def build(self, task: LinkPrediction, run: Run) -> None:
        """One relation, that of all edges."""
        if self.message == "rotate" and self.width % 2:
            raise BadInput(f"method.width: message=rotate takes complex numbers, so an even width; it is {self.width}")
        network = NBFNet(self.width, self.num_layers, 1, self.message, self.aggregate, dependent=False)
        self.model: NBFNet = run.adapt(network)  # type: ignore[assignment]

    def fit(self, task: LinkPrediction, run: Run) -> None:
        """Each epoch takes the pairs in another order."""
        graph = unlabelled(task.message_edges("train"), task.num_nodes)
        absent = PairsWithoutEdge(task.message_edges("train"), task.num_nodes)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr, fused=True)
        run.track(model=self.model, optimizer=optimizer)
        best = self.keep == "best"
        for epoch in run.epochs(
            self.epochs, monitor="val_auc" if best else None, every=self.validate_every, restore_best=best
        ):
            losses = []
            order = torch.randperm(task.train_pos.shape[1], generator=run.generator)[: self.pairs_per_epoch]
            for index in order.to(run.device).split(self.batch_size):
                positive = task.train_pos[:, index]
                pairs = torch.cat([positive, absent.draw(len(index), run.generator)], dim=1)
                optimizer.zero_grad()
                logits = self.scores(pairs, without_pairs(graph, pairs).with_self_loops(0))
                loss = weighted_loss(torch.stack(logits.chunk(2), dim=1), 0.0)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            run.log(loss=torch.stack(losses).mean())
            if best and epoch.validates:
                run.log(val_auc=roc_auc(self._scores_of(task, "val"), task.labels("val")))

    def scores(self, pairs: Tensor, graph: RelationalGraph) -> Tensor:
        """Logits [P] of pairs [2, P]; a pass for each of the U nodes in them."""
        nodes, place = pairs.unique(return_inverse=True)
        h, query = self.model(nodes, torch.zeros_like(nodes), graph)
        return self._of_states(h[pairs[1], place[0]], h[pairs[0], place[1]], query[0])

    def _of_states(self, forward: Tensor, backward: Tensor, query: Tensor) -> Tensor:
        """Logits [P] of h_u(v) and h_v(u) [P, D]: the mean of f is taken before the MLP."""
        states = (forward + backward) / 2
        return self.model.score(self.model.features(states.unsqueeze(1), query.unsqueeze(0))).squeeze(0)

    @torch.no_grad()
    def _scores_of(self, task: LinkPrediction, split: LinkSplit) -> Tensor:
        """Logits of a split's pairs: a pass for each node in them."""
        graph = unlabelled(task.message_edges(split), task.num_nodes).with_self_loops(0)
        pairs = task.pairs(split)
        source, target = torch.cat([pairs, pairs.flip(0)], dim=1)
        nodes, place = source.unique(return_inverse=True)
        states = task.x.new_empty(len(source), self.width)
        for first in range(0, len(nodes), 2 * self.batch_size):
            part = nodes[first : first + 2 * self.batch_size]
            h, query = self.model(part, torch.zeros_like(part), graph)
            here = ((place >= first) & (place < first + len(part))).nonzero().squeeze(1)
            states[here] = h[target[here], place[here] - first]
        return self._of_states(*states.chunk(2), query[0])

    def evaluate(self, task: LinkPrediction, run: Run) -> dict[str, float]:
        """``test_auc``, ``test_ap`` (average precision), along the edges that the test may see."""
        scores, labels = self._scores_of(task, "test"), task.labels("test")
        run.save("predictions", {"pairs": task.pairs("test"), "label": labels, "score": scores})
        return {"test_auc": roc_auc(scores, labels), "test_ap": average_precision(scores, labels)}


def without_pairs(graph: RelationalGraph, pairs: Tensor) -> RelationalGraph:
    """The graph without the edges between pairs [2, P], either way."""
    return graph.without(torch.cat([graph.places_between(*pairs), graph.places_between(*pairs.flip(0))]))
