"""Directed networks: their operators and layers against formulas written out, on graphs that have every case."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runner import registry
from runner.methods.graph.directed import operators
from runner.methods.graph.directed.appnp import APPNP
from runner.methods.graph.directed.chebyshev import ChebNet, ChebyshevConvolution
from runner.methods.graph.directed.decoupled import WALKS, Decoupled
from runner.methods.graph.directed.dgcn import DGCN
from runner.methods.graph.directed.digcn import DiGCN
from runner.methods.graph.directed.dimpa import DIMPA, weighted_powers
from runner.methods.graph.directed.dir_gnn import DirGNN, DirLayer
from runner.methods.graph.directed.encoding import EncodingBackbone
from runner.methods.graph.directed.nste import NSTE
from runner.methods.graph.directed.pairs import CLOSEST, PairClassifier, ScoredPairs, gravity, source_target
from runner.methods.graph.directed.profile import (
    compatibility,
    compatibility_gap,
    cyclicity,
    direction_entropy,
    homophily,
    profile,
    written,
)
from runner.methods.ops.dropout import dropout
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import SparseMatrix
from tests.conftest import Result

Cli = Callable[..., Result]
NODES = 7
EDGES = torch.tensor([[0, 1, 1, 2, 3, 0, 4, 4], [1, 0, 2, 3, 1, 4, 2, 4]])
"""A mutual pair (0, 1), a cycle (1, 2, 3), a self-loop at 4, and two nodes without edges."""


def graph(edges: Tensor = EDGES, nodes: int = NODES) -> Graph:
    return Graph(edges, nodes, torch.get_default_dtype())


def dense(matrix: SparseMatrix) -> Tensor:
    return matrix @ torch.eye(matrix.shape[1], dtype=matrix.dtype)


def adjacency(edges: Tensor = EDGES, nodes: int = NODES) -> Tensor:
    a = torch.zeros(nodes, nodes)
    a[edges[0], edges[1]] = 1
    return a


def hermitian(q: float, edges: Tensor = EDGES, nodes: int = NODES) -> Tensor:
    """D_s^-1/2 A_s D_s^-1/2 o exp(i Theta), entry by entry."""
    a = adjacency(edges, nodes)
    a_s = (a + a.T) / 2
    degree = a_s.sum(1)
    degree[degree == 0] = 1
    h = torch.zeros(nodes, nodes, dtype=torch.complex128)
    for i, j in product(range(nodes), repeat=2):
        angle = 2 * math.pi * q * float(a[i, j] - a[j, i])
        phase = complex(math.cos(angle), math.sin(angle))
        h[i, j] = complex(float(a_s[i, j]) / math.sqrt(float(degree[i] * degree[j]))) * phase
    return h


def complex_of(stacked: Tensor) -> Tensor:
    """[2N, …] -> complex [N, …]."""
    real, imaginary = stacked.chunk(2)
    return torch.complex(real, imaginary)


def built(backbone: EncodingBackbone, features: int = 3, classes: int = 2) -> torch.nn.Module:
    return backbone.network(features, classes).eval()


def dir_gnn(**options: Any) -> DirGNN:
    chosen: dict[str, Any] = {"hidden_channels": 4, "num_layers": 2, "conv": "gcn", "view": "apart", "alpha": 0.5}
    chosen |= {"learn_alpha": False, "jumping": "max", "dropout": 0.0, "normalize": False}
    return DirGNN(**(chosen | options))


@pytest.mark.usefixtures("double")
class TestMagnet:
    @pytest.mark.parametrize("q", [0.0, 0.1, 0.25])
    def test_operator_is_the_definition(self, q: float) -> None:
        stacked = dense(operators.magnetic(graph(), q))
        h = hermitian(q)
        n = NODES
        assert torch.allclose(stacked[:n, :n], -h.real)
        assert torch.allclose(stacked[n:, n:], -h.real)
        assert torch.allclose(stacked[:n, n:], h.imag)
        assert torch.allclose(stacked[n:, :n], -h.imag)
        laplacian = torch.eye(n) - h
        assert torch.allclose(laplacian, laplacian.conj().T)
        values = torch.linalg.eigvalsh(laplacian)
        assert values.min() > -1e-12
        assert values.max() < 2 + 1e-12

    def test_a_mutual_edge_stays(self) -> None:
        operator = dense(operators.magnetic(graph(), 0.25))
        assert operator[0, 1] != 0
        assert operator[0, NODES + 1] == 0

    def test_charge_0_is_the_normalised_laplacian(self) -> None:
        a = adjacency()
        a_s = (a + a.T) / 2
        scale = a_s.sum(1).clamp(min=1e-30).rsqrt() * (a_s.sum(1) > 0)
        stacked = dense(operators.magnetic(graph(), 0.0))
        assert torch.allclose(stacked[:NODES, :NODES], -scale[:, None] * a_s * scale)
        assert not stacked[:NODES, NODES:].any()

    def test_reversing_edges_conjugates(self) -> None:
        one = complex_of(dense(operators.magnetic(graph(), 0.2))[:, :NODES])
        other = complex_of(dense(operators.magnetic(graph(EDGES.flip(0)), 0.2))[:, :NODES])
        assert torch.allclose(one, other.conj())
        assert not torch.allclose(one, other)

    @pytest.mark.parametrize("order", [1, 2, 3])
    def test_convolution_is_the_chebyshev_sum_in_complex_numbers(self, order: int) -> None:
        layer = ChebyshevConvolution(3, 4, order)
        torch.nn.init.normal_(layer.bias)
        z = torch.randn(2 * NODES, 3)
        laplacian = -hermitian(0.15)
        terms = [torch.eye(NODES, dtype=torch.complex128), laplacian]
        while len(terms) <= order:
            terms.append(2 * laplacian @ terms[-1] - terms[-2])
        weights = layer.weight.chunk(order + 1, dim=1)
        expected = sum(
            t @ complex_of(z) @ w.to(torch.complex128) for t, w in zip(terms[: order + 1], weights, strict=True)
        ) + torch.complex(layer.bias, layer.bias)
        found = complex_of(layer(z, operators.magnetic(graph(), 0.15)))
        assert torch.allclose(found, expected)

    def test_reversed_graph_with_conjugate_input_gives_the_conjugate(self) -> None:
        layers = [ChebyshevConvolution(3, 4, 1), ChebyshevConvolution(4, 4, 1)]
        x = torch.randn(2 * NODES, 3)
        flipped = torch.cat([x[:NODES], -x[NODES:]])

        def stack(z: Tensor, edges: Tensor) -> Tensor:
            operator = operators.magnetic(graph(edges), 0.2)
            for layer in layers:
                z = layer(z, operator)
            return complex_of(z)

        assert torch.allclose(stack(x, EDGES), stack(flipped, EDGES.flip(0)).conj())

    def test_features_stand_for_themselves_in_both_parts(self) -> None:
        layer, x = ChebyshevConvolution(3, 4, 1), torch.randn(NODES, 3)
        operator = operators.magnetic(graph(), 0.2)
        assert torch.allclose(layer(x, operator), layer(torch.cat([x, x]), operator))


@pytest.mark.usefixtures("double")
class TestDirGNN:
    def test_crossed_is_the_formula(self) -> None:
        a = adjacency()
        out_scale, in_scale = ((d > 0) * d.clamp(min=1).rsqrt() for d in (a.sum(1), a.sum(0)))
        assert torch.allclose(dense(operators.crossed(graph())), in_scale[:, None] * a.T * out_scale)
        assert torch.allclose(dense(operators.crossed(graph().reversed)), out_scale[:, None] * a * in_scale)

    @pytest.mark.parametrize("conv", ["gcn", "sage", "gat"])
    def test_alpha_weighs_the_out_neighbours(self, conv: Any) -> None:
        """One arc 0 -> 1: with alpha = 1 only node 0 hears of the other, with alpha = 0 only node 1."""
        one_arc = graph(torch.tensor([[0], [1]]), 2)
        layer = DirLayer(conv, 3, 4, view="apart")
        x = torch.randn(2, 3)
        for alpha, hearing, deaf in ((1.0, 0, 1), (0.0, 1, 0)):
            changed = x.clone()
            changed[deaf] += 1.0  # the one whose message could be heard
            before, after = (layer(value, one_arc, torch.tensor(alpha)) for value in (x, changed))
            assert not torch.allclose(before[hearing], after[hearing])
            changed = x.clone()
            changed[hearing] += 1.0
            before, after = (layer(value, one_arc, torch.tensor(alpha)) for value in (x, changed))
            assert torch.allclose(before[deaf], after[deaf])

    def test_equal_weights_on_a_symmetric_graph_are_a_gcn_without_self_loops(self) -> None:
        both = graph().undirected
        directed = DirLayer("gcn", 3, 4, view="apart")
        directed.parts[1].load_state_dict(directed.parts[0].state_dict())
        control = DirLayer("gcn", 3, 4, view="undirected")
        control.parts[0].load_state_dict(directed.parts[0].state_dict())
        x, alpha = torch.randn(NODES, 3), torch.tensor(0.3)
        assert torch.allclose(directed(x, both, alpha), control(x, both, alpha))

    @pytest.mark.parametrize("conv", ["gcn", "sage", "gat"])
    def test_everything_swapped_is_nothing_changed(self, conv: Any) -> None:
        layer, other = (DirLayer(conv, 3, 4, view="apart") for _ in range(2))
        other.load_state_dict(layer.state_dict())
        other.parts[0].load_state_dict(layer.parts[1].state_dict())
        other.parts[1].load_state_dict(layer.parts[0].state_dict())
        x = torch.randn(NODES, 3)
        assert torch.allclose(layer(x, graph(), torch.tensor(0.2)), other(x, graph().reversed, torch.tensor(0.8)))

    def test_sage_against_pyg(self) -> None:
        """PyG's DirGNNConv around a mean without a root weight is our layer."""
        from torch_geometric.nn import DirGNNConv, SAGEConv

        layer = DirLayer("sage", 3, 4, view="apart")
        theirs = DirGNNConv(SAGEConv(3, 4, root_weight=False), alpha=0.3, root_weight=True)
        with torch.no_grad():
            for conv, part in ((theirs.conv_in, layer.parts[0]), (theirs.conv_out, layer.parts[1])):
                conv.lin_l.weight.copy_(part.weight.T)
                conv.lin_l.bias.copy_(part.bias)
            theirs.lin.weight.copy_(layer.own.weight.T)
            theirs.lin.bias.copy_(layer.own.bias)
        x = torch.randn(NODES, 3)
        assert torch.allclose(layer(x, graph(), torch.tensor(0.3)), theirs(x, EDGES))

    def test_after_a_layer_relu_then_normalisation_and_a_maximum_over_layers(self) -> None:
        encoder = dir_gnn(normalize=True).encoder(3).eval()
        x = torch.randn(NODES, 3)
        states, h = [], x
        for layer in encoder.layers:
            h = torch.nn.functional.normalize(layer(h, graph(), encoder.alpha).relu())
            states.append(h)
        assert torch.equal(encoder(x, graph()), torch.stack(states).amax(0))

    def test_alpha_is_one_scalar_that_learns_if_asked(self) -> None:
        for learns in (True, False):
            model = built(dir_gnn(learn_alpha=learns))
            model(torch.randn(NODES, 3), graph()).sum().backward()
            assert (model.encoder.alpha.grad is not None) == learns

    def test_what_only_direction_tells(self) -> None:
        """A cycle and a transitive triangle are one undirected graph; a network that sees degrees tells them apart."""
        cycle, transitive = torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([[0, 0, 1], [1, 2, 2]])
        x = torch.ones(3, 3)
        for conv in ("gcn", "sage"):
            control = built(dir_gnn(conv=conv, view="undirected"))
            assert torch.allclose(control(x, graph(cycle, 3)), control(x, graph(transitive, 3)))
            directed = built(dir_gnn(conv=conv))
            assert not torch.allclose(directed(x, graph(cycle, 3)), directed(x, graph(transitive, 3)))


