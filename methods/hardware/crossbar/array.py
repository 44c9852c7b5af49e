"""The array of one linear layer: a pair of devices a weight, which weights get a pulse, and which device takes it.

    W = s (G+ - G-),   s = weight_range / sqrt(inputs)

Letters: O outputs, I inputs, n synapses that get a pulse.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from runner.methods.hardware.crossbar.device import Branch, Distribution, branch, pulsed, reset, spread

GROWTH_UPDATES = 1000
"""Updates after which the threshold has grown by its factor."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """All that is chosen about an array; the names and units of ``hardware=synapse_crossbar``."""

    scheme: str
    rule: Literal["threshold", "fraction", "stochastic"]
    threshold: float
    threshold_growth: float
    fraction: float
    beta_ltp: float
    beta_ltd: float
    abrupt_ltd: bool
    pulses: int
    dynamic_range: float | None
    weight_range: float
    spread: Distribution
    gain_spread: float
    step_spread: float
    nonlinearity_spread: float
    pulse_noise: float
    refresh_level: float
    refresh_other: float | None

    @property
    def offset(self) -> float:
        """G_min / (G_max - G_min), which a device's spread of gain multiplies too."""
        return 1 / (self.dynamic_range - 1) if self.dynamic_range else 0.0


class Scheme(ABC):
    """Which device of a pair moves for a wanted change of the weight."""

    linear_step = 1
    """Change of W / s by a pulse of the linear device, in 1 / P."""
    refreshed = False

    @abstractmethod
    def start(self, w: Tensor) -> Tensor:
        """Conductances [2, …] (G+, G-) for w = W / s."""

    @abstractmethod
    def pulses(self, direction: Tensor) -> Tensor:
        """Pulses of both devices [2, n] for a wanted direction [n] of the weights: 1, -1 or 0."""

    @abstractmethod
    def stuck(self, g: Tensor) -> Tensor:
        """Which devices of [2, …] are where one of their pulses does nothing; those that never move left out."""


class BidirectionalBoth(Scheme):
    """Up: G+ up and G- down. Down: G+ down and G- up."""

    linear_step = 2

    def start(self, w: Tensor) -> Tensor:
        """Around the middle."""
        return torch.stack([0.5 + w / 2, 0.5 - w / 2])

    def pulses(self, direction: Tensor) -> Tensor:
        """One each."""
        return torch.stack([direction, -direction])

    def stuck(self, g: Tensor) -> Tensor:
        """At either end."""
        return (g <= 0) | (g >= 1)


class BidirectionalSingle(Scheme):
    """G+ moves up and down; G- is a reference in the middle."""

    def start(self, w: Tensor) -> Tensor:
        """Around the middle."""
        return torch.stack([0.5 + w, torch.full_like(w, 0.5)])

    def pulses(self, direction: Tensor) -> Tensor:
        """One for G+."""
        return torch.stack([direction, torch.zeros_like(direction)])

    def stuck(self, g: Tensor) -> Tensor:
        """At either end."""
        return (g[:1] <= 0) | (g[:1] >= 1)


class Unidirectional(Scheme):
    """Up: G+ up. Down: G- up. What has come too far is erased and written anew."""

    refreshed = True

    def start(self, w: Tensor) -> Tensor:
        """One of the two at the bottom."""
        return torch.stack([w.clamp(min=0), (-w).clamp(min=0)])

    def pulses(self, direction: Tensor) -> Tensor:
        """One for one of them, always upwards."""
        return torch.stack([direction.clamp(min=0), (-direction).clamp(min=0)])

    def stuck(self, g: Tensor) -> Tensor:
        """At the top."""
        return g >= 1


SCHEMES: dict[str, Scheme] = {
    "bidirectional_both": BidirectionalBoth(),
    "bidirectional_single": BidirectionalSingle(),
    "unidirectional": Unidirectional(),
}


