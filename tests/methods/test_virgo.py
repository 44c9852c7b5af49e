"""Virgo: the closed-form variances, the weights drawn by them, and every graph method with any initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch_geometric.nn import GINConv

from runner import registry
from runner.compose import compose
from runner.contracts import GraphClassification
from runner.datasets import sources
from runner.errors import BadInput
from runner.methods.models.gat import GAT
from runner.methods.models.gcn import GCN
from runner.methods.models.gin import GIN
from runner.methods.models.initialisation import CLASSICAL, VIRGO, Propagating, draw_virgo, virgo_variances
from runner.methods.models.mlp import MLP
from runner.methods.models.sage import SAGE
from runner.methods.models.stack import Stack, StackedBackbone
from runner.methods.models.variances import (
    Map,
    arithmetic_mean,
    backward_variances,
    energies,
    forward_variances,
    harmonic_mean,
)
from runner.methods.ops.graph import Graph
from runner.methods.ops.graph_batches import GraphBatches
from runner.methods.ops.sparse import SparseMatrix
from runner.store.records import Records
from runner.stored import identify_run
from tests.conftest import Result
from tests.methods.conftest import AS_BUILT, random_task

Cli = Callable[..., Result]
KINDS = {
    "gcn": (GCN, {}),
    "sage": (SAGE, {}),
    "gat": (GAT, {"heads": 4}),
    "gin": (GIN, {"mlp_layers": 2}),
    "sum": (GIN, {"mlp_layers": 1}),
    "mlp": (MLP, {}),
}
M0, M, C, L = 24, 16, 4, 5
CHAIN = [Map(M0, M, aggregates=True), *[Map(M, M, aggregates=True)] * (L - 2), Map(M, C, aggregates=True)]


def backbone(kind: str, width: int = M, depth: int = L, **changed: str) -> StackedBackbone:
    build, options = KINDS[kind]
    return build(hidden_channels=width, num_layers=depth, **options, **AS_BUILT | changed)


def blocks_of(network: Stack) -> list[Propagating]:
    return list(network.blocks)


def ring(nodes: int, degree: int) -> Graph:
    """A circulant graph: each node has ``degree`` neighbours, an even number."""
    node = torch.arange(nodes)
    steps = torch.arange(1, degree // 2 + 1)
    source = node.repeat(len(steps))
    target = (node + steps.unsqueeze(1)).flatten() % nodes
    return Graph(torch.cat([torch.stack([source, target]), torch.stack([target, source])], dim=1), nodes, torch.float64)


def random_graph(nodes: int, degree: float, seed: int = 0) -> Graph:
    draw = torch.Generator().manual_seed(seed)
    edge = (torch.rand(nodes, nodes, generator=draw) < degree / nodes).triu(1)
    return Graph((edge | edge.T).nonzero().T, nodes, torch.float64)


def dense(matrix: SparseMatrix) -> Tensor:
    return matrix @ torch.eye(matrix.shape[1], dtype=matrix.dtype)


def virgo(kind: str, x: Tensor, graph: Graph, init: str = "virgo", operator: str = "own", signal: str = "mean"):
    network = backbone(kind).network(x.shape[1], C)
    return virgo_variances(blocks_of(network), init, x, graph, operator=operator, signal=signal)


# The closed forms


@pytest.mark.parametrize("kind", ["gcn", "gat"])
def test_on_a_regular_graph_virgo_is_kaiming(kind: str, double) -> None:
    graph, x = ring(30, 6), torch.ones(30, M0)
    heads = 4 if kind == "gat" else 1  # the last block averages its heads
    forward = [v for (v,) in virgo(kind, x, graph, "virgofor")]
    assert forward == pytest.approx([2 / M0, *[2 / M] * (L - 2), heads * 2 / M])
    backward = [v for (v,) in virgo(kind, x, graph, "virgoback")]
    assert backward == pytest.approx([*[2 / M] * (L - 1), heads / (C - 1)])


@given(scale=st.floats(0.1, 10))
def test_a_scaled_operator_is_taken_back(scale: float) -> None:
    node = torch.arange(9)
    scaled = SparseMatrix.from_entries(node, node, torch.full((9,), scale, dtype=torch.float64), (9, 9))
    energy = energies(scaled, torch.rand(9, dtype=torch.float64) + 0.1, L, with_self=False)
    forward = forward_variances(CHAIN, energy, factor=2.0)
    assert forward == pytest.approx([2 / M0, *[2 / (M * scale**2)] * (L - 1)])
    backward = backward_variances(CHAIN, energies(scaled, torch.ones(9), L, with_self=False), factor=2.0)
    assert backward == pytest.approx([*[2 / (M * scale**2)] * (L - 1), 1 / ((C - 1) * scale**2)])


@pytest.mark.parametrize("kind", list(KINDS))
def test_energies_are_those_of_dense_matrices(kind: str, double) -> None:
    graph = random_graph(20, 4)
    block = backbone(kind).block(M0, M)
    signal, operator = torch.rand(20), block.operator(graph)
    for matrix, transposed in ((operator, False), (operator.transposed, True)):
        a = dense(operator).T if transposed else dense(operator)
        own = torch.eye(20)
        # all ways to take either the neighbourhood or the node itself, one after the other
        paths = [signal]
        for depth in range(4):
            found = energies(matrix, signal, 3, with_self=block.with_self)[depth]
            torch.testing.assert_close(found, torch.stack(paths).square().sum())
            paths = [step @ path for path in paths for step in ((a, own) if block.with_self else (a,))]


def test_the_operators_are_what_blocks_do_without_weights(double) -> None:
    """One feature, weights 1 (SAGE: for the neighbours), attention without preference."""
    graph, x = random_graph(20, 6), torch.rand(20, 1)
    for kind in KINDS:
        build, options = KINDS[kind]
        options = options | ({"heads": 1} if "heads" in options else {})
        block = build(hidden_channels=1, num_layers=1, **options, **AS_BUILT).block(1, 1)
        for parameter in block.parameters():
            parameter.data.zero_()
        for first, *_ in block.maps():
            first.data.fill_(1.0)
        torch.testing.assert_close(block(x, graph), block.operator(graph) @ x)


def expected_energy(variances: Sequence[float], a: Tensor, x: Tensor) -> list[float]:
    """E||h_l||_F^2 = m v_1 prod_k (m v_k) ||A^l X||_F^2 of a linear network with ``M`` units a layer, l = 1..L."""
    found, power, scale = [], x, 1.0
    for v in variances:
        power, scale = a @ power, scale * v * M
        found.append(scale * float(power.square().sum()))
    return found


def wide_chain(depth: int = 6) -> list[Map]:
    return [Map(M0, M, aggregates=True), *[Map(M, M, aggregates=True)] * (depth - 1)]


def test_equal_columns_keep_their_energy_exactly(double) -> None:
    graph = random_graph(200, 10)
    column = torch.rand(200, 1)
    variances = forward_variances(wide_chain(), energies(graph.symmetric, column, 6, with_self=False), factor=1.0)
    found = expected_energy(variances, dense(graph.symmetric), column.expand(-1, M0))
    assert found == pytest.approx([found[0]] * 6, rel=1e-9)


def test_other_features_keep_their_energy_by_all_of_them_and_lose_some_by_their_mean(double) -> None:
    graph = random_graph(200, 10)
    a = dense(graph.symmetric)

    def kept(x: Tensor, signal: Tensor) -> list[float]:
        variances = forward_variances(wide_chain(), energies(graph.symmetric, signal, 6, with_self=False), factor=1.0)
        energy = expected_energy(variances, a, x)
        return [value / energy[0] for value in energy]

    sparse, uniform = (torch.rand(200, M0) < 0.05).double(), torch.rand(200, M0)
    assert kept(sparse, sparse) == pytest.approx([1.0] * 6)
    assert 0.4 < kept(sparse, sparse.mean(1))[1] < 0.7
    assert 0.3 < kept(sparse, sparse.mean(1))[5] < 0.6
    assert kept(uniform, uniform.mean(1)) == pytest.approx([1.0] * 6, abs=0.04)


positive = st.floats(1e-6, 1e6)


@given(one=positive, other=positive)
def test_means_lie_between_and_in_order(one: float, other: float) -> None:
    low, high = min(one, other) * (1 - 1e-12), max(one, other) * (1 + 1e-12)
    assert low <= harmonic_mean(one, other) <= arithmetic_mean(one, other) * (1 + 1e-12)
    assert arithmetic_mean(one, other) <= high
    assert harmonic_mean(one, one) == pytest.approx(one)
    assert arithmetic_mean(one, one) == pytest.approx(one)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("init", list(VIRGO))
def test_neither_scale_nor_order_matters(kind: str, init: str, double) -> None:
    graph, x = random_graph(30, 5), torch.rand(30, M0)
    before = np.concatenate(virgo(kind, x, graph, init))
    np.testing.assert_allclose(np.concatenate(virgo(kind, 7.5 * x, graph, init)), before)
    place = torch.randperm(30)
    moved = torch.empty_like(x)
    moved[place] = x
    renamed = Graph(place[graph.edge_index], 30, x.dtype)
    np.testing.assert_allclose(np.concatenate(virgo(kind, moved, renamed, init)), before)


def test_gcn_as_the_card_has_it(double) -> None:
    """Powers written out: layer l takes ||A^(l-1)|| over ||A^l||, the last of the backward ones ||A 1|| alone."""
    graph, x = random_graph(25, 4), torch.rand(25, M0)
    a, mean, ones = dense(graph.symmetric), x.mean(1), torch.ones(25)
    up = [float((torch.linalg.matrix_power(a, p) @ mean).square().sum()) for p in range(L + 1)]
    down = [float((torch.linalg.matrix_power(a, p) @ ones).square().sum()) for p in range(L + 1)]
    forward = [2 / M0, *[2 / M * up[layer - 1] / up[layer] for layer in range(2, L + 1)]]
    backward = [*[2 / M * down[j] / down[j + 1] for j in range(L - 1, 0, -1)], 25 / ((C - 1) * down[1])]
    assert [v for (v,) in virgo("gcn", x, graph, "virgofor")] == pytest.approx(forward)
    assert [v for (v,) in virgo("gcn", x, graph, "virgoback")] == pytest.approx(backward)
    both = [harmonic_mean(f, b) for f, b in zip(forward, backward, strict=True)]
    assert [v for (v,) in virgo("gcn", x, graph)] == pytest.approx(both)
    # the released code: GCN's propagation whatever the blocks, a layer's value for each of its maps
    released = virgo("gin", x, graph, operator="gcn")
    assert released == [pytest.approx([v, v]) for v in both]


def test_the_gradient_of_undecided_classes_has_the_variance_that_is_assumed() -> None:
    logits = torch.zeros(10, C, dtype=torch.float64, requires_grad=True)
    functional.cross_entropy(logits, torch.arange(10) % C, reduction="sum").backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.var(1, correction=0), torch.full((10,), (C - 1) / C**2, dtype=torch.float64))


def test_a_signal_that_dies_out_is_told(double) -> None:
    graph = random_graph(20, 4)
    with pytest.raises(BadInput, match="init_signal=features"):
        virgo("gcn", torch.zeros(20, M0), graph)


# The weights


def test_weights_have_the_variance_and_biases_are_zero(double) -> None:
    block = backbone("gcn").block(500, 400)
    draw_virgo([block], [[0.03]])
    assert float(block.weight.detach().var()) == pytest.approx(0.03, rel=0.02)
    assert abs(float(block.weight.detach().mean())) < 0.002
    assert float(block.weight.detach().abs().max()) <= math.sqrt(0.09)
    expected = {
        "xavier": 2 / 900,
        "kaiming_fan_in": 2 / 500,
        "kaiming_fan_out": 2 / 400,
        "lecun": 1 / 500,
        "linear": 1 / 1500,
        "orthogonal": 2 / 500,  # 400 orthogonal columns of length sqrt(2)
    }
    assert expected.keys() == CLASSICAL.keys()
    task = random_task(density=0.9)
    for kind in KINDS:
        network = backbone(kind).network(task.num_features, C)
        for init in (*CLASSICAL, *VIRGO):
            backbone(kind, init=init).initialise(network, task)
            for block_ in blocks_of(network):
                assert all((bias == 0).all() for bias in block_.biases())
    for init, variance in expected.items():
        backbone("gcn", init=init).initialise(block, task)
        assert float(block.weight.detach().var()) == pytest.approx(variance, rel=0.02), init


def test_default_weights_stay_as_they_are() -> None:
    network = backbone("gcn").network(M0, C)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    backbone("gcn").initialise(network, random_task(density=0.9))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def drawn_energies(kind: str, init: str, x: Tensor, graph: Graph, *, relu: bool, draws: int) -> Tensor:
    """Mean over draws of the mean square of h_1, …, h_L, or for ``virgoback`` of the gradients to them, [L]."""
    network = Stack([backbone(kind, width=32).block(width, 32) for width in (x.shape[1], *[32] * (L - 1))])
    variances = virgo_variances(blocks_of(network), init, x, graph, operator="own", signal="mean")
    sums = torch.zeros(L)
    for _ in range(draws):
        draw_virgo(blocks_of(network), variances)
        for block in network.blocks:
            for bias in block.biases():
                bias.data.zero_()
            if kind == "gat":  # attention without preference
                block.source_attention.data.zero_()
        h, outputs = x, []
        for block in network.blocks:
            h = block(h, graph)
            outputs.append(h)
            h = h.relu() if relu else h
        if init == "virgoback":
            outputs = torch.autograd.grad(outputs[-1].sum(1).sum(), outputs)
        sums += torch.stack([value.detach().square().mean() for value in outputs])
    return sums / draws


@pytest.mark.parametrize("kind", ["gcn", "sage", "gat", "sum"])
@pytest.mark.parametrize("init", ["virgofor", "virgoback"])
def test_linear_networks_keep_the_mean_square_of_signal_and_gradient(kind: str, init: str, double) -> None:
    """With factor 2 for a ReLU that isn't there, it doubles in each layer."""
    graph = random_graph(40, 6)
    x = torch.rand(40, 1).expand(-1, 12)
    found = drawn_energies(kind, init, x, graph, relu=False, draws=60)
    layer = torch.arange(L, dtype=torch.float64)
    # the gradient to the output itself is given; below, each layer is to be as the last but one
    found = found / 2**layer if init == "virgofor" else (found * 2**layer)[:-1]
    torch.testing.assert_close(found, found[0].expand(len(found)), rtol=0.25, atol=0)