@pytest.mark.usefixtures("double")
class TestProximity:
    def test_second_order_is_the_triple_loop(self) -> None:
        a = adjacency()
        for found, matrix in (
            (operators.proximity(operators.adjacency(graph())), a),
            (operators.proximity(operators.adjacency(graph()).T.tocsr()), a.T),
        ):
            expected = np.zeros((NODES, NODES))
            for i, j, k in product(range(NODES), repeat=3):
                if matrix[k].sum():
                    expected[i, j] += float(matrix[k, i] * matrix[k, j] / matrix[k].sum())
            assert np.allclose(found.toarray(), expected)
            assert np.allclose(expected, expected.T)
            assert np.linalg.eigvalsh(expected).min() > -1e-12

    def test_in_and_out_are_each_others_on_the_reversed_graph(self) -> None:
        found, other = operators.in_proximity(graph()), operators.out_proximity(graph().reversed)
        assert torch.allclose(dense(found), dense(other))
        assert not torch.allclose(dense(found), dense(operators.out_proximity(graph())))

    def test_layers_share_a_weight_and_a_bias(self) -> None:
        encoder = DGCN(hidden_channels=4, num_layers=2, dropout=0.5).encoder(3)
        assert [tuple(p.shape) for p in encoder.parameters()] == [(3, 4), (12, 4), (4,), (4,)]
        x = torch.randn(NODES, 3)
        first = torch.cat([s @ (x @ encoder.weights[0]) for s in _dgcn_operators(graph())], 1) + encoder.biases[
            0
        ].repeat(3)
        second = [s @ (first.relu() @ encoder.weights[1]) + encoder.biases[1] for s in _dgcn_operators(graph())]
        assert torch.allclose(encoder(x, graph()), torch.cat(second, 1).relu())


