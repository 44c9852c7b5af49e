"""NBFNet: the card's exact checks, and what a user does with it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, permutations, product
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runner.contracts import KnowledgeGraphCompletion, LinkPrediction
from runner.methods.graph.nbfnet.completion import EdgeDropout, Scorer, questions, with_edges_dropped
from runner.methods.graph.nbfnet.link import NBFNetLink, PairsWithoutEdge, unlabelled, without_pairs
from runner.methods.graph.nbfnet.network import BellmanFordLayer, NBFNet, degree_scale, weighted_loss
from runner.methods.graph.nbfnet.path_formulas import SEMIRINGS, bellman_ford
from runner.methods.graph.nbfnet.paths import best_paths, edge_gradients
from runner.methods.ops.edge_messages import gathered_and_scattered
from runner.methods.ops.ranking import filtered_ranks, hits_of_sample, ranked
from runner.methods.ops.relational import Answers, RelationalGraph, inverted, with_inverses
from tests.conftest import Result

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def scattered(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Gather and scatter: that the compiled passes give the same is tested in test_edge_messages."""
    monkeypatch.setattr("runner.methods.ops.edge_messages.find_spec", lambda name: None)


def random_triples(seed: int, nodes: int, count: int, relations: int = 3) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    columns = [torch.randint(high, (count,), generator=draw) for high in (nodes, relations, nodes)]
    return torch.stack(columns, dim=1).unique(dim=0)


def network(relations: int, aggregate: Any = "pna", layers: int = 3, *, dependent: bool = False) -> NBFNet:
    torch.manual_seed(0)
    return NBFNet(8, layers, relations, "distmult", aggregate, dependent=dependent)


# Operators without anything learned, against brute force.


def weighted_graph(seed: int) -> tuple[Tensor, Tensor, int]:
    draw = torch.Generator().manual_seed(seed)
    nodes = int(torch.randint(2, 8, (), generator=draw))
    edges = (torch.rand(nodes, nodes, generator=draw) < 0.4).fill_diagonal_(False).nonzero().T
    return edges, torch.rand(edges.shape[1], generator=draw, dtype=torch.float64) * 0.9 + 0.05, nodes


def simple_paths(edges: Tensor, weight: Tensor, nodes: int, u: int, v: int) -> list[list[float]]:
    """The edges' weights of every simple path from u to v != u."""
    of = {(a, b): w for (a, b), w in zip(edges.T.tolist(), weight.tolist(), strict=True)}
    inner = [node for node in range(nodes) if node not in (u, v)]
    routes = [(u, *middle, v) for length in range(len(inner) + 1) for middle in permutations(inner, length)]
    steps = [list(pairwise(route)) for route in routes]
    return [[of[step] for step in path] for path in steps if all(step in of for step in path)]


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_the_best_paths_of_each_semiring(seed: int) -> None:
    edges, weight, nodes = weighted_graph(seed)
    everyone = torch.arange(nodes)
    best = {"shortest": (min, sum), "widest": (max, min), "most_reliable": (max, np.prod)}
    for name, (over, along) in best.items():
        ring = SEMIRINGS[name]
        found = bellman_ford(edges, weight, everyone, nodes, ring, nodes - 1)
        for u, v in product(range(nodes), repeat=2):
            values = [along(path) for path in simple_paths(edges, weight, nodes, u, v)] if u != v else [ring.unit]
            assert found[v, u].item() == pytest.approx(over(values) if values else ring.zero)
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(nodes))
    graph.add_weighted_edges_from((a, b, w) for (a, b), w in zip(edges.T.tolist(), weight.tolist(), strict=True))
    lengths = dict(networkx.all_pairs_dijkstra_path_length(graph))
    distance = bellman_ford(edges, weight, everyone, nodes, SEMIRINGS["shortest"], nodes - 1)
    for u, v in product(range(nodes), repeat=2):
        assert distance[v, u].item() == pytest.approx(lengths[u].get(v, float("inf")))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(0, 6))
