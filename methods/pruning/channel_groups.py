"""Which channels have to go together, how important each is, and the regulariser that widens the differences.

Dependencies are torch-pruning's (Fang et al., *DepGraph*, CVPR 2023, arXiv 2301.12900); the formulas are those of its
group norm, over all weights of a channel at once.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor, nn

from runner.errors import BadInput

Norm = Literal["l2", "l1", "random"]
Reduction = Literal["mean", "sum", "max", "first"]
Normaliser = Literal["max", "mean", "none"]


def torch_pruning() -> ModuleType:
    """The library.

    Raises:
        BadInput: it is not installed.
    """
    try:
        import torch_pruning as library
    except ImportError as error:
        raise BadInput("pruning of channels needs torch-pruning: pip install 'forward-runner[pruning]'") from error
    return library


@dataclass(frozen=True)
class Criterion:
    """How important a channel is: less is pruned first."""

    norm: Norm
    """``l2``: sums of squares, ``l1``: of magnitudes; ``random``: a draw."""
    reduction: Reduction
    """Of a group's members to one number a channel; ``first``: of the layer alone that gives the channel."""
    normaliser: Normaliser
    """What a group's importances are divided by."""

    def __call__(self, members: list[Tensor]) -> Tensor:
        """[channels], from the sums [channels] of each member."""
        stacked = torch.stack(members)
        if self.reduction == "first":
            reduced = stacked[0]
        else:
            reduced = {"mean": stacked.mean, "sum": stacked.sum, "max": stacked.amax}[self.reduction](0)
        if self.normaliser == "none":
            return reduced
        return reduced / (reduced.max() if self.normaliser == "max" else reduced.mean())

    def magnitude(self, weight: Tensor) -> Tensor:
        """What is summed."""
        return weight.abs() if self.norm == "l1" else weight.square()


GROUP_L2 = Criterion("l2", "mean", "max")
"""The paper's criterion, and what its regulariser weighs channels by."""


@dataclass(frozen=True)
class Member:
    """A weight that has a slice for each channel of a group."""

    name: str
    axis: int
    """Of its channels: 0 where it gives them, 1 where it takes them."""

    def rows(self, weight: Tensor, channels: int) -> Tensor:
        """[channels, …], all that belongs to a channel; one may have several columns of a linear layer."""
        return weight.movedim(self.axis, 0).reshape(channels, -1)


@dataclass(frozen=True)
class Group:
    """Channels of one or more layers that can only be pruned together."""

    root: str
    """The layer that gives them."""
    members: tuple[Member, ...]