def _dgcn_operators(of: Graph) -> list[Tensor]:
    a = adjacency()
    plain = [((a + a.T) > 0).double(), *(torch.zeros(NODES, NODES) for _ in range(2))]
    for i, j, k in product(range(NODES), repeat=3):
        plain[1][i, j] += a[k, i] * a[k, j] / a[k].sum().clamp(min=1)
        plain[2][i, j] += a[i, k] * a[j, k] / a[:, k].sum().clamp(min=1)
    looped = [plain[0].fill_diagonal_(1.0), plain[1] + torch.eye(NODES), plain[2] + torch.eye(NODES)]
    return [m / (m.sum(1)[:, None] * m.sum(1)).sqrt() for m in looped]


@pytest.mark.usefixtures("double")
class TestDiGCN:
    def test_the_distribution_is_stationary(self) -> None:
        transition = operators.transitions(graph()).toarray()
        pi = operators.stationary(operators.transitions(graph()), 0.1)
        assert pi.sum() == pytest.approx(1.0)
        assert (pi > 0).all()
        chain = np.zeros((NODES + 1, NODES + 1))
        chain[:NODES, :NODES] = 0.9 * transition
        chain[:NODES, NODES] = 0.1
        chain[NODES, :NODES] = 1 / NODES
        values, vectors = np.linalg.eig(chain.T)
        left = vectors[:, np.argmax(values.real)].real[:NODES]
        assert np.allclose(pi, left / left.sum(), atol=1e-11)

    def test_laplacian_is_the_formula_and_symmetric(self) -> None:
        p = torch.from_numpy(operators.transitions(graph()).toarray())
        root = torch.from_numpy(operators.stationary(operators.transitions(graph()), 0.1)).sqrt()
        half = root[:, None] * p / root
        mean = (half + half.T) / 2
        expected = mean / (mean.sum(1)[:, None] * mean.sum(1)).sqrt()
        found = dense(operators.digraph_laplacian(graph(), 0.1))
        assert torch.allclose(found, expected)
        assert torch.allclose(found, found.T)

    def test_on_a_regular_undirected_graph_it_is_the_walk(self) -> None:
        ring = torch.stack([torch.arange(5), (torch.arange(5) + 1) % 5])
        both = torch.cat([ring, ring.flip(0)], 1)
        found = dense(operators.digraph_laplacian(graph(both, 5), 0.1))
        assert torch.allclose(found, (adjacency(both, 5) + torch.eye(5)) / 3)

    def test_second_order_is_the_intersection(self) -> None:
        p = torch.from_numpy(operators.transitions(graph()).toarray())
        one, other = p.T @ p, p @ p.T
        mean = torch.where((one > 0) & (other > 0), (one + other) / 2, 0.0)
        expected = mean / (mean.sum(1)[:, None] * mean.sum(1)).sqrt()
        assert torch.allclose(dense(operators.second_order(graph())), expected)

    def test_inception_sums_three_branches_without_relu(self) -> None:
        model = built(DiGCN(hidden_channels=4, num_layers=3, alpha=0.1, inception="sum", dropout=0.5))
        x = torch.randn(NODES, 3)
        first, second = dense(operators.digraph_laplacian(graph(), 0.1)), dense(operators.second_order(graph()))
        h = x
        for own, near, far in model.layers:
            h = own(h) + first @ (h @ near.weight) + near.bias + second @ (h @ far.weight) + far.bias
        assert torch.allclose(model(x, graph()), h)

    def test_branches_side_by_side(self) -> None:
        model = built(DiGCN(hidden_channels=4, num_layers=2, alpha=0.1, inception="concat", dropout=0.5))
        x = torch.randn(NODES, 3)
        first, second = dense(operators.digraph_laplacian(graph(), 0.1)), dense(operators.second_order(graph()))
        h = x
        for own, near, far in model.encoder.layers:
            branches = [own(h), first @ (h @ near.weight) + near.bias, second @ (h @ far.weight) + far.bias]
            h = torch.cat(branches, 1)
        assert h.shape == (NODES, 12)
        assert torch.allclose(model(x, graph()), model.head(h))


