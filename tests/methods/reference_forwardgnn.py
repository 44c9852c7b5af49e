"""ForwardGNN's node classification, written down directly: each pass of its own, dense features, nothing kept.

The tests compare the methods with it step by step, and ``make bench`` measures them against it. Layers are PyTorch
Geometric's; inputs are concatenated, every row is computed, optimisers are plain Adam.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GCNConv

from runner.contracts import NodeClassification


def norm(h: Tensor) -> Tensor:
    return h / (h.norm(dim=1, keepdim=True) + 1e-8)


def gcn_layers(blocks: Sequence[nn.Module]) -> list[GCNConv]:
    """Layers of PyTorch Geometric with the weights of our GCN blocks."""
    convs = []
    for block in blocks:
        conv = GCNConv(*block.weight.shape)
        with torch.no_grad():
            conv.lin.weight.copy_(block.weight.T)
            conv.bias.copy_(block.bias)
        convs.append(conv)
    return convs


def adam(convs: Sequence[nn.Module], lr: float) -> list[torch.optim.Adam]:
    return [torch.optim.Adam(conv.parameters(), lr=lr, weight_decay=5e-4) for conv in convs]


def link_to_virtual(task: NodeClassification, nodes: Tensor, classes: Tensor) -> Tensor:
    """Edges in both directions between nodes and the virtual nodes of the classes."""
    virtual = task.num_nodes + classes
    return torch.cat([torch.stack([nodes, virtual]), torch.stack([virtual, nodes])], dim=1)


class ForwardForwardReference:
    """FF-LA or FF-VN: one pass after the other. ``labels`` [C, n]: those of the training nodes in each pass."""

    def __init__(
        self,
        task: NodeClassification,
        convs: Sequence[nn.Module],
        labels: Tensor,
        *,
        variant: str,
        virtual: Tensor,
        objective: str = "bce",
        theta: float = 2.0,
        alpha: float = 4.0,
        lr: float = 0.01,
    ) -> None:
        self.task, self.convs, self.variant, self.virtual = task, convs, variant, virtual
        self.objective, self.theta, self.alpha = objective, theta, alpha
        self.optimizers = adam(convs, lr)
        self.passes = [self.start(task.train[:0], task.train, row) for row in labels]

    def start(self, known: Tensor, nodes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Features and edges if ``nodes`` have the labels ``classes`` and ``known`` nodes their own."""
        task = self.task
        every, label = torch.cat([known, nodes]), torch.cat([task.y[known], classes])
        if self.variant == "vn":
            edges = torch.cat([task.edge_index, link_to_virtual(task, every, label)], dim=1)
            return torch.cat([task.x, self.virtual]), edges
        rows = torch.full((task.num_nodes, task.num_classes), 1 / task.num_classes)
        rows[every] = functional.one_hot(label, task.num_classes).to(rows.dtype)
        return torch.cat([task.x, rows], dim=1), task.edge_index

    def loss(self, layer: int) -> Tensor:
        goodness = []
        for h, edges in self.passes:
            z = self.convs[layer](norm(h), edges).relu()
            goodness.append(z.square().sum(1)[self.task.train])
        positive, negatives = goodness[0], goodness[1:]
        if self.objective == "symba":
            return sum(functional.softplus(-self.alpha * (positive - g)).mean() for g in negatives) / len(negatives)
        repel = [self.bce(g, torch.zeros_like(g)) for g in negatives]
        return self.bce(positive, torch.ones_like(positive)) + sum(repel) / len(repel)

    def bce(self, goodness: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy(torch.sigmoid(goodness - self.theta), target)

    def epoch(self, layer: int) -> float:
        self.optimizers[layer].zero_grad()
        loss = self.loss(layer)
        loss.backward()
        self.optimizers[layer].step()
        return loss.item()

    @torch.no_grad()
    def freeze(self, layer: int) -> None:
        """Go on to the next layer; with virtual nodes, all passes take the positive one's output."""
        outputs = [self.convs[layer](norm(h), edges).relu() for h, edges in self.passes]
        self.passes = [
            (outputs[0] if self.variant == "vn" else z, edges)
            for z, (_, edges) in zip(outputs, self.passes, strict=True)
        ]

    @torch.no_grad()
    def scores(self, known: Tensor, nodes: Tensor, depth: int) -> Tensor:
        """[n, C]: the nodes as if they had each class."""
        columns = []
        for c in range(self.task.num_classes):
            h, edges = self.start(known, nodes, torch.full_like(nodes, c))
            score = torch.zeros(len(nodes))
            for conv in self.convs[:depth]:
                h = conv(norm(h), edges).relu()
                score = score + h.square().mean(1)[nodes] - self.theta
            columns.append(score)
        return torch.stack(columns, dim=1)


class TopDownReference:
    """What both top-down variants share: the graph with virtual nodes, and the loss of a vector per node."""

    def __init__(
        self,
        task: NodeClassification,
        convs: Sequence[nn.Module],
        *,
        virtual: Tensor,
        tau: float = 1.0,
        lr: float = 0.01,
    ) -> None:
        self.task, self.convs, self.tau = task, convs, tau
        self.optimizers = adam(convs, lr)
        self.x = torch.cat([task.x, virtual])
        links = link_to_virtual(task, task.train, task.y[task.train])
        self.edges = torch.cat([task.edge_index, links], dim=1)
        self.states = self.start()

    def start(self) -> list[Tensor]:
        raise NotImplementedError

    def logits(self, z: Tensor) -> Tensor:
        return z[: self.task.num_nodes] @ z[self.task.num_nodes :].T / self.tau

    def minimise(self, layer: int, z: Tensor, clip: float | None = None) -> float:
        task = self.task
        self.optimizers[layer].zero_grad()
        loss = functional.cross_entropy(self.logits(z)[task.train], task.y[task.train])
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(self.convs[layer].parameters(), clip)
        self.optimizers[layer].step()
        return loss.item()


class TopToInputReference(TopDownReference):
    def __init__(self, *arguments, alternating: bool = True, **keywords) -> None:
        self.alternating = alternating
        super().__init__(*arguments, **keywords)

    @torch.no_grad()
    def start(self) -> list[Tensor]:
        """s_0 .. s_{L+1}, after a pass upwards with zeros from above."""
        task = self.task
        labels = torch.full((task.num_nodes + task.num_classes, task.num_classes), 1 / task.num_classes)
        labels[task.train] = functional.one_hot(task.y[task.train], task.num_classes).to(labels.dtype)
        labels[task.num_nodes :] = torch.eye(task.num_classes)
        states = [self.x]
        for conv in self.convs:
            nothing = torch.zeros(len(self.x), conv.in_channels - states[-1].shape[1])
            states.append(conv(torch.cat([norm(states[-1]), nothing], dim=1), self.edges).relu())
        return [*states, labels]

    def output(self, layer: int, states: list[Tensor]) -> Tensor:
        inputs = torch.cat([norm(states[layer]), norm(states[layer + 2])], dim=1)
        return self.convs[layer](inputs, self.edges).relu()

    def groups(self) -> list[list[int]]:
        layers = list(range(len(self.convs)))
        return [layers[0::2], layers[1::2]] if self.alternating else [layers]

    def epoch(self) -> float:
        losses = []
        for group in self.groups():
            before = list(self.states)
            for layer in group:
                z = self.output(layer, before)
                self.states[layer + 1] = z.detach()
                losses.append(self.minimise(layer, z))
        return sum(losses) / len(losses)

    @torch.no_grad()
    def probabilities(self, index: Tensor) -> Tensor:
        states, total = self.start(), 0.0
        for step in range(10):
            for group in self.groups():
                before = list(states)
                for layer in group:
                    states[layer + 1] = self.output(layer, before)
            if 2 <= step <= 9:
                total = total + sum(self.logits(z)[index].softmax(1) for z in states[1:-1])
        return total / (8 * len(self.convs))


class TopToLossReference(TopDownReference):
    @torch.no_grad()
    def start(self) -> list[Tensor]:
        """The features, then the layers' normalised outputs, of a pass in which raw ones are handed on."""
        states, h = [self.x], self.x
        for conv in self.convs:
            h = conv(h, self.edges).relu()
            states.append(norm(h))
        return states

    def mean(self, layer: int, z: Tensor, states: list[Tensor]) -> Tensor:
        return torch.stack([z, *(norm(state) for state in states[layer + 2 :])]).mean(0)

    def epoch(self) -> float:
        before, losses = list(self.states), []
        for layer, conv in enumerate(self.convs):
            z = conv(norm(before[layer]), self.edges).relu()
            self.states[layer + 1] = norm(z.detach())
            losses.append(self.minimise(layer, self.mean(layer, z, before), clip=1.0))
        return sum(losses) / len(losses)

    @torch.no_grad()
    def probabilities(self, index: Tensor) -> Tensor:
        states, total = self.start(), 0.0
        for layer, conv in enumerate(self.convs):
            z = conv(norm(states[layer]), self.edges).relu()
            total = total + self.logits(self.mean(layer, z, states))[index].softmax(1)
        return total / len(self.convs)
