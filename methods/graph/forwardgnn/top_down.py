"""ForwardGNN for node classification with top-down signals: upper layers inform lower ones, without back-propagation.

Park et al., ICLR 2024, arXiv 2403.11004.
Letters: N nodes, F features, C classes, H hidden width, L layers, n nodes of a split. The augmented graph
has N + C nodes, the virtual ones last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import Method, NodeClassification
from runner.errors import BadInput
from runner.methods.graph.forwardgnn.labels import label_rows_with_virtual
from runner.methods.graph.forwardgnn.layer import FixedInputLayer, unit_rows
from runner.methods.graph.forwardgnn.layer_states import LayerStates, input_widths, update_groups
from runner.methods.graph.forwardgnn.virtual_nodes import (
    VirtualNodeNetwork,
    augmented_graph,
    class_logits,
    with_virtual,
)
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.sparse import compact, stack
from runner.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class TopDown(Method[NodeClassification]):
    """Single forward, but all layers are trained at once: a time step t = 1, 2, … is an epoch.

    Each layer has its own loss and optimiser. What it reads of the others are their states of the time
    step before (s, without gradients); its own state is its output before its parameters' step. On the
    graph with one virtual node v_c a class c, with s_0 the features:

    to_input, for layers 1, 3, …, and then with their new states for 2, 4, … (``alternating``)::

        z_j = ReLU(conv_j([norm(s_{j-1}) | norm(s_{j+1})]))     s_j <- z_j
        minimise CE(z_ji . z_{j v_c} / tau, y_i) over the training nodes i

    where s_{L+1} are the labels: one-hot for training and virtual nodes, 1/C for all others. States begin
    as one pass upwards with zeros for all that comes from above. Prediction: states of its own, begun
    likewise; argmax_c of the softmax of all layers, summed over the time steps from ``first_test_step`` on.

    to_loss, for all layers at once::

        z_j = ReLU(conv_j(norm(s_{j-1})))                       s_j <- norm(z_j)
        m_j = mean(z_j, s_{j+1}, …, s_L)
        minimise CE(m_ji . m_{j v_c} / tau, y_i) over the training nodes i

    States begin as one pass upwards, from the features as they are, in which layers hand on their outputs
    as they are. Prediction: states of the same kind; argmax_c sum_j softmax_c(m_ji . m_{j v_c} / tau).
    """

    variant: Literal["to_input", "to_loss"]
    epochs: PositiveInt
    """Time steps, at most."""
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    patience: PositiveInt
    """Validations without a strictly better score after which training ends."""
    validate_every: PositiveInt
    """Epochs from one validation to the next."""
    temperature: PositiveFloat
    """tau."""
    edge_direction: Literal["bidirection", "unidirection"]
    """Edges between training and virtual nodes: both ways, or to the virtual node only."""
    alternating: bool
    """Of to_input."""
    test_steps: PositiveInt
    """Of to_input: time steps of inference, numbered from 0."""
    first_test_step: NonNegativeInt
    clip_norm: PositiveFloat
    """Of to_loss: greatest norm of a layer's gradient."""

    def __post_init__(self) -> None:
        if self.first_test_step >= self.test_steps:
            raise BadInput(
                f"method.first_test_step={self.first_test_step}: expected less than test_steps={self.test_steps}"
            )

    def build(self, task: NodeClassification, run: Run) -> None:
        """L layers, all H wide, and the virtual nodes' features, drawn once from N(0, 1)."""
        virtual_features = torch.randn(task.num_classes, task.num_features, dtype=task.x.dtype).to(run.device)
        hidden, num_layers = run.backbone.hidden_channels, run.backbone.num_layers
        if self.variant == "to_input":
            widths = input_widths(task.num_features, hidden, num_layers, task.num_classes)
        else:
            widths = [task.num_features] + [hidden] * (num_layers - 1)
        layers = [run.block(width, hidden) for width in widths]
        self.model: VirtualNodeNetwork = VirtualNodeNetwork(virtual_features, layers)

    def fit(self, task: NodeClassification, run: Run) -> None:
        """One full-batch step of every layer an epoch."""
        layers = self._layers(task, run)
        layers.start()
        optimizers = [
            torch.optim.Adam(block.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)
            for block in self.model.layers
        ]
        # The states go on from where they are: they belong to no best model, but a resumed run needs them.
        numbered = {f"optimizer{number}": optimizer for number, optimizer in enumerate(optimizers, start=1)}
        run.track(model=self.model, states=layers, **numbered)
        for epoch in run.epochs(
            self.epochs,
            name="train",
            monitor="val_acc",
            mode="max",
            patience=self.patience,
            every=self.validate_every,
            restore_best=True,
        ):
            run.log(loss=layers.step(optimizers))
            if epoch.validates:
                run.log(val_acc=accuracy(layers.predict(task.val), task.y[task.val]))
        for optimizer in optimizers:
            optimizer.zero_grad()

    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        """``test_acc`` and ``val_acc``, from states of their own."""
        layers = self._layers(task, run)
        test, val = layers.predict(torch.cat([task.test, task.val])).split([task.test.numel(), task.val.numel()])
        run.save("predictions", {"index": task.test, "label": task.y[task.test], "probability": test})
        return {"test_acc": accuracy(test, task.y[task.test]), "val_acc": accuracy(val, task.y[task.val])}

    def _layers(self, task: NodeClassification, run: Run) -> TopToInput | TopToLoss:
        if self.variant == "to_loss":
            return TopToLoss(self, task)
        return TopToInput(self, task, run.backbone.hidden_channels)