@pytest.mark.usefixtures("double")
class TestControls:
    @pytest.mark.parametrize("conv", ["gcn", "sage", "gat"])
    def test_along_is_direction_apart_without_its_other_half(self, conv: Any) -> None:
        layer, other = DirLayer(conv, 3, 4, view="along"), DirLayer(conv, 3, 4, view="apart")
        kept = {name: value for name, value in other.state_dict().items() if not name.startswith("parts.1")}
        layer.load_state_dict(kept)
        x = torch.randn(NODES, 3)
        assert torch.allclose(layer(x, graph(), torch.tensor(0.5)), other(x, graph(), torch.tensor(0.0)))

    @pytest.mark.parametrize("view", ["along", "undirected"])
    def test_appnp_against_pyg(self, view: Any) -> None:
        from torch_geometric.nn import APPNP as Theirs

        model = built(APPNP(hidden_channels=4, num_layers=2, view=view, steps=3, teleport=0.2, dropout=0.5))
        x = torch.randn(NODES, 3)
        first, last = model.layers
        edges = EDGES if view == "along" else graph().undirected.edge_index
        assert torch.allclose(model(x, graph()), Theirs(3, 0.2)(last(first(x).relu()), edges))

    def test_chebnet_against_pyg(self) -> None:
        from torch_geometric.nn import ChebConv

        encoder = ChebNet(hidden_channels=4, num_layers=1, view="undirected", order=2, dropout=0.5).encoder(3).eval()
        edges = graph().undirected.edge_index
        edges = edges[:, edges[0] != edges[1]]  # theirs takes self-loops away
        theirs = ChebConv(3, 4, K=3)
        with torch.no_grad():
            for linear, weight in zip(theirs.lins, encoder.layers[0].weight.chunk(3, 1), strict=True):
                linear.weight.copy_(weight.T)
        x = torch.randn(NODES, 3)
        assert torch.allclose(encoder(x, graph(edges)), theirs(x, edges, lambda_max=torch.tensor(2.0)).relu())

    def test_chebnet_along_edges_hears_of_in_neighbours_alone(self) -> None:
        encoder = ChebNet(hidden_channels=4, num_layers=1, view="along", order=1, dropout=0.0).encoder(3)
        layer, x = encoder.layers[0], torch.randn(NODES, 3)
        own, heard = layer.weight.chunk(2, 1)
        expected = x @ own - dense(operators.crossed(graph())) @ (x @ heard) + layer.bias
        assert torch.allclose(encoder(x, graph()), expected.relu())


