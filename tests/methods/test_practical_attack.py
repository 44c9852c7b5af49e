"""Attacks on few nodes: the walk, the greedy choice, the features, the victim, and the command."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import eye_array
from torch import nn
from torch.nn import functional

from runner.compose import compose
from runner.contracts import NodeClassification
from runner.datasets import sources
from runner.datasets.citation import LinqsCora, Planetoid
from runner.datasets.sources import Status
from runner.errors import BadInput
from runner.hardware.memory import peak_bytes, reset_peak
from runner.methods.graph.practical_attack import features
from runner.methods.graph.practical_attack.centrality import betweenness, pagerank
from runner.methods.graph.practical_attack.features import Shifted
from runner.methods.graph.practical_attack.greedy import greedy, near
from runner.methods.graph.practical_attack.selection import STRATEGIES, Bar, Selection
from runner.methods.graph.practical_attack.walk import Walk
from runner.methods.models.gcn_dropout import DroppedGCN
from runner.methods.models.jknet import JKNet
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import SparseMatrix, compact
from runner.schema import fields
from runner.store.records import Records
from tests.conftest import Result
from tests.methods.conftest import AS_BUILT

Cli = Callable[..., Result]
STEPS = 4


def walk_of(graph: networkx.Graph, steps: int = STEPS) -> Walk:
    edges = np.array(graph.edges, np.int64).reshape(-1, 2).T
    return Walk(torch.from_numpy(np.concatenate([edges, edges[::-1]], axis=1)), graph.number_of_nodes(), steps)


def dense(walk: Walk) -> torch.Tensor:
    """M^L by dense products."""
    adjacency = torch.eye(walk.num_nodes, dtype=torch.float64)
    adjacency[walk.adjacency.row_of, walk.adjacency.indices] = 1
    return torch.linalg.matrix_power(adjacency / adjacency.sum(1, keepdim=True), walk.steps)


def selection(walk: Walk, count: int, threshold: float | None = 0.1, **changed) -> Selection:
    """Without a threshold every node is allowed."""
    values = {"top": 30, "hops": 1, "saturation": 0.01, "generator": torch.Generator().manual_seed(0)} | changed
    highest = int(walk.degree.max())
    bar = Bar(highest, highest) if threshold is None else Bar.of(walk.degree, threshold, count)
    return Selection(walk=walk, count=count, bar=bar, memo=lambda name, content, fn: fn(), content={}, **values)


@st.composite
def graphs(draw, least: int = 5, most: int = 30) -> networkx.Graph:
    nodes = draw(st.integers(least, most))
    return networkx.gnp_random_graph(nodes, draw(st.floats(0.05, 0.5)), seed=draw(st.integers(0, 10_000)))


@given(graphs(), st.integers(0, 5))
def test_walk_is_the_dense_power(graph: networkx.Graph, steps: int) -> None:
    walk = walk_of(graph, steps)
    power, nodes = dense(walk), torch.arange(walk.num_nodes)
    torch.testing.assert_close(power.sum(1), torch.ones(walk.num_nodes, dtype=torch.float64))
    torch.testing.assert_close(walk.column_sums(), power.sum(0), atol=1e-10, rtol=0)
    assert float(walk.column_sums().sum()) == pytest.approx(walk.num_nodes)
    eye = torch.eye(walk.num_nodes, dtype=torch.float64)
    torch.testing.assert_close(walk.columns(nodes) @ eye, power.T, atol=1e-12, rtol=0)
    torch.testing.assert_close(walk.rows(nodes) @ eye, power, atol=1e-12, rtol=0)


@given(graphs(), st.integers(1, 40))
def test_the_largest_of_each_row(graph: networkx.Graph, count: int) -> None:
    walk = walk_of(graph)
    largest, power = walk.largest(count), dense(walk).round(decimals=12)
    for row in range(walk.num_nodes):
        by_rank = sorted(range(walk.num_nodes), key=lambda i: (float(power[row, i]), i), reverse=True)
        kept = [i for i in by_rank[:count] if power[row, i] > 0]
        start, end = largest.indptr[row : row + 2].tolist()
        assert sorted(largest.indices[start:end].tolist()) == sorted(kept)


def test_column_sums_of_known_graphs() -> None:
    regular = walk_of(networkx.random_regular_graph(3, 20, seed=0)).column_sums()
    torch.testing.assert_close(regular, torch.ones(20, dtype=torch.float64))
    assert int(walk_of(networkx.star_graph(9)).column_sums().argmax()) == 0
    far = walk_of(networkx.karate_club_graph(), steps=2000)
    torch.testing.assert_close(far.column_sums(), 34 * far.degree.double() / far.degree.sum())


def covered(q: torch.Tensor, nodes: tuple[int, ...]) -> int:
    return int((q[:, list(nodes)] > 0).any(1).sum())


@given(graphs(most=12), st.integers(1, 5))
def test_greedy_coverage_is_near_the_optimum(graph: networkx.Graph, top: int) -> None:
    walk = walk_of(graph)
    chosen = selection(walk, 2, threshold=None, top=top, hops=0)
    nodes = tuple(chosen.nodes("gc_rwcs").tolist())
    q = torch.zeros(walk.num_nodes, walk.num_nodes)
    largest = walk.largest(top)
    q[largest.row_of, largest.indices] = 1
    best = max(covered(q, pair) for pair in itertools.combinations(range(walk.num_nodes), 2))
    assert covered(q, nodes) >= (1 - 1 / math.e) * best
    assert chosen.covered(torch.tensor(nodes)) == covered(q, nodes)
    sums = q.sum(0)
    assert nodes[0] == max(range(walk.num_nodes), key=lambda i: (float(sums[i]), i))
    assert selection(walk, 1, threshold=None, top=top).nodes("gc_rwcs").tolist() == [nodes[0]]


def plainly(allowed: torch.Tensor, a: torch.Tensor, saturated, count: int, walk: Walk, hops: int) -> list[int]:
    """The greedy loop over all candidates, each time."""
    left, reached, chosen = set(allowed.nonzero()[:, 0].tolist()), torch.zeros(len(a), dtype=a.dtype), []
    for _ in range(count):
        gain = {i: round(float((saturated(reached + a[:, i]) - saturated(reached)).sum()), 9) for i in left}
        best = max(gain, key=lambda i: (gain[i], i))
        chosen.append(best)
        reached = reached + a[:, best]
        left -= set(near(torch.tensor(best), walk.adjacency, hops).nonzero()[:, 0].tolist())
    return chosen


@pytest.mark.parametrize("hops", [0, 1, 2])
@pytest.mark.parametrize("strategy", ["gc_rwcs", "infmax_uniform", "infmax_normal"])
def test_lazy_greedy_is_the_plain_one(strategy: str, hops: int) -> None:
    walk = walk_of(networkx.barabasi_albert_graph(300, 1, seed=1))
    chosen = selection(walk, 12, hops=hops, saturation=0.05)
    a, f = {
        "gc_rwcs": (chosen.covers.transposed @ torch.eye(300, dtype=torch.float64), lambda s: s.clamp(max=1)),
        "infmax_uniform": (dense(walk), lambda s: s.clamp(max=0.05)),
        "infmax_normal": (dense(walk), lambda s: torch.erf(s / (0.05 * 2**0.5))),
    }[strategy]
    assert chosen.nodes(strategy).tolist() == plainly(chosen.allowed, a, f, 12, walk, hops)  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("threshold", [0.1, 0.3])
def test_every_strategy_keeps_to_the_bar(strategy: str, threshold: float) -> None:
    graph = networkx.barabasi_albert_graph(400, 2, seed=0)
    walk = walk_of(graph)
    chosen = selection(walk, 8, threshold)
    nodes = chosen.nodes(strategy)  # type: ignore[arg-type]
    assert len(nodes.unique()) == len(nodes) == 8
    assert int(walk.degree[nodes].max()) <= chosen.bar.first
    if strategy != "degree":
        assert int(walk.degree[nodes].max()) <= chosen.bar.degree
    if strategy in ("gc_rwcs", "infmax_uniform", "infmax_normal"):
        assert not any(graph.has_edge(*pair) for pair in itertools.combinations(nodes.tolist(), 2))


def test_the_bar_is_lowered_until_there_are_enough() -> None:
    degree = torch.tensor([9, 7, 7, 5, 4, 4, 4, 2, 2, 2])
    assert Bar.of(degree, 0.1, 2) == Bar(degree=7, first=7)
    assert Bar.of(degree, 0.1, 5) == Bar(degree=4, first=7)
    assert Bar.of(degree, 0.3, 1) == Bar(degree=5, first=5)
    with pytest.raises(BadInput, match="only 7 nodes"):
        Bar.of(degree, 0.3, 8)


def test_degree_takes_all_above_the_lowered_bar() -> None:
    walk = walk_of(networkx.barabasi_albert_graph(100, 2, seed=3))
    chosen = selection(walk, 20)
    nodes = set(chosen.nodes("degree").tolist())
    above = ((walk.degree > chosen.bar.degree) & (walk.degree <= chosen.bar.first)).nonzero()[:, 0].tolist()
    assert above, "the case that is meant"
    assert set(above) < nodes
    assert {int(walk.degree[node]) for node in nodes - set(above)} == {chosen.bar.degree}


def test_candidates_that_run_out_are_told() -> None:
    walk = walk_of(networkx.complete_graph(6))
    with pytest.raises(BadInput, match="only 1 of 2 nodes"):
        selection(walk, 2).nodes("gc_rwcs")


def test_one_entry_a_row_covers_as_many_rows_as_nodes_are_chosen() -> None:
    """With the walk's start the largest of its row, Q is the identity."""
    walk = walk_of(networkx.path_graph(40), steps=1)
    walk.matrix = walk.matrix + 2 * eye_array(40, format="csr")
    chosen = selection(walk, 7, threshold=None, top=1)
    assert chosen.covered(chosen.nodes("gc_rwcs")) == 7