def test_katz_is_the_sum_of_powers(seed: int, steps: int) -> None:
    edges, _, nodes = weighted_graph(seed)
    adjacency = torch.zeros(nodes, nodes, dtype=torch.float64)
    adjacency[edges[0], edges[1]] = 1
    expected = sum(torch.linalg.matrix_power(0.3 * adjacency, k) for k in range(steps + 1))
    weight = torch.full((edges.shape[1],), 0.3, dtype=torch.float64)
    found = bellman_ford(edges, weight, torch.arange(nodes), nodes, SEMIRINGS["sum_product"], steps)
    torch.testing.assert_close(found.T, expected)


def test_personalised_pagerank_is_networkxs() -> None:
    graph = networkx.karate_club_graph()
    edges = torch.tensor(list(graph.to_directed().edges)).T
    degree = torch.bincount(edges[0]).double()
    state = bellman_ford(edges, 0.85 / degree[edges[0]], torch.arange(34), 34, SEMIRINGS["sum_product"], 200)
    for node in (0, 11, 33):
        expected = networkx.pagerank(graph, 0.85, personalization={node: 1}, tol=1e-12, max_iter=1000, weight=None)
        torch.testing.assert_close(0.15 * state[:, node], torch.tensor([expected[v] for v in range(34)]).double())


# The network.


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_linear_messages_sum_all_walks(seed: int, steps: int) -> None:
    """h^t = sum over walks of at most t edges of the products of their relations' vectors."""
    triples = random_triples(seed, 5, 9)
    graph = RelationalGraph(triples, 5, 3)
    draw = torch.Generator().manual_seed(seed)
    w, q = (torch.randn(rows, 2, generator=draw, dtype=torch.float64) for rows in (3, 1))
    source = torch.tensor([0])
    h = torch.zeros(5, 1, 2, dtype=torch.float64).index_put((source, torch.tensor([0])), q)
    for _ in range(steps):
        h = gathered_and_scattered(graph, h, w.unsqueeze(1), source, q, "distmult", ("sum",))
    expected = torch.zeros(5, 2, dtype=torch.float64)
    walks = [(0, q[0])]
    for _ in range(steps + 1):
        for node, value in walks:
            expected[node] += value
        walks = [(int(t), value * w[r]) for node, value in walks for s, r, t in triples.tolist() if s == node]
    torch.testing.assert_close(h[:, 0], expected, rtol=1e-9, atol=1e-9)


def test_the_boundary_is_added_in_every_layer() -> None:
    """Without any edge the source alone differs, and each layer's aggregate there is the query itself."""
    graph = RelationalGraph(torch.zeros(0, 3, dtype=torch.int64), 4, 1)
    layer = BellmanFordLayer(8, 1, "distmult", "sum", dependent=False)
    seen = []
    layer.transform = lambda h, aggregate, scale: seen.append(aggregate) or h  # type: ignore[method-assign, func-returns-value]
    h, query = torch.randn(4, 1, 8), torch.randn(1, 8)
    for _ in range(3):
        h = layer(h, torch.tensor([2]), query, graph, torch.ones(4))
    for aggregate in seen:
        assert torch.equal(aggregate[2], query)
        assert not aggregate[[0, 1, 3]].any()


@pytest.mark.parametrize("aggregate", ["sum", "mean", "max", "min"])
def test_only_nodes_downstream_change_and_the_others_are_alike(aggregate: str) -> None:
    """0 -> 1 -> 2 and apart from it 3 -> 4 and 5 -> 4, without inverse edges."""
    graph = RelationalGraph(torch.tensor([[0, 0, 1], [1, 0, 2], [3, 0, 4], [5, 0, 4]]), 6, 1)
    model = network(1, aggregate, layers=2)
    zero = torch.zeros(1, dtype=torch.int64)
    h = model(torch.tensor([1]), zero, graph)[0][:, 0]
    torch.testing.assert_close(h[0], h[3], rtol=0, atol=0)
    torch.testing.assert_close(h[0], h[5], rtol=0, atol=0)
    assert not torch.allclose(h[2], h[0])
    if aggregate in ("sum", "mean"):  # nothing reaches 0 or 3, and from either nothing reaches the other
        other = model(torch.tensor([0]), zero, graph)[0][:, 0]
        assert torch.equal(other[3], h[3])
        assert not torch.allclose(other[1], other[4])


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("aggregate", ["sum", "pna"])
def test_new_numbers_of_nodes_permute_the_scores(aggregate: str, dependent: bool) -> None:
    """So do those of another graph of the same form: nothing belongs to an entity."""
    triples = with_inverses(random_triples(1, 9, 16), 3)
    model = network(6, aggregate, dependent=dependent)
    new = torch.randperm(9)
    moved = torch.stack([new[triples[:, 0]], triples[:, 1], new[triples[:, 2]]], dim=1)[torch.randperm(len(triples))]
    source, relation = torch.tensor([0, 4, 8]), torch.tensor([1, 5, 2])
    scores = Scorer(model, RelationalGraph(triples, 9, 6))(source, relation)
    again = Scorer(model, RelationalGraph(moved, 9, 6))(new[source], relation)
    torch.testing.assert_close(again[:, new], scores)