@pytest.mark.parametrize("kind", ["gcn", "sum", "gin"])
def test_networks_with_relu_keep_the_mean_square_of_the_signal(kind: str, double) -> None:
    graph = random_graph(40, 6)
    x = torch.rand(40, 1).expand(-1, 12)
    found = drawn_energies(kind, "virgofor", x, graph, relu=True, draws=300)
    torch.testing.assert_close(found, found[0].expand(L), rtol=0.12, atol=0)


def test_gin_is_pygs(double) -> None:
    graph, x = random_graph(20, 5), torch.rand(20, M0)
    block = backbone("gin").block(M0, C)
    first, second = block.linears
    reference = GINConv(torch.nn.Sequential(first, torch.nn.ReLU(), second))
    torch.testing.assert_close(block(x, graph), reference(x, graph.edge_index))
    torch.testing.assert_close(block(SparseMatrix.from_dense(x), graph), reference(x, graph.edge_index))


# Many graphs


def graphs_task() -> GraphClassification:
    """Five rings of different sizes, the odd ones of class 1."""
    sizes = torch.tensor([4, 7, 5, 9, 6])
    graph_of = torch.arange(5).repeat_interleave(sizes)
    starts = sizes.cumsum(0) - sizes
    node = torch.arange(int(sizes.sum()))
    following = starts[graph_of] + (node - starts[graph_of] + 1) % sizes[graph_of]
    edges = torch.cat([torch.stack([node, following]), torch.stack([following, node])], dim=1).unique(dim=1)
    x = torch.rand(len(node), M0, generator=torch.Generator().manual_seed(0)).to(torch.get_default_dtype())
    none = torch.zeros(0, dtype=torch.int64)
    parts = {"train": torch.tensor([0, 1, 3]), "val": none, "test": torch.tensor([2, 4])}
    return GraphClassification(
        name="rings", fingerprint="", x=x, edge_index=edges, graph_of=graph_of, y=sizes % 2, num_classes=2, **parts
    )