def test_centralities_are_networkx_ones() -> None:
    graph = networkx.barabasi_albert_graph(80, 2, seed=5)
    walk = walk_of(graph)
    looped = graph.copy()
    looped.add_edges_from((node, node) for node in graph)
    ranks = networkx.pagerank(looped, tol=1e-12)
    torch.testing.assert_close(
        pagerank(walk.adjacency), torch.tensor([ranks[i] for i in range(80)]).double(), atol=1e-7, rtol=0
    )
    between = networkx.betweenness_centrality(looped)
    torch.testing.assert_close(betweenness(walk.adjacency), torch.tensor([between[i] for i in range(80)]).double())


def test_a_linear_network_moves_by_the_column_sums(double: None) -> None:
    """sum_j d logit_j / d x_i along one direction is proportional to [M^4]'s column sums, without ReLUs."""
    walk = walk_of(networkx.barabasi_albert_graph(50, 2, seed=2))
    x = torch.rand(50, 6, requires_grad=True)
    out = x @ torch.rand(6, 1)
    step = walk.adjacency.with_values(walk.degree.double().reciprocal()[walk.adjacency.row_of])
    for _ in range(STEPS):
        out = step @ out
    (gradient,) = torch.autograd.grad(out.sum(), x)
    along = gradient @ torch.rand(6)
    ratio = along / walk.column_sums()
    torch.testing.assert_close(ratio, ratio[0].expand(50))


