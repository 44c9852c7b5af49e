"""ForwardGNN for link prediction with top-down signals: CE-Top-To-Input.

Park et al., ICLR 2024, arXiv 2403.11004.
Letters: N nodes, F features, H hidden width, L layers, P pairs of a split (the positive ones first).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from runner.contracts import LinkPrediction, LinkSplit, Method
from runner.errors import BadInput
from runner.methods.graph.forwardgnn.layer import unit_rows
from runner.methods.graph.forwardgnn.layer_states import LayerStates, input_widths, update_groups
from runner.methods.graph.forwardgnn.link import LayerwiseNetwork
from runner.methods.ops.graph import Graph
from runner.methods.ops.link_scores import inner_products, roc_auc
from runner.methods.ops.sparse import compact
from runner.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class LinkTopDown(Method[LinkPrediction]):
    """All layers are trained at once: a time step t = 1, 2, … is an epoch.

    Each layer has its own loss and optimiser. What it reads of the others are their states (s, without
    gradients); its own state is its output before its parameters' step. With s_0 the features, for layers
    1, 3, …, and then with their new states for 2, 4, … (``alternating``)::

        z_j = ReLU(conv_j([norm(s_{j-1}) | norm(s_{j+1})]))     s_j <- z_j
        minimise the mean BCE(sigmoid(z_ja . z_jb), label) over the training pairs (a, b)

    Nothing is above the top layer. States begin as one pass upwards with zeros for all that comes from
    above. The score of a pair is the mean of sigmoid(z_ja . z_jb) over all layers and the time steps from
    ``first_test_step`` on, with states of their own, along the edges that the split may see.
    """

    epochs: PositiveInt
    """Time steps, at most."""
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    patience: PositiveInt
    """Validations without a strictly better score after which training ends."""
    validate_every: PositiveInt
    """Epochs from one validation to the next."""
    alternating: bool
    test_steps: PositiveInt
    """Time steps of inference, numbered from 0."""
    first_test_step: NonNegativeInt

    def __post_init__(self) -> None:
        if self.first_test_step >= self.test_steps:
            raise BadInput(
                f"method.first_test_step={self.first_test_step}: expected less than test_steps={self.test_steps}"
            )

    def build(self, task: LinkPrediction, run: Run) -> None:
        """L layers, all H wide."""
        hidden, num_layers = run.backbone.hidden_channels, run.backbone.num_layers
        widths = input_widths(task.num_features, hidden, num_layers, top=0)
        self.model: LayerwiseNetwork = LayerwiseNetwork([run.block(width, hidden) for width in widths])

    def fit(self, task: LinkPrediction, run: Run) -> None:
        """One full-batch step of every layer an epoch."""
        states = self._states("train", task, run)
        states.start()
        pairs, labels, val_labels = task.pairs("train"), task.labels("train"), task.labels("val")
        optimizers = [
            torch.optim.Adam(block.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
            for block in self.model.layers
        ]
        # The states go on from where they are: they belong to no best model, but a resumed run needs them.
        numbered = {f"optimizer{number}": optimizer for number, optimizer in enumerate(optimizers, start=1)}
        run.track(model=self.model, states=states, **numbered)
        for epoch in run.epochs(
            self.epochs,
            name="train",
            monitor="val_auc",
            mode="max",
            patience=self.patience,
            every=self.validate_every,
            restore_best=True,
        ):
            losses = []
            for group in update_groups(len(optimizers), self.alternating):
                outputs = {}
                for layer in group:
                    z = states.output(layer)
                    loss = functional.binary_cross_entropy_with_logits(inner_products(z, pairs), labels)
                    optimizers[layer].zero_grad()
                    loss.backward()
                    optimizers[layer].step()
                    outputs[layer] = z.detach()
                    losses.append(loss.detach())
                states.store(outputs)
            run.log(loss=torch.stack(losses).mean())
            if epoch.validates:  # along the same edges as the training
                run.log(val_auc=roc_auc(self._scores(states, task.pairs("val")), val_labels))
        for optimizer in optimizers:
            optimizer.zero_grad()

    def evaluate(self, task: LinkPrediction, run: Run) -> dict[str, float]:
        """``test_auc`` and ``val_auc``, each along its own edges."""
        scores = {split: self._scores(self._states(split, task, run), task.pairs(split)) for split in ("test", "val")}
        run.save("predictions", {"pairs": task.pairs("test"), "label": task.labels("test"), "score": scores["test"]})
        return {f"{split}_auc": roc_auc(scores[split], task.labels(split)) for split in ("test", "val")}

    def _states(self, split: LinkSplit, task: LinkPrediction, run: Run) -> LayerStates:
        graph = Graph(task.message_edges(split), task.num_nodes, task.x.dtype)
        bottom = unit_rows(compact(task.x))
        return LayerStates(list(self.model.layers), run.backbone.hidden_channels, graph, bottom, top=None)

    @torch.no_grad()
    def _scores(self, states: LayerStates, pairs: Tensor) -> Tensor:
        """Scores [P] of pairs, in float64: float32's sigmoid is 1 from 17 on, and ties cost AUC."""
        states = states.for_inference()
        scores = []
        for step in range(self.test_steps):
            for group in update_groups(len(self.model.layers), self.alternating):
                outputs = {layer: states.output(layer) for layer in group}
                states.store(outputs)
                if step >= self.first_test_step:
                    scores += [inner_products(z, pairs).double().sigmoid() for z in outputs.values()]
        return torch.stack(scores).mean(0)