@pytest.mark.usefixtures("double")
class TestDecoupled:
    def test_every_operator_is_the_product_of_means(self) -> None:
        """With identities for weights the first layer is relu(S_g x), for S_g multiplied out."""
        a = adjacency()
        means = {
            name: m / m.sum(1, keepdim=True).clamp(min=1)
            for name, m in (("out", a), ("in", a.T), ("both", ((a + a.T) > 0).double()))
        }
        for join, walks in WALKS.items():
            encoder = Decoupled(hidden_channels=3, join=join, dropout=0.0).encoder(3)
            x = torch.rand(NODES, 3)
            states = []
            for walk, weight, bias in zip(
                walks, encoder.first.weight.chunk(7, 1), encoder.first.bias.chunk(7), strict=True
            ):
                operator = torch.eye(NODES)
                for step in walk:
                    operator = operator @ means[step]
                states.append((operator @ x @ weight + bias).relu())
            if join == "concat":
                joined = torch.cat(states, 1)
            else:
                h = torch.stack(states, 1)
                weights = encoder.weights(h)
                assert torch.allclose(weights.sum(1), torch.ones(NODES))
                joined = sum(weights[:, g : g + 1] * state for g, state in enumerate(states))
            assert torch.allclose(encoder(x, graph()), encoder.last(joined).relu())

    def test_the_reversed_graph_is_another_one(self) -> None:
        for join in WALKS:
            encoder = Decoupled(hidden_channels=4, join=join, dropout=0.0).encoder(3)
            x = torch.rand(NODES, 3)
            assert not torch.allclose(encoder(x, graph()), encoder(x, graph().reversed))
            both = graph().undirected
            assert torch.allclose(encoder(x, both), encoder(x, both.reversed))


