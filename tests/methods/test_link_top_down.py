"""CE-Top-To-Input of link prediction, against a direct loop."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from runner.contracts import LinkPrediction
from runner.methods.graph.forwardgnn.link_top_down import LinkTopDown
from runner.methods.models.gcn import GCN
from tests.methods.conftest import AS_BUILT
from tests.methods.reference_forwardgnn import gcn_layers, norm


def link_task(task) -> LinkPrediction:
    """Edges of a node task, two thirds of them for training; the pairs without an edge are any others."""
    once = task.edge_index[:, task.edge_index[0] < task.edge_index[1]]
    order = torch.randperm(once.shape[1], generator=torch.Generator().manual_seed(0))
    train, val, test = once[:, order].tensor_split([once.shape[1] * 2 // 3, once.shape[1] * 5 // 6], dim=1)
    adjacent = torch.eye(task.num_nodes, dtype=torch.bool)
    adjacent[task.edge_index[0], task.edge_index[1]] = True
    apart = (~adjacent).triu().nonzero().T
    apart = apart[:, torch.randperm(apart.shape[1], generator=torch.Generator().manual_seed(1))]
    sizes = [train.shape[1], val.shape[1], test.shape[1]]
    train_neg, val_neg, test_neg = apart[:, : sum(sizes)].split(sizes, dim=1)

    def both(edges: torch.Tensor) -> torch.Tensor:
        return torch.cat([edges, edges.flip(0)], dim=1).unique(dim=1)

    return LinkPrediction(
        name="links",
        fingerprint="links",
        x=task.x,
        train_edge_index=both(train),
        test_edge_index=both(torch.cat([train, val], dim=1)),
        train_pos=train,
        train_neg=train_neg,
        val_pos=val,
        val_neg=val_neg,
        test_pos=test,
        test_neg=test_neg,
    )


@pytest.mark.parametrize("alternating", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_equals_a_direct_loop(num_layers: int, alternating: bool, double, sparse_task, make_run) -> None:
    task, run = link_task(sparse_task), make_run(GCN(hidden_channels=16, num_layers=num_layers, **AS_BUILT))
    values = {"epochs": 6, "lr": 0.01, "weight_decay": 0.0, "patience": 100, "validate_every": 6}
    method = LinkTopDown(**values, alternating=alternating, test_steps=10, first_test_step=2)
    method.build(task, run)
    convs = gcn_layers(method.model.layers)
    layers = list(range(num_layers))
    groups = [layers[0::2], layers[1::2]] if alternating else [layers]

    def output(layer: int, states: list[torch.Tensor], edges: torch.Tensor) -> torch.Tensor:
        halves = [norm(states[layer])] + ([norm(states[layer + 2])] if layer + 1 < num_layers else [])
        return convs[layer](torch.cat(halves, dim=1), edges).relu()

    def start(edges: torch.Tensor) -> list[torch.Tensor]:
        states = [task.x]
        for conv in convs:
            nothing = torch.zeros(60, conv.in_channels - states[-1].shape[1])
            states.append(conv(torch.cat([norm(states[-1]), nothing], dim=1), edges).relu().detach())
        return states

    optimizers = [torch.optim.Adam(conv.parameters(), lr=0.01) for conv in convs]
    pairs, edges, losses = task.pairs("train"), task.train_edge_index, []
    states = start(edges)
    for _ in range(6):
        of_epoch = []
        for group in groups:
            before = list(states)
            for layer in group:
                z = output(layer, before, edges)
                logits = (z[pairs[0]] * z[pairs[1]]).sum(1)
                loss = functional.binary_cross_entropy_with_logits(logits, task.labels("train"))
                optimizers[layer].zero_grad()
                loss.backward()
                optimizers[layer].step()
                states[layer + 1] = z.detach()
                of_epoch.append(loss.item())
        losses.append(sum(of_epoch) / num_layers)

    method.fit(task, run)
    method.evaluate(task, run)
    assert run.logged["loss"] == pytest.approx(losses, rel=1e-7)
    for block, conv in zip(method.model.layers, convs, strict=True):
        torch.testing.assert_close(block.weight, conv.lin.weight.T, atol=1e-7, rtol=0)
    with torch.no_grad():
        edges, pairs, scores = task.test_edge_index, task.pairs("test"), 0.0
        states = start(edges)
        for step in range(10):
            for group in groups:
                before = list(states)
                for layer in group:
                    states[layer + 1] = output(layer, before, edges)
            if step >= 2:
                scores = scores + sum((z[pairs[0]] * z[pairs[1]]).sum(1).sigmoid() for z in states[1:])
    torch.testing.assert_close(run.saved["predictions"]["score"], scores / (8 * num_layers), atol=1e-6, rtol=1e-6)
    assert [block.weight.shape[0] for block in method.model.layers][-1] == (24 if num_layers == 1 else 16)
