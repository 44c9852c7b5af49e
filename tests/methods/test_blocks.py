"""Blocks and networks, beside PyTorch Geometric's."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, SAGEConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from runner.errors import BadInput
from runner.methods.models.gat import GAT, GATBlock
from runner.methods.models.gcn import GCN, GCNBlock
from runner.methods.models.mlp import MLP, AffineBlock
from runner.methods.models.sage import SAGE, SAGEBlock
from runner.methods.models.stack import AggregateThenTransform
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import compact
from tests.methods.conftest import AS_BUILT

KINDS = ["gcn", "sage", "gat concatenated", "gat averaged"]


def pair(kind: str, in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module, dict[str, str]]:
    """Our block, PyG's layer, and their parameters' names in one and the other."""
    if kind == "gcn":
        names = {"weight": "lin.weight", "bias": "bias"}
        return GCNBlock(in_channels, out_channels), GCNConv(in_channels, out_channels), names
    if kind == "sage":
        names = {"neighbour_weight": "lin_l.weight", "bias": "lin_l.bias", "self_weight": "lin_r.weight"}
        return SAGEBlock(in_channels, out_channels), SAGEConv(in_channels, out_channels), names
    names = {"weight": "lin.weight", "source_attention": "att_src", "target_attention": "att_dst", "bias": "bias"}
    average = kind == "gat averaged"
    width = out_channels if average else out_channels // 4
    ours = GATBlock(in_channels, width, heads=4, average=average)
    return ours, GATConv(in_channels, width, heads=4, concat=not average), names


def as_ours(name: str, tensor: Tensor) -> Tensor:
    return tensor.T if name.endswith("weight") else tensor.squeeze(0)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_equal_pyg(kind: str, directed: bool, any_task) -> None:
    task = any_task
    # A directed graph, some of whose nodes have a self loop.
    edges = torch.cat([task.edge_index[:, ::3], torch.arange(5).expand(2, 5)], 1) if directed else task.edge_index
    ours, theirs, names = pair(kind, task.num_features, 8)
    nn.init.normal_(ours.bias)
    with torch.no_grad():
        for name, their_name in names.items():
            as_ours(name, theirs.get_parameter(their_name)).copy_(ours.get_parameter(name))
    out = ours(compact(task.x), Graph(edges, task.num_nodes, task.x.dtype))
    expected = theirs(task.x, edges)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    (out * direction).sum().backward()
    (expected * direction).sum().backward()
    for name, their_name in names.items():
        their_gradient = as_ours(name, theirs.get_parameter(their_name).grad)
        torch.testing.assert_close(ours.get_parameter(name).grad, their_gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_initial_values_are_distributed_as_in_pyg(kind: str) -> None:
    ours, theirs, names = pair(kind, 300, 120)
    for name, their_name in names.items():
        values, reference = ours.get_parameter(name), as_ours(name, theirs.get_parameter(their_name))
        assert values.shape == reference.shape
        if values.numel() > 1000:
            assert values.mean().item() == pytest.approx(reference.mean().item(), abs=0.001)
            assert values.std().item() == pytest.approx(reference.std().item(), rel=0.05)
            assert values.abs().max().item() == pytest.approx(reference.abs().max().item(), rel=0.02)
        elif values.any():
            assert values.abs().max().item() == pytest.approx(reference.abs().max().item(), rel=0.1)


def test_affine_block_starts_as_linear() -> None:
    ours, theirs = AffineBlock(300, 120), nn.Linear(300, 120)
    assert ours.weight.std().item() == pytest.approx(theirs.weight.std().item(), rel=0.05)
    assert ours.bias.abs().max().item() == pytest.approx(theirs.bias.abs().max().item(), rel=0.1)


def test_symmetric_operator_equals_pyg(sparse_task) -> None:
    edges = torch.cat([sparse_task.edge_index[:, ::2], torch.tensor([[1], [1]])], dim=1)
    index, weight = gcn_norm(edges, num_nodes=60, dtype=torch.float32)
    expected = torch.zeros(60, 60).index_put((index[1], index[0]), weight)
    torch.testing.assert_close(Graph(edges, 60, torch.float32).symmetric @ torch.eye(60), expected)


def test_mean_operator(sparse_task) -> None:
    adjacency = torch.zeros(60, 60)
    adjacency[sparse_task.edge_index[1], sparse_task.edge_index[0]] = 1.0
    expected = adjacency / adjacency.sum(1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(Graph(sparse_task.edge_index, 60, torch.float32).mean @ torch.eye(60), expected)


@pytest.mark.parametrize("kind", ["gcn", "sage"])
def test_aggregate_then_transform_is_the_block(kind: str, any_task) -> None:
    block, _, _ = pair(kind, any_task.num_features, 8)
    graph, x = Graph(any_task.edge_index, any_task.num_nodes, any_task.x.dtype), compact(any_task.x)
    assert isinstance(block, AggregateThenTransform)
    torch.testing.assert_close(block.transform(*block.aggregate(x, graph)), block(x, graph))


def test_attention_gradients(double, sparse_task) -> None:
    block = GATBlock(6, 3, heads=2, average=False)
    graph = Graph(sparse_task.edge_index[:, ::4], 60, torch.float64)
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    parameters = tuple(block.parameters())
    names = [name for name, _ in block.named_parameters()]

    def output(*values: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (x, graph))

    assert torch.autograd.gradcheck(output, parameters)


def test_attention_is_stable_for_large_scores(sparse_task) -> None:
    block = GATBlock(24, 3, heads=2, average=False)
    with torch.no_grad():
        block.source_attention.mul_(1e4)
    out = block(sparse_task.x, Graph(sparse_task.edge_index, 60, torch.float32))
    out.sum().backward()
    assert out.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in block.parameters())


@pytest.mark.parametrize("num_layers", [1, 2, 4])
@pytest.mark.parametrize("kind", [GCN, SAGE, GAT, MLP])
def test_network_has_its_blocks_and_no_relu_at_the_end(kind, num_layers: int, sparse_task) -> None:
    heads = {"heads": 4} if kind is GAT else {}
    network = kind(hidden_channels=8, num_layers=num_layers, **heads, **AS_BUILT).network(24, 3)
    nn.init.constant_(network.blocks[-1].bias, -100.0)
    out = network(compact(sparse_task.x), Graph(sparse_task.edge_index, 60, torch.float32))
    assert len(network.blocks) == num_layers
    assert out.shape == (60, 3)
    assert (out < 0).all()


def test_gat_widths_count_all_heads() -> None:
    backbone = GAT(hidden_channels=8, num_layers=2, heads=4, **AS_BUILT)
    assert backbone.block(5, 8).weight.shape == (5, 8)
    assert backbone.block(8, 3, head=True).weight.shape == (8, 12)
    with pytest.raises(BadInput, match="hidden_channels=10 is no multiple of heads=4"):
        GAT(hidden_channels=10, num_layers=2, heads=4, **AS_BUILT)


def test_pyg_is_not_imported() -> None:
    """Its import takes longer than training on a small graph."""
    modules = "runner.methods.graph.forwardgnn.method, runner.methods.graph.backprop, runner.methods.models"
    models = ", ".join(f"runner.methods.models.{name}" for name in ("gcn", "sage", "gat", "mlp"))
    code = f"import sys, {modules}, {models}; sys.exit('torch_geometric' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