@pytest.mark.usefixtures("double")
class TestHeads:
    PAIRS = torch.tensor([[0, 1, 3, 2], [1, 0, 3, 5]])

    def test_linear_is_the_affine_map_of_both_encodings(self) -> None:
        model = PairClassifier(dir_gnn().encoder(3), 3, 0.5).eval()
        x = torch.randn(NODES, 3)
        z = model.encoder(x, graph())
        both = torch.cat([z[self.PAIRS[0]], z[self.PAIRS[1]]], 1)
        assert torch.allclose(model(x, graph(), self.PAIRS), model.head(both))

    def test_scores_are_the_formulas(self) -> None:
        z_u, z_v = torch.randn(5, 6), torch.randn(5, 6)
        for row in range(5):
            u, v = z_u[row], z_v[row]
            assert torch.allclose(source_target(z_u, z_v)[row], sum(u[k] * v[3 + k] for k in range(3)))
            distance = sum((u[k] - v[k]) ** 2 for k in range(5))
            assert torch.allclose(gravity(z_u, z_v)[row], v[5] - (distance + CLOSEST).log())

    @pytest.mark.parametrize("score", [source_target, gravity])
    def test_both_orders_are_scored(self, score: Any) -> None:
        model = ScoredPairs(dir_gnn().encoder(3), 3, 0.5, score).eval()
        x = torch.randn(NODES, 3)
        z = model.encoder(x, graph())
        u, v = self.PAIRS
        expected = model.head(torch.stack([score(z[u], z[v]), score(z[v], z[u])], 1))
        assert torch.allclose(model(x, graph(), self.PAIRS), expected)
        assert not torch.allclose(score(z[u], z[v])[0], score(z[v], z[u])[0]), "the order matters"


def test_dropout_has_the_law_of_dropout() -> None:
    x = torch.ones(400, 500, requires_grad=True)
    for p in (0.2, 0.5):
        dropped = dropout(x, p, True)
        assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1.0).div(1 - p).item()}
        assert float((dropped == 0).float().mean()) == pytest.approx(p, abs=0.01)
        (gradient,) = torch.autograd.grad(dropped.sum(), x)
        assert torch.equal(gradient, dropped)
    assert not dropout(x, 1.0, True).any()
    assert dropout(x, 0.5, False) is x
    assert dropout(x, 0.0, True) is x


@pytest.mark.usefixtures("double")
class TestSourcesAndTargets:
    def test_dimpa_sums_powers(self) -> None:
        mean, h, weights = torch.rand(NODES, NODES), torch.randn(NODES, 2), torch.tensor([0.5, 2.0, -1.0])
        expected = 0.5 * h + 2 * mean @ h - mean @ mean @ h
        assert torch.allclose(weighted_powers(SparseMatrix.from_dense(mean), h, weights), expected)
        a = adjacency() + 0.5 * torch.eye(NODES)
        assert torch.allclose(dense(operators.smoothed(graph(), 0.5)), a / a.sum(1, keepdim=True))
        encoder = DIMPA(hidden_channels=4, hops=2, loop=0.5, dropout=0.5).encoder(3)
        assert torch.equal(encoder.hop_weights, torch.ones(2, 3))

    def test_dimpa_on_the_reversed_graph_with_sides_swapped(self) -> None:
        options = DIMPA(hidden_channels=4, hops=2, loop=0.5, dropout=0.0)
        encoder, other = options.encoder(3), options.encoder(3)
        for name in ("first", "second"):
            for side in (0, 1):
                getattr(other, name)[side].load_state_dict(getattr(encoder, name)[1 - side].state_dict())
        x = torch.randn(NODES, 3)
        source, target = encoder(x, graph()).chunk(2, 1)
        assert torch.allclose(torch.cat([target, source], 1), other(x, graph().reversed))

    def test_nste_with_half_exponents_is_the_crossed_operator(self) -> None:
        options = NSTE(hidden_channels=4, num_layers=1, exponent=0.5, learn_exponents=False, dropout=0.0)
        encoder = options.encoder(3)
        own_s, from_t, own_t, from_s = encoder.layers[0]
        x = torch.randn(NODES, 3)
        back = dense(operators.crossed(graph()))
        expected = [own_s(x) + back.T @ from_t(x), own_t(x) + back @ from_s(x)]
        assert torch.allclose(encoder(x, graph()), torch.cat(expected, 1).relu())