def test_a_batch_is_its_graphs_one_by_one(double) -> None:
    task = graphs_task()
    whole = dense(Graph(task.edge_index, len(task.x), task.x.dtype).neighbours)
    chosen = torch.tensor([3, 0, 2])
    batch = GraphBatches(task)(chosen)
    nodes = [(task.graph_of == graph).nonzero()[:, 0] for graph in chosen]
    assert torch.equal(batch.nodes, torch.cat(nodes))
    torch.testing.assert_close(
        dense(batch.graph.neighbours), torch.block_diag(*[whole[part][:, part] for part in nodes])
    )
    means = torch.stack([task.x[part].mean(0) for part in nodes])
    torch.testing.assert_close(batch.mean @ task.x[batch.nodes], means)


def test_virgo_looks_at_the_training_graphs_side_by_side(double) -> None:
    task = graphs_task()
    batch = GraphBatches(task)(task.train)
    blocks = [backbone("sum").block(width, M) for width in (M0, M, M)]
    expected = virgo_variances(blocks, "virgo", task.x[batch.nodes], batch.graph, operator="own", signal="mean")
    torch.manual_seed(1)
    draw_virgo(blocks, expected)
    drawn = [block.maps()[0][0].detach().clone() for block in blocks]
    torch.manual_seed(1)
    backbone("sum", init="virgo").initialise(torch.nn.ModuleList(blocks), task)
    for block, weight in zip(blocks, drawn, strict=True):
        torch.testing.assert_close(block.maps()[0][0].detach(), weight)