class Crossbar(nn.Module):
    """The conductances of a weight [O, I], and how they answer a wanted change of it. All state is in buffers."""

    conductance: Tensor
    """Normalised, [2, O, I]: G+ and G-."""
    gain: Tensor
    """Of each device's read-out, from device to device; [2, O, I], or [] without spread."""
    shape: Tensor
    """``first`` and ``slope`` of potentiation, then of depression: [4, 2, O, I], or [4] without spread."""
    counts: Tensor
    """Updates, pulses, refreshed pairs and the pulses that wrote them: [4], int64."""

    def __init__(self, weight: Tensor, design: Design) -> None:
        super().__init__()
        self.design = design
        self.scheme = SCHEMES[design.scheme]
        self.scale = design.weight_range * weight.shape[1] ** -0.5
        self.is_read = False
        """Whether a forward pass has read the weights as they are."""
        self._written = -1
        """Version of the weight after this array last wrote it."""
        one = weight.new_ones(())
        pairs = (2, *weight.shape)

        def factor(sigma: float) -> Tensor:
            return spread(sigma, pairs, design.spread, one) if sigma else one

        gain, bend, step = map(factor, (design.gain_spread, design.nonlinearity_spread, design.step_spread))
        up = branch(design.beta_ltp * bend, design.pulses).scaled(step)
        down = reset(up.first) if design.abrupt_ltd else branch(design.beta_ltd * bend, design.pulses).scaled(step)
        self.register_buffer("gain", gain)
        self.register_buffer("shape", torch.stack([up.first, up.slope, down.first, down.slope]))
        self.register_buffer("conductance", weight.new_empty(pairs))
        self.register_buffer("counts", torch.zeros(4, dtype=torch.int64, device=weight.device))
        self.program(weight)

    def program(self, weight: Tensor) -> None:
        """Write weights [O, I] into the nominal device, as far as its range goes: a device's spread shows in ``read``.

        Not by whole pulses: a start is wherever it is.
        """
        self.conductance.copy_(self.scheme.start(weight.detach() / self.scale).clamp(0, 1))

    def read(self) -> Tensor:
        """The weights [O, I] as the array gives them."""
        return self._read(self.conductance, self.gain)

    def follow(self, weight: Tensor) -> None:
        """Program ``weight`` anew if other hands have written it (a method that sets its own initial weights)."""
        if weight._version != self._written and not torch.equal(weight, self.read()):
            self.program(weight)
            weight.copy_(self.read())

    def _read(self, g: Tensor, gain: Tensor) -> Tensor:
        current = gain * (g + self.design.offset) if self.design.offset else gain * g
        return self.scale * (current[0] - current[1])

    def update(self, weight: Tensor, change: Tensor) -> None:
        """Answer a wanted change [O, I] of ``weight``, which is what was read, with at most one pulse a synapse.

        The synapses that got one are read anew; the others are as they were.
        """
        self.counts[0] += 1
        where = self._chosen(change).flatten().nonzero().squeeze(1)
        if len(where):
            self._pulse(weight, where, change.flatten()[where].sign())
        self._written = weight._version

    def _pulse(self, weight: Tensor, where: Tensor, direction: Tensor) -> None:
        """One pulse for each of the synapses ``where`` [n], in the wanted ``direction`` [n]."""
        g, gain = self._part(self.conductance, where), self._part(self.gain, where)
        up, down = self._branches(where)
        pulses = self.scheme.pulses(direction)
        g = pulsed(g, pulses, up, down, self.design.pulse_noise)
        self.counts[1] += pulses.count_nonzero()
        if self.scheme.refreshed:
            g = self._refreshed(g, gain, up)
        self.conductance.view(2, -1).index_copy_(1, where, g)
        weight.view(-1).index_copy_(0, where, self._read(g, gain))

    def _chosen(self, change: Tensor) -> Tensor:
        """Which synapses get a pulse [O, I]."""
        design, size = self.design, change.abs()
        if design.rule == "stochastic":
            # a pulse of the linear device moves W by scale * linear_step / P: on it the mean change is the wanted one
            return torch.rand_like(size) * (self.scale * self.scheme.linear_step / design.pulses) < size
        if design.rule == "fraction":
            count = max(1, round(design.fraction * size.numel()))
            smallest = size.flatten().topk(count).values[-1]
            return (size >= smallest) & (size > 0)
        if design.threshold_growth == 1:
            return size > design.threshold
        return size > design.threshold * design.threshold_growth ** (int(self.counts[0] - 1) / GROWTH_UPDATES)

    def _refreshed(self, g: Tensor, gain: Tensor, up: Branch) -> Tensor:
        """Pairs [2, n] of which one has passed ``refresh_level`` and the other is up too, erased and written anew.

        The difference is read, both go to the bottom, and the winner gets the number of pulses that comes nearest to
        the difference (its own curve and gain: the write is verified).
        """
        other = 1 / self.design.pulses if self.design.refresh_other is None else self.design.refresh_other
        due = (g.amax(0) > self.design.refresh_level) & (g.amin(0) > other)
        if not due.any():
            return g
        read = gain * (g + self.design.offset)
        difference = read[0] - read[1]
        # of winner and loser the offsets remain: d = gain_w (g_w + offset) - gain_l offset
        gains = gain.expand_as(g)
        winner = torch.stack([difference >= 0, difference < 0])
        target = (difference.abs() - self.design.offset * (gains - gains.flip(0))) / gains
        n = up.pulses(target.clamp(0, 1)).round()
        written = torch.where(winner, up.curve(n), 0.0)
        self.counts[2] += due.sum()
        self.counts[3] += torch.where(winner & due, n, 0.0).sum().to(torch.int64)
        return torch.where(due, written, g)

    def _branches(self, where: Tensor) -> tuple[Branch, Branch]:
        first_up, slope_up, first_down, slope_down = (self._part(values, where) for values in self.shape)
        return Branch(first_up, slope_up), Branch(first_down, slope_down)

    @staticmethod
    def _part(values: Tensor, where: Tensor) -> Tensor:
        """The devices [2, n] of [2, O, I]; what is the same for all stays a number."""
        return values.view(2, -1).index_select(1, where) if values.dim() else values

    def saturation(self) -> Tensor:
        """Share of the devices where a pulse that may come does nothing, []."""
        return self.scheme.stuck(self.conductance).double().mean()
