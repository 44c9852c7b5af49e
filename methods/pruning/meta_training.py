"""Training a metanetwork: its output shall keep the accuracy and have many small channels (section 3.3 of arXiv
2506.12041).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from runner.contracts import ImageClassification, Method
from runner.errors import BadInput
from runner.methods.ops.minibatches import minibatches
from runner.methods.pruning.channel_groups import GROUP_L2, ChannelGroups, spread
from runner.methods.pruning.channel_pruning import Schedule, compacted
from runner.methods.pruning.data_model import network_of
from runner.methods.pruning.metanetwork import Ends, Metanetwork
from runner.methods.pruning.network_graph import NetworkGraph
from runner.methods.pruning.training import Recipe, accuracy_of
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, RunReference

if TYPE_CHECKING:
    from runner.run import Run


class Chosen(nn.Module):
    """A metanetwork, the epoch that it is of (0: change nothing), and its mean validation accuracy after pruning."""

    epoch: Tensor
    score: Tensor

    def __init__(self, metanetwork: Metanetwork) -> None:
        super().__init__()
        self.metanetwork = metanetwork
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.register_buffer("score", torch.zeros((), dtype=torch.float64))


class Subject:
    """A network that a metanetwork is trained on, or applied to: its features are read once."""

    def __init__(self, network: nn.Module, classifier: Literal["exact", "transposed"]) -> None:
        """``network`` is put into evaluation mode and stays as it is."""
        self.network = network.eval()
        self.classifier = classifier
        self.graph = NetworkGraph(network)
        self.nodes, self.edges = self.graph.features()
        self.ends = Ends.of(self.graph.index, self.graph.num_nodes)

    def changed(self, metanetwork: nn.Module) -> dict[str, Tensor]:
        """theta' = M(theta), by name, differentiable in M."""
        return self.graph.weights(*metanetwork(self.nodes, self.edges, self.ends), self.classifier)


