"""Training on a modelled crossbar of electronic synapses (Lim et al., arXiv 1707.06381), by any method.

Every ``nn.Linear`` of an adapted module gets an array of device pairs. Its weight is what the array reads, in the
forward and in the backward pass; the change that an optimiser makes to it is taken as the change that is wanted, and
becomes at most one pulse a synapse and step. All else (biases, other layers) stays in software.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.weak import WeakTensorKeyDictionary

from runner.errors import BadInput
from runner.hardware.torch_device import Module, TorchDevice
from runner.methods.hardware.crossbar.array import Crossbar, Design
from runner.methods.hardware.crossbar.device import branch, reset
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt, Probability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from runner.contracts import Task


STEPS_OF_SILENCE = 100
"""After so many steps of an optimiser without a pulse a run is refused: it would end as it began."""


def _mark_as_read(layer: nn.Module, _: Any) -> None:
    """A layer whose own forward pass runs computes with its weights as they are."""
    layer.crossbar.is_read = True  # type: ignore[union-attr]


@dataclass(kw_only=True)
class SynapseCrossbar(TorchDevice):
    """A crossbar, simulated on a processor or a CUDA device.

    It refuses what a crossbar can't do: to compute with a function of its conductances (binary weights, say), and to
    learn from wanted changes none of which is large enough for a pulse.
    """

    one_process: ClassVar[bool] = True

    scheme: Literal["software", "bidirectional_both", "bidirectional_single", "unidirectional"]
    rule: Literal["threshold", "fraction", "stochastic"]
    threshold: NonNegativeFloat
    """Rule ``threshold``: a pulse where the wanted change is larger, in units of the weight."""
    threshold_growth: Annotated[float, Meta(ge=1)]
    """Factor of the threshold every 1000 updates."""
    fraction: Annotated[float, Meta(gt=0, le=1)]
    """Rule ``fraction``: share of a layer's synapses that get a pulse, those of the largest wanted changes."""
    beta_ltp: NonNegativeFloat
    """Nonlinearity of potentiation; 0: linear."""
    beta_ltd: NonNegativeFloat
    """Of depression."""
    abrupt_ltd: bool
    """One pulse of depression goes to the bottom, whatever ``beta_ltd``."""
    pulses: PositiveInt
    """From one end of the range to the other (P)."""
    dynamic_range: Annotated[float, Meta(gt=1)] | None
    """G_max / G_min; None: G_min is 0. Matters where devices differ in gain, and only there."""
    weight_range: PositiveFloat
    """k: the largest weight is k / sqrt(inputs)."""
    delta_clip: PositiveFloat | None
    """Largest error of one sample at a layer's output; None: no limit."""
    spread: Literal["normal", "lognormal"]
    gain_spread: NonNegativeFloat
    """Deviation of a device's read-out (its G_max), over the mean, from device to device."""
    step_spread: NonNegativeFloat
    """Of its step."""
    nonlinearity_spread: NonNegativeFloat
    """Of its beta."""
    pulse_noise: NonNegativeFloat
    """Deviation of a step from pulse to pulse, over the step."""
    refresh_level: Probability
    """A pair is refreshed when one device is above it …"""
    refresh_other: Probability | None
    """… and the other above this; None: 1 / pulses."""

    def __post_init__(self) -> None:
        self._crossbars = WeakTensorKeyDictionary()
        self._wanting: list[tuple[Tensor, Crossbar, Tensor]] = []
        self._steps = 0

    @property
    def design(self) -> Design:
        """What an array needs to know."""
        return Design(**{item.name: getattr(self, item.name) for item in fields(Design)})

    def adapt(self, module: Module) -> Module:
        """Put the weight of every linear layer on an array; parameters keep their names.

        Raises:
            BadInput: there is no linear layer.
        """
        module = super().adapt(module)
        layers = [part for part in module.modules() if isinstance(part, nn.Linear)]
        if not layers:
            raise BadInput(
                f"hardware=synapse_crossbar: {type(module).__name__} has no linear layer to put on a crossbar; "
                "choose a network that has (model=perceptron, where the method lets choose), or hardware=cpu"
            )
        for layer in layers:
            if layer.weight not in self._crossbars:
                self._place(layer)
        return module

    @torch.no_grad()
    def _place(self, layer: nn.Linear) -> None:
        if self.delta_clip is not None:
            layer.register_forward_hook(self._clip_deltas)
        if self.scheme == "software":
            return
        crossbar = Crossbar(layer.weight, self.design)
        layer.weight.copy_(crossbar.read())
        layer.add_module("crossbar", crossbar)
        layer.register_forward_pre_hook(_mark_as_read)
        self._crossbars[layer.weight] = crossbar

    def _clip_deltas(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        """An error is a pulse width too. Losses are means over the batch: a sample's error is B times its gradient."""
        if output.requires_grad and self.delta_clip is not None:
            limit = self.delta_clip * output.shape[-1] / max(output.numel(), 1)
            output.register_hook(lambda gradient: gradient.clamp(-limit, limit))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """As a device; and optimisers' steps become pulses."""
        with super().entered():
            before = register_optimizer_step_pre_hook(self._before_step)
            after = register_optimizer_step_post_hook(self._after_step)
            try:
                yield
            finally:
                before.remove()
                after.remove()

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._wanting = []
        for group in optimizer.param_groups:
            for weight in group["params"]:
                crossbar = self._crossbars.get(weight)
                if crossbar is not None and weight.grad is not None:
                    if not crossbar.is_read:
                        raise BadInput(
                            f"hardware=synapse_crossbar: a layer of {list(weight.shape)} weights learns, but computes "
                            "with a function of them (one bit each, say); an array gives its conductances as they are: "
                            "choose a method that computes with the weights it trains, or hardware=cpu"
                        )
                    crossbar.follow(weight)
                    self._wanting.append((weight, crossbar, weight.clone()))

    @torch.no_grad()
    def _after_step(self, *_: Any) -> None:
        largest = 0.0
        for weight, crossbar, before in self._wanting:
            change = weight - before
            weight.copy_(before)
            crossbar.update(weight, change)
            if self._steps == STEPS_OF_SILENCE:
                largest = max(largest, float(change.abs().max()))
        if self._steps == STEPS_OF_SILENCE:
            self._demand_pulses(
                [crossbar for _, crossbar, _ in self._wanting], f": in the last step it was {largest:.2g}"
            )
        self._steps += bool(self._wanting)
        self._wanting = []

    def _demand_pulses(self, crossbars: Sequence[Crossbar], told: str = "") -> None:
        if crossbars and not any(bool(crossbar.counts[1]) for crossbar in crossbars):
            steps = max(int(crossbar.counts[0]) for crossbar in crossbars)
            raise BadInput(
                f"hardware=synapse_crossbar: no synapse got a pulse in {steps} steps, "
                f"no wanted change of a weight is larger than hardware.threshold={self.threshold:g}{told}; "
                "raise method.lr (plain SGD: the batch size is the natural unit), lower the threshold, or take "
                "hardware.rule=stochastic"
            )

    @torch.no_grad()
    def cost(self, model: nn.Module, task: Task) -> dict[str, float]:
        """What the arrays of ``model`` went through until the state that was kept; nothing in software.

        ``synapses``: weights on arrays; ``pulses`` of devices, ``pulses_per_synapse_update`` (in [0, 2]), ``refreshes``
        of pairs, ``refresh_pulses`` that wrote them, and ``saturation_share`` of the devices.

        Raises:
            BadInput: the arrays were trained, and never got a pulse.
        """
        crossbars = [part for part in model.modules() if isinstance(part, Crossbar)]
        if not crossbars:
            return {}
        counts = torch.stack([crossbar.counts for crossbar in crossbars]).double()
        sizes = counts.new_tensor([crossbar.conductance[0].numel() for crossbar in crossbars])
        offered = float(counts[:, 0] @ sizes)
        shares = torch.stack([crossbar.saturation() for crossbar in crossbars])
        if offered:
            self._demand_pulses(crossbars)
        return {
            "synapses": float(sizes.sum()),
            "pulses": float(counts[:, 1].sum()),
            **({"pulses_per_synapse_update": float(counts[:, 1].sum()) / offered} if offered else {}),
            "refreshes": float(counts[:, 2].sum()),
            "refresh_pulses": float(counts[:, 3].sum()),
            "saturation_share": float(shares @ sizes / sizes.sum()),
        }

    def plots(self, model: nn.Module, task: Task) -> dict[str, Figure]:
        """``response``: conductance over pulses, up the whole range and down again."""
        if self.scheme == "software":
            return {}
        from matplotlib.figure import Figure

        n = torch.arange(self.pulses + 1, dtype=torch.float64)
        up = branch(n.new_tensor(self.beta_ltp), self.pulses)
        down = reset(n.new_ones(())) if self.abrupt_ltd else branch(n.new_tensor(self.beta_ltd), self.pulses)
        figure = Figure(figsize=(5, 3.2), layout="constrained")
        axes = figure.subplots()
        ltd = "abrupt" if self.abrupt_ltd else f"beta {self.beta_ltd:g}"
        axes.plot(n, up.curve(n), label=f"potentiation, beta {self.beta_ltp:g}")
        axes.plot(self.pulses + n, 1 - down.curve(n), label=f"depression, {ltd}")
        axes.set(xlabel=f"pulses ({self.pulses} for the range)", ylabel="(G - G_min) / (G_max - G_min)")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        return {"response": figure}