def test_shifted_features_change_what_they_should(any_task: NodeClassification) -> None:
    x, task = compact(any_task.x), any_task
    direction = features.signs_of_largest(torch.randn(task.num_features), 5)
    rows = torch.zeros(task.num_nodes)
    rows[[3, 8]] = torch.tensor([1.0, -1.0])
    moved = Shifted(x, rows, 0.5 * direction) @ torch.eye(task.num_features)
    changed = moved - task.x
    assert [int((changed[i] != 0).sum()) for i in (3, 8)] == [5, 5]
    torch.testing.assert_close(changed[[3, 8]], torch.stack([0.5 * direction, -0.5 * direction]))
    untouched = torch.ones(task.num_nodes, dtype=torch.bool)
    untouched[[3, 8]] = False
    torch.testing.assert_close(moved[untouched], task.x[untouched], rtol=0, atol=0)


@pytest.mark.parametrize(
    "backbone",
    [
        DroppedGCN(hidden_channels=8, num_layers=2, dropout=0.5, **AS_BUILT),
        JKNet(hidden_channels=8, num_layers=4, jump="concat", dropout=0.5),
        JKNet(hidden_channels=8, num_layers=4, jump="max", dropout=0.5),
    ],
    ids=["gcn", "concat", "max"],
)
def test_the_direction_is_the_gradient_of_the_training_loss(backbone, any_task, double: None) -> None:
    task = any_task.to(torch.device("cpu"), torch.float64)
    graph = Graph(task.edge_index, task.num_nodes, torch.float64)
    victim = backbone.network(task.num_features, task.num_classes)
    summed = features.loss_gradient(victim, compact(task.x), graph, task)
    x = task.x.clone().requires_grad_()
    loss = functional.cross_entropy(victim(x, graph)[task.train], task.y[task.train])
    (gradient,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(summed, gradient.sum(0))
    direction = features.signs_of_largest(summed, 4)
    strongest = summed.abs().topk(4).indices
    assert torch.equal(direction[strongest], summed[strongest].sign())
    assert int((direction != 0).sum()) == 4


@pytest.mark.parametrize("jump", ["concat", "max"])
def test_jknet_is_its_formula(jump, any_task) -> None:
    from torch_geometric.nn import GCNConv, JumpingKnowledge

    task = any_task
    network = JKNet(hidden_channels=8, num_layers=4, jump=jump, dropout=0.5).network(24, 4).eval()
    convolutions = []
    for block in network.blocks:
        convolution = GCNConv(*block.weight.shape)
        convolution.lin.weight.data = block.weight.data.T
        nn.init.uniform_(block.bias)
        convolution.bias.data = block.bias.data
        convolutions.append(convolution)
    h, outputs = task.x, []
    for convolution in convolutions[:-1]:
        h = convolution(h, task.edge_index).relu()
        outputs.append(h)
    joined = JumpingKnowledge("cat" if jump == "concat" else "max")(outputs)
    graph = Graph(task.edge_index, task.num_nodes, task.x.dtype)
    torch.testing.assert_close(
        network(compact(task.x), graph), convolutions[-1](joined, task.edge_index), atol=1e-5, rtol=1e-5
    )
    one, other = (network.train()(compact(task.x), graph) for _ in range(2))
    assert not torch.equal(one, other), "dropout"


def test_dropped_gcn_drops_while_training_only(any_task) -> None:
    graph = Graph(any_task.edge_index, any_task.num_nodes, any_task.x.dtype)
    network = DroppedGCN(hidden_channels=8, num_layers=2, dropout=0.5, **AS_BUILT).network(24, 4)
    one, other = (network(compact(any_task.x), graph) for _ in range(2))
    assert not torch.equal(one, other)
    first, last = network.eval().blocks
    torch.testing.assert_close(network(any_task.x, graph), last(first(any_task.x, graph).relu(), graph))


def test_the_yaml_names_every_strategy() -> None:
    declared = get_args(fields("runner.methods.graph.practical_attack.method.PracticalAttack")["strategies"])[0]
    assert get_args(declared) == STRATEGIES
    assert set(compose(["method=practical_attack", "dataset=cora"]).config["method"]["strategies"]) == set(STRATEGIES)


@pytest.fixture
def smooth(tmp_path: Path) -> list[str]:
    """A drawn graph, and a run on it that takes a second."""
    return [
        "method=practical_attack",
        "dataset=barabasi_albert",
        "dataset.num_nodes=300",
        "method.budget=0.03",
        "method.perturbation=informative",
        "method.curve=[0]",
        "progress=false",
    ]


def metrics_of(tmp_path: Path) -> dict[str, float]:
    (record,) = Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").all()
    return record.metrics


def test_no_strength_no_harm_and_some_strength_some(cli: Cli, smooth: list[str], tmp_path: Path) -> None:
    every = f"method.strategies=[{','.join(STRATEGIES)}]"
    result = cli(*smooth, "method.strength=10", every)
    assert result.status == 0, result.err
    metrics = metrics_of(tmp_path)
    assert metrics["attacked_nodes"] == 9
    for strategy in STRATEGIES:
        assert metrics[f"test_acc/{strategy}/0"] == metrics["test_acc"]
        assert metrics[f"test_loss/{strategy}/0"] == pytest.approx(metrics["test_loss"])
        assert metrics[f"test_loss/{strategy}"] > metrics["test_loss"]
        assert metrics[f"coverage/{strategy}"] <= metrics["coverage/gc_rwcs"]
        assert metrics[f"influence/{strategy}"] <= metrics["influence/rwcs"] + 1e-9 or strategy == "degree"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("method.strategies=[]", "method.strategies"),
        ("method.strategies=[rwcs,rwcs]", "method.strategies"),
        ("method.strategies=[gcrwcs]", "expected one of"),
        ("method.threshold=1", "method.threshold=1 leaves no node"),
        ("method.budget=0.99", "smaller method.budget"),
        ("dataset.num_features=3", "dataset.num_features must be at least 4"),
    ],
)
def test_wrong_values_are_told_in_a_line(line: str, message: str, cli: Cli, smooth: list[str]) -> None:
    result = cli(*smooth, line, "limit=1")
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1