class TestProfile:
    @settings(max_examples=40)
    @given(st.integers(0, 10_000))
    def test_homophily_is_the_loop(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        n, classes = 9, 3
        m = np.triu(draw.random((n, n)) < 0.3, 1) | np.tril(draw.random((n, n)) < 0.2, -1)
        y = draw.integers(classes, size=n)
        from scipy.sparse import csr_array

        a, one_hot = csr_array(m.astype(float)), np.eye(classes)[y]
        square = m.astype(float)
        for factors, product_ in (
            ([a], square),
            ([a.T], square.T),
            ([a, a.T], square @ square.T),
            ([a, a], square @ square),
        ):
            shares = []
            for i in range(n):
                weights = {j: product_[i, j] for j in range(n) if j != i}
                if sum(weights.values()):
                    shares.append(sum(w for j, w in weights.items() if y[i] == y[j]) / sum(weights.values()))
            assert homophily(factors, one_hot) == pytest.approx(np.mean(shares) if shares else 0.0)
        found = profile(a, one_hot)
        names = ("out", "in", "out_out", "in_in", "out_in", "in_out")
        assert found["homophily_directed"] == max(found[f"homophily/{name}"] for name in names)
        one_way = m & ~m.T
        assert found["one_way"] == pytest.approx(one_way.sum() / max(m.sum(), 1) if m.sum() else 1.0)
        triangles = {"cycle": 0, "transitive": 0}
        for nodes in combinations(range(n), 3):
            inside = one_way[np.ix_(nodes, nodes)]
            if (inside | inside.T).sum() == 6:
                triangles["cycle" if (inside.sum(1) == 1).all() else "transitive"] += 1
        total = sum(triangles.values())
        assert cyclicity(a) == pytest.approx(triangles["cycle"] / total if total else 0.0)

    def test_entropy_of_direction(self) -> None:
        from scipy.sparse import csr_array

        one_hot = np.eye(2)[[0, 0, 1, 1]]

        def of(*edges: tuple[int, int]) -> float:
            m = np.zeros((4, 4))
            for i, j in edges:
                m[i, j] = 1
            return direction_entropy(csr_array(m), one_hot)

        assert of((0, 2), (1, 3), (0, 3)) == pytest.approx(0.0)
        assert of((0, 2), (3, 1)) == pytest.approx(1.0)
        assert of((0, 1)) == pytest.approx(1.0)  # within a class direction can't tell
        quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
        assert of((0, 2), (1, 3), (0, 3), (2, 1)) == pytest.approx(quarter)
        assert of((0, 2), (2, 0)) == pytest.approx(1.0)  # mutual edges have no direction

    def test_class_compatibility_is_counted_and_written(self) -> None:
        from scipy.sparse import csr_array

        a = csr_array(adjacency().numpy())
        y = [0, 0, 1, 1, 2, 2, 2]
        expected = np.zeros((3, 3))
        for source, target in EDGES.T.tolist():
            expected[y[source], y[target]] += 1
        shares = [m / np.maximum(m.sum(1, keepdims=True), 1) for m in (expected, expected.T)]
        one_hot = np.eye(3)[y]
        assert np.allclose(compatibility(a, one_hot), shares[0])
        assert np.allclose(compatibility(a.T, one_hot), shares[1])
        gap = np.mean([sum(abs(shares[0][c, d] - shares[1][c, d]) for d in range(3)) / 2 for c in range(3)])
        assert compatibility_gap(a, one_hot) == pytest.approx(gap)
        assert gap > 0
        assert compatibility_gap(a.maximum(a.T), one_hot) == 0
        lines = written({"out": shares[0], "in": shares[1]}).splitlines()
        assert lines[0].startswith("class  sends to class, %")
        assert lines[2].split() == ["0", *(f"{100 * share:.0f}" for share in (*shares[0][0], *shares[1][0]))]


def test_the_taxonomy_is_a_table(cli: Cli) -> None:
    listed = cli("list", "methods", "field=directed")
    assert listed.status == 0
    assert {"kind", "direction", "learned", "operator", "reach"} <= set(listed.out.splitlines()[1].split())
    kinds = [line.split()[1] for line in listed.out.splitlines()[2:] if line.startswith("model=")]
    assert {"control", "proximity", "spatial", "spectral", "unified", "walk"} == set(kinds)
    assert kinds == sorted(kinds), "what is alike stands together"
    for choice in ("model=magnet", "model=dir_gcn", "model=digcn_ib", "method=directed_pairs"):
        assert choice in listed.out
    assert "forwardgnn" not in listed.out
    spectral = cli("list", "models", "field=directed", "kind=spectral").out
    assert "magnet" in spectral
    assert "dir_gcn" not in spectral
    assert cli("list", "models", "field=directd").err.startswith("runner: no choice has field=directd; did you mean")
    assert cli("list", "models", "feild=directed").status == 2
    assert cli("list", "models", "directed").err.startswith("runner: 'directed': choices are picked by KEY=VALUE")


MODELS = (
    *("dir_gcn", "dir_sage", "dir_gat", "und_gcn", "und_sage", "und_gat", "wrapped_mlp"),
    *("along_gcn", "along_sage", "along_gat", "along_appnp", "along_cheb", "und_appnp", "und_cheb"),
    *("magnet", "dgcn", "digcn", "digcn_ib", "dimpa", "nste", "a2dug", "adpa"),
)
SMALL = ["dataset=dsbm", "dataset.cluster_size=8", "dataset.density=0.4", "progress=false", "limit=1"]


def task_of(kind: str) -> Any:
    section = registry.read("dataset", "dsbm") | {"cluster_size": 8, "density": 0.4, "question": "three_class"}
    return registry.build({key: 0 if value == "${seed}" else value for key, value in section.items()}).load(kind)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_nodes_and_pairs(model: str, make_run: Any) -> None:
    backbone = registry.build(registry.read("model", model))
    for name, kind in (("backprop", "NodeClassification"), ("directed_pairs", "PairClassification")):
        task = task_of(kind)
        section = {key: value for key, value in registry.read("method", name).items() if key != "defaults"}
        method = registry.build(section | {"epochs": 3, "lr": 0.01, "validate_every": 1})
        run = make_run(backbone)
        method.build(task, run)
        start = {key: value.clone() for key, value in method.model.state_dict().items()}
        method.fit(task, run)
        moved = {key for key, value in method.model.state_dict().items() if not torch.equal(value, start[key])}
        assert {key for key, value in method.model.named_parameters() if value.requires_grad} == moved
        metrics = method.evaluate(task, run)
        assert metrics == method.evaluate(task, run), "evaluation has no dropout"
        assert run.saved["predictions"]["probability"].shape[1] == (5 if name == "backprop" else 3)


def test_only_direction_tells_these_clusters_apart(cli: Cli) -> None:
    """The claim on ordered block models, for one seed: 95 and 16 % when it was first tried."""

    def accuracy(*arguments: str) -> float:
        size = ["model.num_layers=2", "model.hidden_channels=32", "model.dropout=0.5"]
        out = cli("+experiment=directed", "dataset=dsbm", "method.epochs=150", "progress=false", *arguments, *size).out
        return float(out.partition("test_acc ")[2].partition(" %")[0])

    assert accuracy("model=dir_gcn") >= 80
    assert accuracy("model=und_gcn") <= 35


@pytest.mark.parametrize(
    "command",
    [
        ["+experiment=directed_full", "dataset=dsbm"],
        ["+experiment=directed_full_magnet", "dataset=dsbm", "model=magnet"],
        ["+experiment=directed_full_pairs", "dataset=dsbm", "model=digcn_ib"],
    ],
)
def test_full_scale_starts(command: list[str], cli: Cli) -> None:
    made = cli(*command, "limit=1", "progress=false")
    assert made.status == 0, made.err
    assert "epochs 1" in made.out


def test_the_profile_is_printed(cli: Cli) -> None:
    out = cli("method=direction_profile", *SMALL[:-1]).out
    assert "one_way 1 " in out
    assert "direction_entropy" in out
    assert "homophily_undirected" in out
    assert "hears from class, %" in out
    assert "hears from class" not in cli("method=direction_profile", "method.show=false", *SMALL[:-1]).out


def test_other_graph_methods_may_train_them(cli: Cli) -> None:
    assert cli("method=backprop", "model=magnet", *SMALL).status == 0
    told = cli("method=forwardgnn", "model=magnet", *SMALL)
    assert (told.status, "block by block" in told.err) == (2, True)
    assert "encodes nodes" in cli("method=directed_pairs", "model=gcn", *SMALL).err


@pytest.mark.parametrize("head", ["source_target", "gravity"])
def test_heads_of_autoencoders(head: str, cli: Cli) -> None:
    made = cli("method=directed_pairs", f"method.head={head}", "dataset.question=three_class", *SMALL)
    assert made.status == 0, made.err


def test_an_odd_width_has_no_halves(cli: Cli) -> None:
    told = cli("method=directed_pairs", "method.head=source_target", "model.hidden_channels=3", *SMALL)
    assert "halves encodings, of a width of 3 here" in told.err