@dataclass(kw_only=True, eq=False)
class MetaTraining(Method[ImageClassification]):
    """One step for each data model in each epoch, along

    dL/dtheta' = d/dtheta' (mean cross-entropy of theta' on the training images) + regulariser * push(theta'),

    carried back through theta' = M(theta) into M. Networks run in evaluation mode, with the statistics of theta.
    """

    data_models: list[RunReference]
    """Runs of ``data_model``, on the same images."""
    width: PositiveInt
    layers: PositiveInt
    res_ratio: NonNegativeFloat
    """Of the decoded to the input that it is added to."""
    classifier: Literal["exact", "transposed"]
    """How the linear layers are written back; ``transposed``: in the released code's wrong order."""
    epochs: PositiveInt
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    milestones: list[PositiveInt]
    """Epochs after which the learning rate falls to a tenth."""
    regulariser: NonNegativeFloat
    """Strength of the push towards small channels, beside the *mean* cross-entropy."""
    alpha: PositiveFloat
    """How much stronger the least important channel of a group is pushed than its most important one."""
    batch_size: PositiveInt
    """Images of a batch of the cross-entropy; a step sees all batches."""
    keep: Literal["chosen", "last"]
    """``chosen``: the epoch of the best validation accuracy of the data models after pruning, or no change at all;
    ``last``, and where no images were held out: the last epoch."""
    every: PositiveInt
    """Epochs between those that may be chosen."""
    speedups: list[PositiveFloat]
    """At which a choice is judged; the rest is the finetuning before it."""
    steps: PositiveInt | None
    finetune_epochs: PositiveInt
    finetune_batch_size: PositiveInt
    finetune_lr: PositiveFloat
    finetune_momentum: Probability
    finetune_weight_decay: NonNegativeFloat
    finetune_milestones: list[PositiveInt]

    def build(self, task: ImageClassification, run: Run) -> None:
        """A metanetwork for the data models' features.

        Raises:
            BadInput: there is no data model, or their features are not alike.
        """
        if not self.data_models:
            raise BadInput("method.data_models=[]: at least one run of method=data_model is needed")
        networks = [network_of(run.reference(f"data_models.{n}"), task) for n in range(len(self.data_models))]
        self.subjects = [Subject(network, self.classifier) for network in networks]
        self.sample = task.sample()
        widths = {(one.graph.node_features, one.graph.edge_features) for one in self.subjects}
        if len(widths) > 1:
            raise BadInput(
                f"method.data_models: their nodes and edges have {sorted(widths)} features; one kind is needed"
            )
        ((nodes, edges),) = widths
        metanetwork = Metanetwork(nodes, edges, width=self.width, layers=self.layers, res_ratio=self.res_ratio)
        self.model = Chosen(metanetwork).to(run.device)

    def applied(self, network: nn.Module) -> nn.Module:
        """A copy of a network with the weights that the metanetwork gives it; buffers stay."""
        network = copy.deepcopy(network)
        if int(self.model.epoch):
            with torch.no_grad():
                changed = Subject(network, self.classifier).changed(self.model.metanetwork)
            network.load_state_dict(changed, strict=False)
        return network

    def fit(self, task: ImageClassification, run: Run) -> None:
        """Train; choose."""
        choose = self._chooses(task)
        groups = [ChannelGroups(copy.deepcopy(one.network), self.sample) for one in self.subjects]
        parameters = list(self.model.metanetwork.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay)
        run.track(model=self.model, optimizer=optimizer)
        unchanged = self._score(task, run) if choose else 0.0
        best = {"monitor": "score", "every": self.every} if choose else {}
        for epoch in run.epochs(self.epochs, name="meta", restore_best=choose, **best):
            self.model.epoch.fill_(epoch)
            for group in optimizer.param_groups:
                group["lr"] = self.lr * 0.1 ** sum(milestone < epoch for milestone in self.milestones)
            logged = []
            for subject, channels in zip(self.subjects, groups, strict=True):
                optimizer.zero_grad()
                changed = subject.changed(self.model.metanetwork)
                loss, gradients, push = self.direction(subject, channels, changed, task, run.generator)
                torch.autograd.backward(list(changed.values()), [gradients[name] for name in changed])
                optimizer.step()
                logged.append(torch.stack([loss, push]))
            loss, push = torch.stack(logged).mean(0)
            run.log(loss=loss, regulariser_norm=push)
            if choose and epoch.validates:
                self.model.score.fill_(self._score(task, run))
                run.log(score=self.model.score)
        if choose and unchanged >= float(self.model.score):
            self.model.epoch.zero_()
            self.model.score.fill_(unchanged)

    def _chooses(self, task: ImageClassification) -> bool:
        return self.keep == "chosen" and len(task.val_y) > 0

    def direction(
        self,
        subject: Subject,
        channels: ChannelGroups,
        changed: dict[str, Tensor],
        task: ImageClassification,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Mean cross-entropy, dL/dtheta' by name, and the norm of the regulariser's part of it."""
        weights = {name: weight.detach().requires_grad_() for name, weight in changed.items()}
        gradients = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        total = torch.zeros((), device=task.train_x.device)
        for x, y in minibatches(task, self.batch_size, generator):
            logits = functional_call(subject.network, weights, (x,))
            loss = functional.cross_entropy(logits, y, reduction="sum") / len(task.train_y)
            found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for name, gradient in zip(weights, found, strict=True):
                if gradient is not None:
                    gradients[name] += gradient
            total += loss.detach()
        push = {name: self.regulariser * more for name, more in channels.push(weights, self.alpha).items()}
        for name, more in push.items():
            gradients[name] += more
        norm = torch.stack([more.square().sum() for more in push.values()]).sum().sqrt()
        return total, gradients, norm

    def _score(self, task: ImageClassification, run: Run) -> float:
        """Validation accuracy right after pruning, mean of the data models and the speed-ups.

        Each is changed, finetuned and pruned as its arm would be; the draws are the same at each call.
        """
        recipe = Recipe(
            epochs=self.finetune_epochs,
            batch_size=self.finetune_batch_size,
            lr=self.finetune_lr,
            momentum=self.finetune_momentum,
            weight_decay=self.finetune_weight_decay,
            milestones=tuple(self.finetune_milestones),
        )
        schedule = Schedule(GROUP_L2, self.steps)
        found = []
        for subject in self.subjects:
            draw = torch.Generator().manual_seed(0)
            network = recipe.finetuned(self.applied(subject.network), task, draw)
            for kept in schedule.kept(network, self.sample, self.speedups, draw):
                found.append(accuracy_of(compacted(network, self.sample, kept), task, "val"))
        return sum(found) / len(found)

    def evaluate(self, task: ImageClassification, run: Run) -> dict[str, float]:
        """The epoch that was kept, and the data models before and after the change, as means over them.

        ``loss/…`` on the training images, ``regulariser_norm/…`` the norm of the regulariser's gradient, ``spread/…``
        the spread of the channels' norms, ``test_acc/…`` without any finetuning; each ``/before`` and ``/after``.
        """
        metrics: dict[str, list[float]] = {}
        for subject in self.subjects:
            for when, network in (("before", subject.network), ("after", self.applied(subject.network))):
                channels = ChannelGroups(copy.deepcopy(network), self.sample)
                draw = torch.Generator().manual_seed(0)
                loss, _, push = self.direction(subject, channels, dict(network.named_parameters()), task, draw)
                values = {
                    "loss": float(loss),
                    "regulariser_norm": float(push),
                    "spread": spread(network, self.sample),
                    "test_acc": accuracy_of(network, task, "test"),
                }
                for name, value in values.items():
                    metrics.setdefault(f"{name}/{when}", []).append(value)
        means = {name: sum(values) / len(values) for name, values in metrics.items()}
        chosen = {"chosen_epoch": float(self.model.epoch)}
        return chosen | ({"score": float(self.model.score)} if self._chooses(task) else {}) | means