class TrainedTogether(ABC):
    """The layers of a network that is being trained, or asked, with what they remember of one another."""

    def __init__(self, method: TopDown, task: NodeClassification) -> None:
        self.method = method
        self.task = task
        self.blocks = list(method.model.layers)
        self.graph = augmented_graph(task, method.edge_direction)
        self.train_rows = with_virtual(task.train, task)
        self.train_y = task.y[task.train]

    @abstractmethod
    def start(self) -> None:
        """Begin the states."""

    @abstractmethod
    def step(self, optimizers: Sequence[torch.optim.Optimizer]) -> Tensor:
        """One time step of every layer: a step of its optimiser, and its new state. The mean of their losses."""

    @abstractmethod
    def predict(self, index: Tensor) -> Tensor:
        """Class probabilities [n, C] of the nodes ``index`` [n], from states of their own."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The states, for a resumed run."""

    @abstractmethod
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put them back."""

    def logits(self, z: Tensor) -> Tensor:
        """[n, C] for vectors z [n + C, H]."""
        return class_logits(z, self.task.num_classes, self.method.temperature)


class TopToInput(TrainedTogether):
    """A layer's input is the states below and above it."""

    def __init__(self, method: TopDown, task: NodeClassification, hidden: int) -> None:
        super().__init__(method, task)
        bottom = stack(unit_rows(compact(task.x)), unit_rows(method.model.virtual_features))
        top = unit_rows(label_rows_with_virtual(task))
        self.states = LayerStates(self.blocks, hidden, self.graph, bottom, top)
        self.groups = update_groups(len(self.blocks), method.alternating)

    def start(self) -> None:
        """One pass upwards, with zeros for all that comes from above."""
        self.states.start()

    def step(self, optimizers: Sequence[torch.optim.Optimizer]) -> Tensor:
        """Group after group."""
        losses = []
        for group in self.groups:
            outputs = {}
            for layer in group:
                z = self.states.output(layer)
                loss = functional.cross_entropy(self.logits(z.index_select(0, self.train_rows)), self.train_y)
                optimizers[layer].zero_grad()
                loss.backward()
                optimizers[layer].step()
                outputs[layer] = z.detach()
                losses.append(loss.detach())
            self.states.store(outputs)
        return torch.stack(losses).mean()

    @torch.no_grad()
    def predict(self, index: Tensor) -> Tensor:
        """The mean of all layers' over the time steps that count."""
        rows = with_virtual(index, self.task)
        states = self.states.for_inference()
        probabilities = []
        for step in range(self.method.test_steps):
            for group in self.groups:
                outputs = {layer: states.output(layer) for layer in group}
                states.store(outputs)
                if step >= self.method.first_test_step:
                    probabilities += [self.logits(z[rows]).softmax(1) for z in outputs.values()]
        return torch.stack(probabilities).mean(0)

    def state_dict(self) -> dict[str, Any]:
        """The states."""
        return self.states.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put them back."""
        self.states.load_state_dict(state_dict)


class TopToLoss(TrainedTogether):
    """A layer's input is the state below it; its loss compares means of its output and the states above it.

    norm(s_j) is s_j, since states are normalised. The topmost state is read by losses only, and is kept
    only where they read it.
    """

    def __init__(self, method: TopDown, task: NodeClassification) -> None:
        super().__init__(method, task)
        virtual = method.model.virtual_features
        x = compact(task.x)
        self.first = FixedInputLayer(self.blocks[0], stack(unit_rows(x), unit_rows(virtual)), self.graph)
        self.first_raw = FixedInputLayer(self.blocks[0], stack(x, virtual), self.graph)
        self.states: list[Tensor] = []

    def start(self) -> None:
        """One pass upwards from the raw features."""
        self.states = self._upwards(self.train_rows)

    def step(self, optimizers: Sequence[torch.optim.Optimizer]) -> Tensor:
        """From the top, which is no order among them: every layer reads states of the step before only."""
        states, losses = [], []
        for layer, z, compared in self._outputs(self.states, self.train_rows, everywhere=True):
            block, optimizer = self.blocks[layer], optimizers[layer]
            loss = functional.cross_entropy(self.logits(compared), self.train_y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(block.parameters(), self.method.clip_norm)
            optimizer.step()
            states.append(unit_rows(z.detach()))
            losses.append(loss.detach())
        self.states = states[::-1]
        return torch.stack(losses).mean()

    @torch.no_grad()
    def predict(self, index: Tensor) -> Tensor:
        """The mean of all layers', each run once more on the states of a pass upwards."""
        rows = with_virtual(index, self.task)
        outputs = self._outputs(self._upwards(rows), rows, everywhere=False)
        return torch.stack([self.logits(compared).softmax(1) for _, _, compared in outputs]).mean(0)

    @torch.no_grad()
    def _upwards(self, rows: Tensor) -> list[Tensor]:
        """States of one pass upwards, in which raw outputs are handed on."""
        layer, states = self.first_raw, []
        for block in self.blocks[1:]:
            z = layer()
            states.append(unit_rows(z))
            layer = FixedInputLayer(block, z, self.graph)
        return [*states, unit_rows(layer.at(rows)())]

    def _outputs(self, states: list[Tensor], rows: Tensor, *, everywhere: bool) -> Iterator[tuple[int, Tensor, Tensor]]:
        """From the top: each layer (from 0), its output z, and m_j at ``rows``.

        z is [N + C, H] if it is wanted ``everywhere``, but for the topmost one, which is at ``rows`` only.
        """
        last = len(self.blocks) - 1
        above = states[last].new_zeros(())
        for layer in range(last, -1, -1):
            fixed = FixedInputLayer(self.blocks[layer], states[layer - 1], self.graph) if layer > 0 else self.first
            whole = everywhere and (layer < last or layer == 0)
            z = fixed() if whole else fixed.at(rows)()
            compared = (z.index_select(0, rows) if whole else z) + above
            yield layer, z, compared / (last - layer + 1)
            above = above + (states[layer] if layer == last else states[layer].index_select(0, rows))

    def state_dict(self) -> dict[str, Any]:
        """The states."""
        return {"states": self.states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put them back."""
        self.states = state_dict["states"]
