"""Progressive pruning of channels to a speed-up, and networks that remember what was pruned.

Letters: S channels of all groups, T speed-ups.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runner.errors import BadInput
from runner.methods.pruning.channel_groups import ChannelGroups, Criterion, costs


@dataclass(frozen=True)
class Schedule:
    """The lowest channel of all goes, again and again, until the multiply-adds have come down far enough."""

    criterion: Criterion
    steps: int | None
    """Into how many steps all channels would be divided; None: one channel a step."""

    def kept(
        self, network: nn.Module, sample: Tensor, speedups: Sequence[float], draw: torch.Generator
    ) -> Iterator[Tensor]:
        """For each speed-up, ascending: which channels are left [S], bool.

        No layer loses its last channel. Importance is computed anew before each step.

        Args:
            network: stays as it is.
            sample: an input [1, …].
            speedups: multiply-adds before over those after.
            draw: of a random criterion.

        Raises:
            BadInput: a speed-up is out of reach with a channel left in each layer.
        """
        groups = ChannelGroups(copy.deepcopy(network), sample)
        sizes = groups.sizes
        at_once = 1 if self.steps is None else max(1, round(sum(sizes) / self.steps))
        before, _ = costs(groups.network, sample)
        for speedup in speedups:
            while before / costs(groups.network, sample)[0] < speedup:
                if not self._step(groups, at_once, draw):
                    raise BadInput(f"a speed-up of {speedup:g} would empty a layer of this network")
            yield mask(groups.kept, sizes)

    def _step(self, groups: ChannelGroups, count: int, draw: torch.Generator) -> bool:
        """Prune the lowest ``count`` channels; whether there was one to prune."""
        importances = groups.importances(self.criterion, draw=draw)
        scores = torch.cat(
            [scores.index_fill(0, scores.argmax(), torch.inf) for scores in importances]  # the highest stays
        )
        group_of = torch.arange(len(importances)).repeat_interleave(torch.tensor(groups.sizes))
        place = torch.cat([torch.arange(size) for size in groups.sizes])
        count = min(count, len(scores) - len(importances))
        lowest = scores.cpu().argsort(stable=True)[:count]
        for group in group_of[lowest].unique().tolist():
            groups.remove(group, place[lowest[group_of[lowest] == group]].tolist())
        return count > 0


def mask(kept: list[list[int]], sizes: list[int]) -> Tensor:
    """[S], bool: which of the channels are among those kept, group after group."""
    return torch.cat(
        [
            torch.zeros(size, dtype=torch.bool).index_fill(0, torch.tensor(left), True)
            for left, size in zip(kept, sizes, strict=True)
        ]
    )


def compacted(network: nn.Module, sample: Tensor, kept: Tensor) -> nn.Module:
    """A copy without the channels that are not kept [S]; ``network`` has all of them."""
    groups = ChannelGroups(copy.deepcopy(network), sample)
    for number, part in enumerate(kept.split(groups.sizes)):
        if not part.all():
            groups.remove(number, (~part).nonzero()[:, 0].tolist())
    return groups.network


class Pruned(nn.Module):
    """T networks, each of which may lack channels, as a checkpoint of fixed shapes: zeros where there is nothing.

    A network is put in by :meth:`put`, and had by :meth:`network`, in its own small shape.
    """

    kept: Tensor
    sample: Tensor

    def __init__(self, whole: nn.Module, sample: Tensor, count: int) -> None:
        """Args: a network with all channels, an input [1, …] and T."""
        super().__init__()
        self.networks = nn.ModuleList(copy.deepcopy(whole) for _ in range(count))
        self.register_buffer("sample", sample[:1].clone(), persistent=False)
        channels = sum(ChannelGroups(copy.deepcopy(whole), self.sample).sizes)
        self.register_buffer("kept", torch.ones(count, channels, dtype=torch.bool))

    def network(self, number: int) -> nn.Module:
        """A copy of a network, without the channels that it lacks."""
        return compacted(self.networks[number], self.sample, self.kept[number])

    @torch.no_grad()
    def put(self, number: int, network: nn.Module, kept: Tensor) -> None:
        """Keep a network that has only the channels kept [S].

        Where its numbers stood in the whole one is found by pruning a network of places likewise.
        """
        whole = self.networks[number]
        places = copy.deepcopy(whole).double()
        for tensor in _numbers(places).values():
            tensor.copy_(torch.arange(tensor.numel(), dtype=tensor.dtype).view(tensor.shape))
        left = _numbers(compacted(places, self.sample.double(), kept))
        small = _numbers(network)
        for name, tensor in _numbers(whole).items():
            flat = torch.zeros_like(tensor).flatten()
            flat[left[name].flatten().long()] = small[name].flatten()
            tensor.copy_(flat.view(tensor.shape))
        self.kept[number] = kept


def _numbers(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that hold a number a channel or more, by name."""
    return {name: value for name, value in network.state_dict().items() if value.dim()}
