"""ForwardGNN for node classification, single forward (SF): no negative input, one pass an epoch.

Park et al., ICLR 2024, arXiv 2403.11004.
Letters: N nodes, F features, C classes, H hidden width, L layers, n nodes of a split. The augmented graph
has N + C nodes, the virtual ones last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional

from runner.contracts import Method, NodeClassification
from runner.methods.graph.forwardgnn.labels import label_rows_with_virtual, with_labels
from runner.methods.graph.forwardgnn.layer import FixedInputLayer, unit_rows
from runner.methods.graph.forwardgnn.virtual_nodes import (
    VirtualNodeNetwork,
    augmented_graph,
    class_logits,
    with_virtual,
)
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.sparse import Features, compact, stack
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class ForwardGNN(Method[NodeClassification]):
    """Each layer has its own loss and optimiser; its input is the frozen output of the layer below.

    For each layer l = 1..L, on the graph with one virtual node v_c a class c::

        z = ReLU(conv_l(norm(h_{l-1})))        logits_ic = z_i . z_{v_c} / tau
        minimise CE(logits_i, y_i) over the training nodes i by conv_l's parameters
        h_l = z, frozen

    Prediction: argmax_c sum_l softmax_c(logits of layer l).
    """

    epochs: PositiveInt
    """At most so many for each layer."""
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    patience: PositiveInt
    """Validations without a strictly better score after which a layer's training ends."""
    validate_every: PositiveInt
    """Epochs from one validation to the next."""
    temperature: PositiveFloat
    """tau."""
    edge_direction: Literal["bidirection", "unidirection"]
    """Edges between training and virtual nodes: both ways, or to the virtual node only (appendix F.5)."""
    append_label: Literal["none", "input", "all"]
    """Append labels (training nodes: one-hot, virtual node c: c, others: 1/C) to no layer's input, the first's, all."""

    def build(self, task: NodeClassification, run: Run) -> None:
        """L layers, all H wide, and the virtual nodes' features, drawn once from N(0, 1)."""
        # Drawn first and bottom-up: a shallower run starts as the lower layers of a deeper one.
        virtual_features = torch.randn(task.num_classes, task.num_features, dtype=task.x.dtype).to(run.device)
        hidden = run.backbone.hidden_channels
        widths = [task.num_features] + [hidden] * (run.backbone.num_layers - 1)
        layers = [
            run.block(width + (task.num_classes if self._appends(depth) else 0), hidden)
            for depth, width in enumerate(widths)
        ]
        self.model: VirtualNodeNetwork = VirtualNodeNetwork(virtual_features, layers)

    def fit(self, task: NodeClassification, run: Run) -> None:
        """Bottom-up: train a layer, freeze it, compute its output once."""
        graph = augmented_graph(task, self.edge_direction)
        lower_layers = task.x.new_zeros(task.val.numel(), task.num_classes)
        x = self._first_input(task)
        for number, block in enumerate(self.model.layers, start=1):
            layer = FixedInputLayer(block, x, graph)
            self._fit_layer(layer, f"layer{number}", lower_layers, task, run)
            with torch.no_grad():
                z = layer()
                lower_layers = lower_layers + self._logits(z)[task.val].softmax(1)
                x = self._next_input(z, task, number)

    def _fit_layer(
        self, layer: FixedInputLayer, name: str, lower_layers: Tensor, task: NodeClassification, run: Run
    ) -> None:
        """Train one layer; ``lower_layers`` [n, C] is the prediction of those below for the validation nodes."""
        optimizer = torch.optim.Adam(layer.block.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
        run.track(model=layer.block, optimizer=optimizer)
        train_z = layer.at(with_virtual(task.train, task))
        val_z = layer.at(with_virtual(task.val, task))
        train_y, val_y = task.y[task.train], task.y[task.val]
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
            loss = functional.cross_entropy(self._logits(train_z()), train_y)
            loss.backward()
            optimizer.step()
            run.log(loss=loss.detach())
            if epoch.validates:
                with torch.no_grad():
                    prediction = lower_layers + self._logits(val_z()).softmax(1)
                run.log(val_acc=accuracy(prediction, val_y))
        optimizer.zero_grad()  # frees them: only the layer in training holds gradients

    @torch.no_grad()
    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        """One pass over the same graph. Depth l < L comes out on the way: ``test_acc/depth1`` and so on."""
        graph = augmented_graph(task, self.edge_direction)
        prediction = task.x.new_zeros(task.num_nodes, task.num_classes)
        metrics: dict[str, float] = {}
        x = self._first_input(task)
        for depth, block in enumerate(self.model.layers, start=1):
            z = FixedInputLayer(block, x, graph)()
            prediction += self._logits(z).softmax(1)
            x = self._next_input(z, task, depth)
            for split, index in (("test", task.test), ("val", task.val)):
                metrics[f"{split}_acc/depth{depth}"] = accuracy(prediction[index], task.y[index])
                metrics[f"{split}_acc"] = metrics[f"{split}_acc/depth{depth}"]
        probability = prediction[task.test] / len(self.model.layers)
        run.save("predictions", {"index": task.test, "label": task.y[task.test], "probability": probability})
        return metrics

    def _first_input(self, task: NodeClassification) -> Features:
        """norm([x; virtual features]) [N + C, F]."""
        if self._appends(0):
            return with_labels(stack(compact(task.x), self.model.virtual_features), label_rows_with_virtual(task))
        return stack(unit_rows(compact(task.x)), unit_rows(self.model.virtual_features))

    def _next_input(self, z: Tensor, task: NodeClassification, depth: int) -> Features:
        """norm(z) for the output z of layer ``depth``, the first being 1."""
        return with_labels(z, label_rows_with_virtual(task)) if self._appends(depth) else unit_rows(z)

    def _appends(self, depth: int) -> bool:
        """Whether the layer on top of ``depth`` others is given labels."""
        return self.append_label == "all" or (self.append_label == "input" and depth == 0)

    def _logits(self, z: Tensor) -> Tensor:
        """[n, C] for outputs z [n + C, H]."""
        return class_logits(z, self.model.virtual_features.shape[0], self.temperature)