def test_scaling_after_the_product_is_the_map_of_all_twelve_widths(double: None) -> None:
    layer = BellmanFordLayer(8, 2, "distmult", "pna", dependent=False)
    assert layer.linear.in_features == 13 * 8
    graph = RelationalGraph(random_triples(2, 7, 20, 2), 7, 2)
    scale = degree_scale(graph, torch.float64)
    h, aggregate = torch.randn(7, 2, 8), torch.randn(7, 2, 32)
    scalers = torch.stack([torch.ones(7), scale, 1 / scale.clamp(min=0.01)], dim=1)
    twelve = (aggregate.unsqueeze(3) * scalers.view(7, 1, 1, 3)).flatten(2)
    assert twelve.shape[2] == 12 * 8
    torch.testing.assert_close(layer.transform(h, aggregate, scale), layer.linear(torch.cat([h, twelve], dim=2)))


def test_the_scale_is_the_logarithm_of_the_degree_over_its_mean() -> None:
    graph = RelationalGraph(torch.tensor([[0, 0, 1], [2, 0, 1], [1, 0, 2]]), 3, 1)
    logs = torch.tensor([1.0, 3.0, 2.0]).log()
    torch.testing.assert_close(degree_scale(graph, torch.float32), logs / logs.mean())


def test_the_loss_is_the_weighted_mean() -> None:
    logits = torch.randn(4, 6)
    losses = torch.nn.functional.softplus(torch.cat([-logits[:, :1], logits[:, 1:]], dim=1))
    for temperature in (0.0, 0.5):
        shares = (logits[:, 1:] / temperature).softmax(1) if temperature else torch.full((4, 5), 0.2)
        weights = torch.cat([torch.ones(4, 1), shares], dim=1)
        expected = ((weights * losses).sum(1) / weights.sum(1)).mean()
        torch.testing.assert_close(weighted_loss(logits, temperature), expected)


# Edge dropout and negatives.


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(["asked", "one_hop"]))
def test_nothing_that_gives_the_answer_away_is_left(seed: int, which: EdgeDropout) -> None:
    triples = random_triples(seed, 7, 30)
    graph = RelationalGraph(with_inverses(triples, 3), 7, 6)
    before = graph.triples.clone()
    asked = questions(triples[:5], 3)
    candidates = torch.cat([asked[:, 2:], torch.randint(7, (len(asked), 4))], dim=1)
    left = with_edges_dropped(graph, asked, candidates, 3, which)
    assert torch.equal(graph.triples, before)
    kept = {tuple(edge) for edge in left.triples.tolist()}
    for source, relation, target in asked.tolist():
        assert (source, relation, target) not in kept
        assert (target, (relation + 3) % 6, source) not in kept
    if which == "one_hop":
        pairs = {(s, t) for s, _, t in kept} | {(t, s) for s, _, t in kept}
        assert not pairs & {(int(row[0]), int(c)) for row, cs in zip(asked, candidates, strict=True) for c in cs}
    gone = {tuple(edge) for edge in before.tolist()} - kept
    own = {tuple(edge) for edge in with_inverses(asked, 3).tolist()}
    assert gone == own if which == "asked" else gone >= own
    assert with_edges_dropped(graph, asked, candidates, 3, "none") is graph


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_negatives_are_never_true(seed: int) -> None:
    triples = random_triples(seed, 6, 20)
    asked = questions(triples, 3)
    half = (len(triples) + 1) // 2
    assert torch.equal(asked[:half], triples[:half])
    assert torch.equal(inverted(asked[half:], 3), triples[half:])
    known = Answers(with_inverses(triples, 3), 6, 6)
    true = {tuple(triple) for triple in with_inverses(triples, 3).tolist()}
    free = [row for row in asked.tolist() if sum((row[0], row[1], e) in true for e in range(6)) < 6]
    if not free:
        return
    asked = torch.tensor(free)
    others = known.draw_others(asked[:, 0], asked[:, 1], 40, torch.Generator().manual_seed(seed))
    assert others.min() >= 0
    for (source, relation, _), row in zip(free, others.tolist(), strict=True):
        assert not any((source, relation, entity) in true for entity in row)