# What a user does


@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    task = random_task(density=0.9)
    np.savez(tmp_path / "graph.npz", x=task.x, y=task.y, edge_index=task.edge_index)
    return tmp_path / "graph.npz"


def metrics(tmp_path: Path) -> dict[str, float]:
    newest = max(Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").all(), key=lambda record: record.start_ms)
    return newest.metrics


GRAPH_METHODS = [
    name
    for name in registry.choices("method")
    if "runner.methods.graph." in registry.read("method", name)["_target_"]
    and {"NodeClassification", "LinkPrediction"} & set(registry.read("method", name)["_tasks_"])
    and "/model" not in str(registry.read("method", name).get("defaults"))
]


@pytest.mark.parametrize("method", GRAPH_METHODS)
def test_every_graph_method_takes_virgo(method: str, cli: Cli, graph_file: Path, tmp_path: Path) -> None:
    line = [f"method={method}", "dataset=file", f"dataset.path={graph_file}", "dataset.split=kfold", "limit=1"]
    result = cli(*line, "progress=false", "model=sage", "model.init=virgo")
    assert result.status == 0, result.err


def test_virgo_alone_is_stable_where_neighbours_are_summed(cli: Cli, graph_file: Path, tmp_path: Path) -> None:
    line = ["method=init_signal", "dataset=file", f"dataset.path={graph_file}", "dataset.split=kfold", "progress=false"]
    line += ["model=gin", "model.mlp_layers=1", "model.num_layers=8", "model.hidden_channels=64"]
    change = {}
    for init in ("virgo", "xavier", "kaiming_fan_in"):
        assert cli(*line, f"model.init={init}").status == 0
        found = metrics(tmp_path)
        change[init] = found["forward_change"]
        assert found["forward_change"] == pytest.approx(found["forward/layer7"] - found["forward/layer1"])
        assert (found["initial_loss"] < 1.2 * math.log(4)) == (init == "virgo")
    assert abs(change["virgo"]) < 0.6
    assert change["xavier"] > 5
    assert change["kaiming_fan_in"] > 6


def test_a_task_without_a_graph_and_a_wrong_name_are_told(cli: Cli, graph_file: Path) -> None:
    line = ["dataset=file", f"dataset.path={graph_file}", "dataset.split=kfold", "limit=1", "progress=false"]
    wrong = cli("method=backprop", *line, "model.init=virgor")
    assert wrong.status == 2
    assert "did you mean" in wrong.err
    other = cli("method=backprop_image", "dataset=digits", "model=mlp", "model.init=virgo", "limit=1", "progress=false")
    assert other.status == 2
    assert len(other.err.splitlines()) == 1


def test_keys_of_runs_before_there_was_a_choice_stay() -> None:
    base = identify_run(compose(["method=backprop", "dataset=cora"]))
    assert "init" not in base.deciding["model"]
    assert base.config["model"]["init"] == "default"
    chosen = identify_run(compose(["method=backprop", "dataset=cora", "model.init=virgo"]))
    assert chosen.deciding["model"]["init"] == "virgo"
    assert chosen.key != base.key


def test_the_start_of_training_is_noted(cli: Cli, graph_file: Path, tmp_path: Path) -> None:
    line = ["method=init_backprop", "dataset=file", f"dataset.path={graph_file}", "dataset.split=kfold"]
    line += ["method.lr=0.05", "method.epochs=40", "method.patience=40", "progress=false", "model.init=virgo"]
    assert cli(*line).status == 0
    assert 1 <= metrics(tmp_path)["start_epoch"] <= 40
    assert cli(*line, "method.started_at=1.0", "limit=1").status == 0
    assert metrics(tmp_path)["start_epoch"] == 41


FULL = [
    *[(experiment, name) for experiment in ("virgo_full", "virgo_full_link") for name in ("cora_planetoid", "pubmed")],
    ("virgo_full_graph", "imdb_binary"),
]


@pytest.mark.parametrize(("experiment", "dataset"), FULL)
def test_the_full_configs_start(experiment: str, dataset: str, cli: Cli) -> None:
    line = [f"+experiment={experiment}", f"dataset={dataset}"]
    files = registry.build(compose(line).config["dataset"]).files()
    if any(sources.status(file) in (sources.Status.URL, sources.Status.MISSING) for file in files):
        pytest.skip("not in the cache, and RUNNER_DATA_MIRROR does not have it")
    result = cli(*line, "limit=1", "progress=false")
    assert result.status == 0, result.err
    assert "test_a" in result.out
