"""ForwardGNN for node classification, forward-forward: a layer tells right labels from wrong ones by its goodness.

Park et al., ICLR 2024, arXiv 2403.11004, after Hinton, arXiv 2212.13345.
Letters: N nodes, F features, C classes, H hidden width, L layers, n nodes of a split, P passes, M nodes of
a pass (N, or N + C with virtual nodes, which are last).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import Method, NodeClassification
from runner.methods.graph.forwardgnn.labels import label_rows, one_hot, with_several_labels
from runner.methods.graph.forwardgnn.layer import FixedInputLayer, unit_rows
from runner.methods.graph.forwardgnn.virtual_nodes import VirtualNodeNetwork, virtual_edges
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features, Repeated, compact, stack
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(frozen=True, eq=False)
class Passes:
    """P passes over the network, computed as one: copies of a graph with edges, features or both of their own."""

    graph: Graph
    """P M nodes; no edge leaves its copy."""
    x: Features
    """Input of the layer to come, [P M, F]."""
    nodes: Tensor
    """The nodes [n] whose goodness is read, numbered as in the first copy."""
    count: int
    """P."""

    @property
    def size(self) -> int:
        """M."""
        return self.graph.num_nodes // self.count

    @property
    def rows(self) -> Tensor:
        """The same nodes in every pass: [P n]."""
        starts = self.size * torch.arange(self.count, device=self.nodes.device)
        return (starts.unsqueeze(1) + self.nodes).flatten()

    def goodness(self, z: Tensor) -> Tensor:
        """g [P, n]: the sum of squares of each row of z [P n, H]."""
        return z.square().sum(1).unflatten(0, (self.count, -1))

    def onward(self, x: Features) -> Passes:
        """The same passes, at the next layer."""
        return Passes(self.graph, x, self.nodes, self.count)


@dataclass(kw_only=True, eq=False)
class ForwardForward(Method[NodeClassification]):
    """Each layer has its own loss and optimiser; its input is the frozen output of the layer below.

    One positive pass, in which the training nodes i have their label, and K = C - 1 negative ones, in
    which they have each of the wrong labels once, in an order drawn before training. For l = 1..L::

        z = ReLU(conv_l(norm(h_{l-1})))        g_i = sum_k z_ik^2
        bce:    minimise mean_i -log sigmoid(g+_i - theta) + mean_{k,i} -log sigmoid(theta - g-_ki)
        symba:  minimise mean_{k,i} -log sigmoid(alpha (g+_i - g-_ki))
        h_l = z, frozen

    A label is appended to the features (la), or is an edge to a virtual node (vn). Prediction: argmax_c
    sum_l (mean_k z_ik^2 - theta) of the pass in which all nodes to be classified have label c. The sum in
    training and the mean here are the original's, and so is this: with virtual nodes, all training passes
    go on with the positive pass's output, while here each pass goes on with its own.
    """

    variant: Literal["la", "vn"]
    """la: label appending (FF-LA); vn: virtual nodes (FF-VN)."""
    objective: Literal["bce", "symba"]
    """symba: arXiv 2303.08418."""
    epochs: PositiveInt
    """At most so many for each layer."""
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    patience: PositiveInt
    """Validations without a strictly better score after which a layer's training ends."""
    validate_every: PositiveInt
    """Epochs from one validation to the next."""
    theta: NonNegativeFloat
    alpha: PositiveFloat
    """Of symba."""
    edge_direction: Literal["bidirection", "unidirection"]
    """Of vn: edges between nodes and virtual nodes go both ways, or to the virtual node only."""

    def build(self, task: NodeClassification, run: Run) -> None:
        """L layers, all H wide, and the virtual nodes' features, drawn once from N(0, 1); la has none of these."""
        virtual_nodes = task.num_classes if self.variant == "vn" else 0
        virtual_features = torch.randn(virtual_nodes, task.num_features, dtype=task.x.dtype).to(run.device)
        first = task.num_features + (task.num_classes if self.variant == "la" else 0)
        hidden = run.backbone.hidden_channels
        widths = [first] + [hidden] * (run.backbone.num_layers - 1)
        layers = [run.block(width, hidden) for width in widths]
        self.model: VirtualNodeNetwork = VirtualNodeNetwork(virtual_features, layers)

    def fit(self, task: NodeClassification, run: Run) -> None:
        """Bottom-up: train a layer, freeze it, compute its outputs once."""
        wrong = wrong_labels(task.y[task.train], task.num_classes, run.generator)
        training = self._passes(task, [], task.train, torch.cat([task.y[task.train].unsqueeze(0), wrong]))
        validation = self._passes_of_classes(task, [task.train], task.val)
        lower_layers = task.x.new_zeros(task.val.numel(), task.num_classes)
        for number, block in enumerate(self.model.layers, start=1):
            layer = FixedInputLayer(block, training.x, training.graph)
            val_layer = FixedInputLayer(block, validation.x, validation.graph)
            self._fit_layer(
                block, f"layer{number}", (layer, training), (val_layer, validation), lower_layers, task, run
            )
            with torch.no_grad():
                z = val_layer()
                lower_layers = lower_layers + self._scores(z[validation.rows], validation)
                validation = validation.onward(unit_rows(z))
                training = training.onward(self._next_training_input(layer, training))

    def _next_training_input(self, layer: FixedInputLayer, training: Passes) -> Features:
        if self.variant == "la":
            return unit_rows(layer())
        positive = torch.arange(training.size, device=training.nodes.device)
        return Repeated(unit_rows(layer.at(positive)()), training.count)

    def _fit_layer(
        self,
        block: nn.Module,
        name: str,
        train: tuple[FixedInputLayer, Passes],
        val: tuple[FixedInputLayer, Passes],
        lower_layers: Tensor,
        task: NodeClassification,
        run: Run,
    ) -> None:
        """Train one layer; ``lower_layers`` [n, C] are the scores of those below for the validation nodes."""
        optimizer = torch.optim.Adam(block.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        run.track(model=block, optimizer=optimizer)
        train_z, val_z = (layer.at(passes.rows) for layer, passes in (train, val))
        for epoch in run.epochs(
            self.epochs,
            name=name,
            monitor="val_acc",
            mode="max",
            patience=self.patience,
            every=self.validate_every,
            restore_best=True,
        ):
            optimizer.zero_grad()
            loss = self.loss(train[1].goodness(train_z()))
            loss.backward()
            optimizer.step()
            run.log(loss=loss.detach())
            if epoch.validates:
                with torch.no_grad():
                    scores = lower_layers + self._scores(val_z(), val[1])
                run.log(val_acc=accuracy(scores, task.y[task.val]))
        optimizer.zero_grad()  # frees them: only the layer in training holds gradients

    def loss(self, goodness: Tensor) -> Tensor:
        """The objective for the goodness [C, n] of the positive pass, first, and of the negative ones."""
        positive, negative = goodness[0], goodness[1:]
        if self.objective == "symba":
            return -functional.logsigmoid(self.alpha * (positive - negative)).mean()
        attract = -functional.logsigmoid(positive - self.theta).mean()
        repel = -functional.logsigmoid(self.theta - negative).mean()
        return attract + repel

    @torch.no_grad()
    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        """C passes for the test and the validation nodes each. Depth l < L comes out on the way: ``test_acc/depth1``.

        For the test nodes, validation nodes have their labels, as in the original.
        """
        metrics: dict[str, float] = {}
        for split, known, index in (
            ("val", [task.train], task.val),
            ("test", [task.train, task.val], task.test),
        ):
            passes = self._passes_of_classes(task, known, index)
            scores = task.x.new_zeros(index.numel(), task.num_classes)
            for depth, block in enumerate(self.model.layers, start=1):
                z = FixedInputLayer(block, passes.x, passes.graph)()
                scores += self._scores(z[passes.rows], passes)
                passes = passes.onward(unit_rows(z))
                metrics[f"{split}_acc/depth{depth}"] = accuracy(scores, task.y[index])
            metrics[f"{split}_acc"] = accuracy(scores, task.y[index])
        run.save("predictions", {"index": task.test, "label": task.y[task.test], "score": scores})
        return metrics

    def _scores(self, z: Tensor, passes: Passes) -> Tensor:
        """mean_k z_ik^2 - theta [n, C] for outputs z [C n, H] of the passes of all classes."""
        return passes.goodness(z).T / z.shape[1] - self.theta

    def _passes_of_classes(self, task: NodeClassification, known: Sequence[Tensor], index: Tensor) -> Passes:
        """Pass c: the nodes ``index`` [n] have label c, and ``known`` ones their own."""
        classes = torch.arange(task.num_classes, device=index.device)
        return self._passes(task, known, index, classes.unsqueeze(1).expand(-1, index.numel()))

    def _passes(self, task: NodeClassification, known: Sequence[Tensor], index: Tensor, labels: Tensor) -> Passes:
        """Pass p: the nodes ``index`` [n] have the labels ``labels[p]`` [P, n], ``known`` ones their own."""
        with_label = torch.cat([*known, index[:0]])
        x = compact(task.x)
        if self.variant == "la":
            rows = label_rows(task, with_label).repeat(len(labels), 1, 1)
            rows[:, index] = one_hot(labels, task)
            graph = copies([task.edge_index] * len(labels), task.num_nodes, task.x.dtype)
            return Passes(graph, with_several_labels(x, rows), index, len(labels))
        shared = [task.edge_index, self._virtual_edges(task, with_label, task.y[with_label])]
        edges = [torch.cat([*shared, self._virtual_edges(task, index, row)], dim=1) for row in labels]
        features = stack(unit_rows(x), unit_rows(self.model.virtual_features))
        graph = copies(edges, task.num_nodes + task.num_classes, task.x.dtype)
        return Passes(graph, Repeated(features, len(labels)), index, len(labels))

    def _virtual_edges(self, task: NodeClassification, nodes: Tensor, classes: Tensor) -> Tensor:
        return virtual_edges(nodes, classes, task.num_nodes, self.edge_direction)


def wrong_labels(y: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
    """[C - 1, n]: for each of the labels y [n], all other classes, in a random order of its own."""
    draws = torch.rand(y.numel(), num_classes - 1, generator=generator).to(y.device)
    return (y + 1 + draws.argsort(1).T) % num_classes


def copies(edges: Sequence[Tensor], num_nodes: int, dtype: torch.dtype) -> Graph:
    """Graphs of M = ``num_nodes`` nodes each as one: node i of graph p is node p M + i."""
    shifted = [edge_index + number * num_nodes for number, edge_index in enumerate(edges)]
    return Graph(torch.cat(shifted, dim=1), len(edges) * num_nodes, dtype)