def test_surrogates_are_the_same_for_every_replicate(cli: Cli, smooth: list[str], tmp_path: Path) -> None:
    line = [*smooth[:-3], "method.perturbation=surrogate", "method.surrogates=2", "method.epochs=5", "method.curve=[]"]
    line += ["dataset.draw=0", "method.strategies=[rwcs]", "method.features=0.3", "progress=false"]
    directions = []
    for seed in (0, 1):
        result = cli(*line, f"seed={seed}")
        assert result.status == 0, result.err
    from runner.store.writer import artifact

    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    for record in Records(uri, "runner").all():
        folder = tmp_path / record.run_id
        folder.mkdir()
        directions.append(np.load(artifact(uri, record.run_id, "attack.npz", folder))["direction"])
    assert np.array_equal(*directions)
    assert (directions[0] != 0).sum() == 3


@pytest.mark.parametrize("model", ["gcn_dropout", "jknet model.jump=max", "jknet model.jump=concat"])
def test_the_full_scale_starts(model: str, cli: Cli, smooth: list[str]) -> None:
    line = ["+experiment=gnn-practical-attack_full", "method=practical_attack", *smooth[1:3], "limit=1"]
    result = cli(*line, *f"model={model}".split(), "method.strategies=[rwcs,gc_rwcs]", "progress=false")
    assert result.status == 0, result.err