class ChannelGroups:
    """A network, whose channels can be pruned in place."""

    def __init__(self, network: nn.Module, sample: Tensor) -> None:
        """Trace a network.

        Args:
            network: it is changed in place by :meth:`remove`.
            sample: an input [1, …].

        Raises:
            BadInput: torch-pruning is missing, or the network has grouped convolutions.
        """
        self.library = torch_pruning()
        self.network, self.sample = network, sample
        modules = dict(network.named_modules())
        if any(getattr(module, "groups", 1) > 1 for module in modules.values()):
            raise BadInput("channels of grouped convolutions can't be pruned here")
        with torch.enable_grad():  # it follows the way that gradients would take
            self._graph = self.library.DependencyGraph().build_dependency(network, example_inputs=sample)
        names = {module: name for name, module in modules.items()}
        kinds = [nn.Conv2d, nn.Linear]
        head = [module for module in modules.values() if isinstance(module, tuple(kinds))][-1]
        found = self._graph.get_all_groups(ignored_layers=[head], root_module_types=kinds)
        self.groups = sorted(
            (_group(group, names) for group in found), key=lambda group: list(modules).index(group.root)
        )
        self.kept = [torch.arange(modules[group.root].weight.shape[0]).tolist() for group in self.groups]
        """By group: the channels that are left, by their first numbers."""

    @property
    def sizes(self) -> list[int]:
        """Channels left of each group."""
        return [len(kept) for kept in self.kept]

    def importances(
        self, criterion: Criterion, weights: Mapping[str, Tensor] | None = None, draw: torch.Generator | None = None
    ) -> list[Tensor]:
        """Of each group's channels [channels].

        Args:
            criterion: says how.
            weights: by name; None: the network's own.
            draw: of ``random``.
        """
        if criterion.norm == "random":
            return [torch.rand(size, generator=draw) for size in self.sizes]
        weights = dict(self.network.named_parameters()) if weights is None else weights
        return [
            criterion(
                [
                    criterion.magnitude(member.rows(weights[member.name].detach(), size)).sum(1)
                    for member in group.members
                ]
            )
            for group, size in zip(self.groups, self.sizes, strict=True)
        ]

    def push(self, weights: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
        """The regulariser's gradient, to be multiplied by its strength; by name, of the weights that have one.

        g = sum over groups of gamma_c w,   gamma_c = alpha^((I_max - I_c) / (I_max - I_min)),   I = sqrt(importance)

        A weight between two groups' channels gets both sums. Groups whose I is not a number (all weights 0) are left
        out; where all channels are equally important, gamma is 1.

        Args:
            weights: by name.
            alpha: base; 1 makes it plain weight decay.
        """
        gradients: dict[str, Tensor] = {}
        importances = self.importances(GROUP_L2, weights)
        for group, importance in zip(self.groups, importances, strict=True):
            if importance.isnan().any():
                continue
            gamma = coefficients(importance.sqrt(), alpha)
            for member in group.members:
                weight = weights[member.name].detach()
                along = gamma.repeat_interleave(weight.shape[member.axis] // len(gamma))
                shape = [1] * weight.dim()
                shape[member.axis] = -1
                term = weight * along.view(shape)
                gradients[member.name] = gradients[member.name] + term if member.name in gradients else term
        return gradients

    def remove(self, group: int, channels: list[int]) -> None:
        """Prune channels, given by their present numbers, from all layers that have to follow."""
        root = self.network.get_submodule(self.groups[group].root)
        kind = "conv" if isinstance(root, nn.Conv2d) else "linear"
        function = getattr(self.library, f"prune_{kind}_out_channels")
        self._graph.get_pruning_group(root, function, sorted(channels)).prune()
        gone = set(channels)
        self.kept[group] = [old for place, old in enumerate(self.kept[group]) if place not in gone]


def costs(network: nn.Module, sample: Tensor) -> tuple[float, int]:
    """Multiply-adds of one sample [1, …], as torch-pruning counts them (batch norm and ReLU too), and parameters."""
    training = network.training
    macs, parameters = torch_pruning().utils.count_ops_and_params(network, sample)
    network.train(training)
    return float(macs), int(parameters)


def spread(network: nn.Module, sample: Tensor) -> float:
    """Standard deviation over mean of a group's norms I [channels], mean of all groups: what a criterion goes by."""
    importances = ChannelGroups(copy.deepcopy(network), sample).importances(GROUP_L2)
    norms = [importance.sqrt() for importance in importances]
    return float(torch.stack([norm.std() / norm.mean() for norm in norms]).mean())


def coefficients(norms: Tensor, alpha: float) -> Tensor:
    """gamma [channels], in [1, alpha], of norms I [channels]: 1 for the largest, alpha for the smallest."""
    spread = norms.max() - norms.min()
    exponent = (norms.max() - norms) / spread if spread > 0 else torch.zeros_like(norms)
    return alpha**exponent


def _group(group: object, names: Mapping[nn.Module, str]) -> Group:
    """From torch-pruning's; its first member is the root."""
    members = []
    for dependency, _ in group:  # type: ignore[attr-defined]
        module = dependency.target.module
        if module in names and getattr(module, "weight", None) is not None:
            axis = 1 if dependency.handler.__name__ == "prune_in_channels" else 0
            members.append(Member(f"{names[module]}.weight", axis))
    root, *others = members
    return Group(
        root.name.removesuffix(".weight"), (root, *sorted(others, key=lambda member: (member.name, member.axis)))
    )