def test_negatives_are_uniform() -> None:
    known = Answers(torch.tensor([[0, 0, 0], [0, 0, 3], [0, 0, 4], [1, 0, 2]]), 7, 1)
    drawn = known.draw_others(
        torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 8000, torch.Generator()
    )
    share = torch.bincount(drawn[0], minlength=7) / 8000
    torch.testing.assert_close(share, torch.tensor([0, 0.25, 0.25, 0, 0, 0.25, 0.25]), atol=0.03, rtol=0)


@given(st.integers(0, 10**6))
def test_to_ask_for_the_head_is_an_involution(seed: int) -> None:
    triples = with_inverses(random_triples(seed, 5, 9), 3)
    assert torch.equal(inverted(inverted(triples, 3), 3), triples)


# Ranking.


def test_ranks_are_filtered_and_ties_count_against() -> None:
    scores = torch.tensor([[3.0, 2.0, 2.0, 5.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    ranks, others = filtered_ranks(scores, torch.tensor([1, 4]), torch.tensor([0, 0, 1]), torch.tensor([3, 1, 0]))
    assert ranks.tolist() == [3, 4]  # 3.0 and the tie before it; all of the three others
    assert others.tolist() == [3, 3]


def test_hits_of_a_sample_are_what_sampling_gives() -> None:
    draw = np.random.default_rng(0)
    for rank, others in ((1, 921), (40, 921), (200, 921), (600, 921)):
        before = (draw.random((200_000, 49)) < (rank - 1) / others).sum(1)
        exact = hits_of_sample(torch.tensor([rank]), torch.tensor([others])).item()
        assert exact == pytest.approx((before < 10).mean(), abs=1e-2)
    assert hits_of_sample(torch.tensor([1]), torch.tensor([921])).item() == 1.0


def small_task(*, inductive: bool) -> KnowledgeGraphCompletion:
    triples = random_triples(4, 8, 40)
    parts = triples[torch.randperm(len(triples), generator=torch.Generator().manual_seed(0))].tensor_split([20, 25])
    other = random_triples(5, 6, 12)
    names = tuple("abcdefgh")
    return KnowledgeGraphCompletion(
        name="random",
        fingerprint="random",
        entities=names,
        relations=("r", "s", "t"),
        train=parts[0],
        val=parts[1],
        test=other[:4] if inductive else parts[2],
        inductive=inductive,
        test_entities=names[:6] if inductive else names,
        test_facts=other[4:] if inductive else parts[0],
    )


@pytest.mark.parametrize("inductive", [True, False])
def test_ranking_asks_both_ways_and_filters_what_is_known(inductive: bool) -> None:
    """Against one question after the other, with scores that depend on the question alone."""
    task = small_task(inductive=inductive)
    entities = len(task.test_entities)
    table = torch.randn(entities, 6, entities, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    metrics = ranked(task, "test", lambda entity, relation: table[entity, relation], 3)
    known = [task.test_facts] if inductive else [task.train, task.val, task.test]
    true = {tuple(row) for row in with_inverses(torch.cat(known), 3).tolist()}
    ranks = []
    for source, relation, answer in with_inverses(task.test, 3).tolist():
        scores = table[source, relation]
        others = [e for e in range(entities) if e != answer and (source, relation, e) not in true]
        ranks.append(1 + sum(scores[e] >= scores[answer] for e in others))
    assert metrics["test_mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert metrics["test_mr"] == pytest.approx(np.mean(ranks))
    assert metrics["test_hits3"] == pytest.approx(np.mean([rank <= 3 for rank in ranks]))


# Paths.


def test_gradients_of_the_edges_are_differences(double: None) -> None:
    graph = RelationalGraph(with_inverses(random_triples(3, 6, 9), 3), 6, 6)
    model = network(6, "sum").double()
    triple = torch.tensor([0, 1, 4])
    gradients = edge_gradients(model, graph, triple)
    assert any(gradient.abs().max() > 1e-6 for gradient in gradients)

    def score(layer: int, edge: int, change: float) -> float:
        weights = [torch.ones(len(graph.triples)) for _ in gradients]
        weights[layer][edge] += change
        h, query = model(triple[:1], triple[1:2], graph, weights)
        return model.score(model.features(h, query, triple[2:].unsqueeze(0))).item()

    for layer, gradient in enumerate(gradients):
        for edge in range(0, len(gradient), 5):
            difference = (score(layer, edge, 1e-6) - score(layer, edge, -1e-6)) / 2e-6
            assert gradient[edge].item() == pytest.approx(difference, abs=1e-5)


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_the_beam_finds_the_best_walks(seed: int) -> None:
    """All walks of up to three edges, none of which goes on through the target; the beam is wide enough."""
    edges = random_triples(seed, 5, 10).numpy()
    gradients = list(np.random.default_rng(seed).normal(size=(3, len(edges))))
    walks: list[list[int]] = [[]]
    found = []
    for length in (1, 2, 3):
        ends = [(walk, edges[walk[-1], 2] if walk else 0) for walk in walks]
        walks = [[*walk, e] for walk, end in ends if end != 3 for e in range(len(edges)) if edges[e, 0] == end]
        for walk in walks:
            if edges[walk[-1], 2] == 3:
                found.append(sum(gradients[at][e] for at, e in enumerate(walk)) / length)
    paths = best_paths(edges, 5, gradients, 0, 3, 4, beam=2000)
    assert [path.weight for path in paths] == pytest.approx(sorted(found, reverse=True)[:4])
    for path in paths:
        assert path.edges[0][0] == 0
        assert path.edges[-1][2] == 3
        assert all(one[2] == two[0] for one, two in pairwise(path.edges))


# Graphs without relations.


def link_method(**changed: Any) -> NBFNetLink:
    values = {"num_layers": 2, "width": 8, "message": "distmult", "aggregate": "sum", "epochs": 1, "batch_size": 8}
    values |= {"lr": 0.01, "pairs_per_epoch": None, "validate_every": 1, "keep": "last"}
    return NBFNetLink(**{**values, **changed})


@pytest.mark.parametrize("aggregate", ["sum", "pna"])
def test_a_pairs_score_has_no_direction(aggregate: str, link_task: LinkPrediction, make_run: Any) -> None:
    method = link_method(aggregate=aggregate)
    method.build(link_task, make_run(None))
    graph = unlabelled(link_task.train_edge_index, link_task.num_nodes).with_self_loops(0)
    pairs = link_task.pairs("val")
    torch.testing.assert_close(method.scores(pairs, graph), method.scores(pairs.flip(0), graph))
    one_by_one = torch.cat([method.scores(pairs[:, [place]], graph) for place in range(6)])
    torch.testing.assert_close(one_by_one, method.scores(pairs, graph)[:6])
    torch.testing.assert_close(method._scores_of(link_task, "val"), method.scores(pairs, graph))


def test_no_pair_of_a_batch_is_an_edge(link_task: LinkPrediction) -> None:
    graph = unlabelled(link_task.train_edge_index, link_task.num_nodes)
    pairs = link_task.train_pos[:, :9]
    left = {(s, t) for s, _, t in without_pairs(graph, pairs).triples.tolist()}
    both = {tuple(pair) for pair in torch.cat([pairs, pairs.flip(0)], dim=1).T.tolist()}
    assert left == {tuple(pair) for pair in link_task.train_edge_index.T.tolist()} - both


def test_pairs_without_an_edge_are_uniform() -> None:
    edges = torch.tensor([[0, 1, 0, 2, 0, 3], [1, 0, 2, 0, 3, 0]])
    drawn = PairsWithoutEdge(edges, 5).draw(20_000, torch.Generator().manual_seed(0))
    share = torch.zeros(5, 5).index_put_(tuple(drawn), torch.tensor(1 / 20_000), accumulate=True)
    allowed = torch.ones(5, 5).fill_diagonal_(0)
    allowed[edges[0], edges[1]] = 0
    torch.testing.assert_close(share, allowed / allowed.sum(), atol=0.012, rtol=0)


# Through the command line.


def composed_graph(folder: Path, seed: int, part: str) -> None:
    """100 entities; r0 noise, r1 and r2 150 random pairs each, r3 = r1 o r2, of which a fifth or less is held out.

    No two of those held out have a head or a tail in common: facts filter all other answers.
    """
    draw = np.random.default_rng(seed)
    pairs = [{tuple(pair) for pair in draw.integers(0, 100, (150, 2)).tolist()} for _ in range(3)]
    third = sorted({(a, d) for a, b in pairs[1] for c, d in pairs[2] if b == c})
    draw.shuffle(third)
    hidden: list[tuple[int, int]] = []
    for a, d in third:
        if len(hidden) < len(third) // 5 and not any(a == b or c == d for b, c in hidden):
            hidden.append((a, d))
    shown = [pair for pair in third if pair not in hidden]

    def lines(relation: str, which: Any) -> list[str]:
        return [f"{part}{a}\t{relation}\t{part}{b}" for a, b in which]

    facts = [line for number in range(3) for line in lines(f"r{number}", sorted(pairs[number]))]
    folder.mkdir()
    (folder / "train.txt").write_text("\n".join([*facts, *lines("r3", shown)]))
    for name in ("valid", "test"):
        (folder / f"{name}.txt").write_text("\n".join(lines("r3", hidden)))


@pytest.fixture
def composition(tmp_path: Path) -> list[str]:
    composed_graph(tmp_path / "one", 0, "x")
    composed_graph(tmp_path / "two", 1, "y")
    return ["dataset=triples", f"dataset.path={tmp_path}/one", f"dataset.test_path={tmp_path}/two", "progress=false"]


def test_it_learns_a_composition_and_applies_it_to_other_entities(
    composition: list[str], cli: Cli, tmp_path: Path
) -> None:
    few = ["method.num_layers=3", "method.negatives=16", "method.temperature=0.0", "method.triples_per_epoch=null"]
    result = cli("method=nbfnet", *composition, *few, "method.epochs=4", "method.explained=1")
    assert result.status == 0, result.err
    assert float(result.out.partition("test_hits1 ")[2].split()[0]) >= 0.9
    (saved,) = (tmp_path / "runs").rglob("paths.txt")
    assert saved.read_text() in result.out
    assert "-r3->" in saved.read_text().splitlines()[0]
    best = saved.read_text().splitlines()[1]
    assert "-r1-> y" in best, "the best path is the rule itself"
    assert "-r2-> y" in best


def test_embeddings_refuse_new_entities(composition: list[str], cli: Cli) -> None:
    result = cli("method=kg_embedding", *composition)
    assert (result.status, "Traceback" in result.err) == (2, False)
    assert "entities" in result.err


def test_a_wrong_triple_file_is_told(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a\tb\n")
    for path in (tmp_path, tmp_path / "nowhere"):
        result = cli("method=nbfnet", "dataset=triples", f"dataset.path={path}")
        assert (result.status, "Traceback" in result.err) == (2, False)
        assert "tab" in result.err.lower()


def test_rotations_take_an_even_width(composition: list[str], cli: Cli) -> None:
    result = cli("method=nbfnet", *composition, "method.message=rotate", "method.width=7")
    assert result.status == 2
    assert "method.width" in result.err


@pytest.mark.parametrize(
    "experiment", ["nbfnet_full_fb15k237", "nbfnet_full_wn18rr", "nbfnet_full_grail_fb237", "nbfnet_full_grail_wn18rr"]
)
def test_a_run_of_the_papers_setting_starts(experiment: str, composition: list[str], cli: Cli) -> None:
    few = ["method.triples_per_epoch=16", "method.val_triples=4"]
    result = cli(f"+experiment={experiment}", *composition, *few, "limit=1")
    assert result.status == 0, result.err