def loaded(dataset: LinqsCora | Planetoid) -> NodeClassification:
    if any(sources.status(file) in (Status.URL, Status.MISSING) for file in dataset.files()):
        pytest.skip("Cora is neither in the cache nor in the mirror")
    task = dataset.load("NodeClassification")
    assert isinstance(task, NodeClassification)
    return task


DRAWN = {"fold": 0, "normalize_features": True, "link_val_share": 0.16, "link_test_share": 0.2}


@pytest.mark.parametrize(
    ("dataset", "tolerance"),
    [
        (Planetoid(name="Cora", split="uniform", **DRAWN), 0.03),
        # The same graph with its nodes in another order: ties fall otherwise.
        (LinqsCora(split="uniform", **DRAWN), 0.04),
    ],
    ids=["planetoid", "linqs"],
)
@pytest.mark.parametrize(
    ("threshold", "bar", "random", "rwcs", "gc_rwcs", "sums"),
    [(0.1, 8, 552, 620, 1587, (46.1, 34.4)), (0.3, 5, 461, 298, 1242, (36.4, 24.0))],
)
def test_selection_on_cora(
    dataset: LinqsCora | Planetoid,
    tolerance: float,
    threshold: float,
    bar: int,
    random: int,
    rwcs: int,
    gc_rwcs: int,
    sums: tuple[float, float],
) -> None:
    """What was measured with the released procedure, before any victim is trained."""
    task = loaded(dataset)
    walk = Walk(task.edge_index, task.num_nodes, STEPS)
    chosen = selection(walk, 27, threshold)
    assert chosen.bar.degree == bar
    first, corrected = chosen.nodes("rwcs"), chosen.nodes("gc_rwcs")
    assert chosen.covered(first) == pytest.approx(rwcs, rel=0.03)
    assert chosen.covered(corrected) == pytest.approx(gc_rwcs, rel=0.03)
    drawn = [chosen.covered(chosen.nodes("random")) for _ in range(20)]
    assert np.mean(drawn) == pytest.approx(random, rel=0.1)
    assert float(chosen.column_sums[first].sum()) == pytest.approx(sums[0], rel=0.03)
    assert float(chosen.column_sums[corrected].sum()) == pytest.approx(sums[1], rel=tolerance)


def test_greedy_does_not_ask_for_what_it_knows() -> None:
    """Gains are computed anew for few candidates: far fewer columns than the plain loop's."""
    walk = walk_of(networkx.barabasi_albert_graph(2000, 2, seed=0))
    asked = 0

    def columns(nodes: torch.Tensor) -> SparseMatrix:
        nonlocal asked
        asked += len(nodes)
        return walk.columns(nodes)

    everyone = torch.ones(2000, dtype=torch.bool)
    greedy(everyone, columns, lambda s: s.clamp(max=0.05), count=20, adjacency=walk.adjacency, hops=0)
    assert asked < 0.25 * 20 * 2000


def test_the_walk_is_never_whole() -> None:
    """M^4 of 8000 nodes would be 512 MB; whoever asks for all of its rows holds a block of them at a time."""
    walk = walk_of(networkx.barabasi_albert_graph(8000, 1, seed=0))
    if not reset_peak():
        pytest.skip("this system doesn't tell a process's peak memory")
    before = peak_bytes() or 0
    assert len(walk.largest(10).indices) > 8000
    assert len(selection(walk, 20).nodes("infmax_uniform")) == 20
    assert (peak_bytes() or 0) - before < 200e6
