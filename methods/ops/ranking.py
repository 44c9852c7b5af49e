"""How well scores put a hidden triple's entity before all others (filtered ranking; Bordes et al., NeurIPS 2013).

Letters: N entities, R relations, T triples, Q questions asked, B questions of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import torch
from torch import Tensor

from runner.contracts import KnowledgeGraphCompletion, LinkSplit
from runner.methods.ops.relational import Answers, with_inverses


def filtered_ranks(scores: Tensor, target: Tensor, row: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
    """Rank [B] of each target, and how many entities [B] it was compared with; other true answers are left out.

    rank = 1 + #{e : s_e >= s_target, e neither the target nor a known answer}: ties count against the target.

    Args:
        scores: [B, N].
        target: the entities asked for [B].
        row: with ``answer``, the known (row, entity) [any].
        answer: see ``row``.
    """
    others = torch.ones_like(scores, dtype=torch.bool)
    others[row, answer] = False
    others[torch.arange(len(target), device=target.device), target] = False
    not_below = scores >= scores.gather(1, target.unsqueeze(1))
    return 1 + (not_below & others).sum(1), others.sum(1)


def hits_of_sample(rank: Tensor, others: Tensor, k: int = 10, size: int = 50) -> Tensor:
    """Chance [Q], float64, to be in the first ``k`` of ``size`` entities, of which all but one are drawn at random.

    sum_{i<k} C(size-1, i) p^i (1-p)^(size-1-i), p = (rank - 1) / others the chance that a drawn one stands before: what
    "Hits@10 (50 sample)" estimates, without its noise.
    """
    before = (rank - 1).double() / others
    return sum(
        (comb(size - 1, i) * before**i * (1 - before) ** (size - 1 - i) for i in range(k)),
        start=torch.zeros_like(before),
    )


def ranking_metrics(rank: Tensor, others: Tensor, prefix: str) -> dict[str, float]:
    """Mean rank, mean reciprocal rank, Hits@1, 3 and 10 as fractions, and Hits@10 (50 sample), for ranks [Q]."""
    metrics = {"mr": rank.double().mean(), "mrr": rank.double().reciprocal().mean()}
    metrics |= {f"hits{k}": (rank <= k).double().mean() for k in (1, 3, 10)}
    metrics["hits10_50"] = hits_of_sample(rank, others).mean()
    return {f"{prefix}_{name}": float(value) for name, value in metrics.items()}


@torch.no_grad()
def ranked(
    task: KnowledgeGraphCompletion,
    split: LinkSplit,
    score: Callable[[Tensor, Tensor], Tensor],
    batch_size: int,
    triples: Tensor | None = None,
) -> dict[str, float]:
    """The metrics of a split: each triple asks for its tail, and by the inverse relation for its head.

    Args:
        task: gives triples and what is filtered.
        split: whose triples are asked.
        score: of all entities [B, N], for questions of entities [B] and relations [B] in 0..2R-1.
        batch_size: B; triples that ask the same share a score.
        triples: of the split, where not all of them are to be asked.
    """
    num_relations, num_entities = len(task.relations), len(task.names(split))
    asked = with_inverses(task.questions(split) if triples is None else triples, num_relations)
    known = Answers(with_inverses(task.known(split), num_relations), num_entities, 2 * num_relations)
    questions, which = torch.unique(asked[:, 0] * 2 * num_relations + asked[:, 1], return_inverse=True)
    order = torch.argsort(which, stable=True)
    ends = torch.searchsorted(which[order], torch.arange(len(questions) + 1, device=which.device)).tolist()
    ranks, others = [], []
    for first in range(0, len(questions), batch_size):
        part = questions[first : first + batch_size]
        scores = score(part // (2 * num_relations), part % (2 * num_relations))
        members = order[ends[first] : ends[first + len(part)]]
        entity, relation, target = asked[members].T
        found = filtered_ranks(scores[which[members] - first], target, *known.of(entity, relation))
        ranks.append(found[0])
        others.append(found[1])
    return ranking_metrics(torch.cat(ranks), torch.cat(others), split)
