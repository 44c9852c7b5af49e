"""The hardware target: a run computes in the cluster's numbers, and is told what a training step would cost there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from runner.errors import BadInput
from runner.hardware.torch_device import TorchDevice
from runner.methods.hardware.pulp.arithmetic import Arithmetic
from runner.methods.hardware.pulp.cluster import STEPS, Cluster, Step
from runner.methods.hardware.pulp.formats import FORMATS
from runner.methods.hardware.pulp.layers import Layer, forward_macs, layers
from runner.methods.hardware.pulp.observed import Observed, trained_layers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from runner.contracts import Task


PASSES: dict[Step, tuple[str, str]] = {
    "forward": ("forward", "#1e6fb3"),
    "weight": ("weight gradient", "#b3541e"),
    "input": ("input gradient", "#c9a227"),
}
"""How a plot calls and colours the passes of a layer."""


@dataclass(kw_only=True)
class Pulp(Cluster, TorchDevice):
    """Eight cores and one controller, as a model: 16-bit numbers are exact, cycles are counted."""

    one_process: ClassVar[bool] = True

    def check(self) -> None:
        """Emulated numbers live in float64 tensors of this machine's memory.

        Raises:
            BadInput: another device or precision.
        """
        super().check()
        if self.torch_device.type != "cpu":
            raise BadInput(f"hardware.device={self.device}: the emulation runs on cpu")
        if self.precision != "float64":
            raise BadInput("hardware.precision: emulated numbers are held in float64; hardware.numerics chooses")
        if self.fpus > self.cores:
            raise BadInput(f"hardware.fpus={self.fpus}: there are {self.cores} cores; give at most one for each")

    @property
    def dtype(self) -> torch.dtype:
        """Float64 holds the emulated numbers; float32 is the machine's own."""
        return torch.float64 if self.half else torch.float32

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Compute in the chosen numbers, and count the updates that rounding swallows."""
        self._updates = LostUpdates()
        self._arithmetic = (
            Arithmetic(FORMATS[self.numerics], self.choice, transpose=self.layout == "HWC") if self.half else None
        )
        check = register_optimizer_step_pre_hook(self._demand_eps)
        try:
            with super().entered(), self._updates.counted(), self._arithmetic or nullcontext():
                yield
        finally:
            check.remove()

    def _demand_eps(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Adam divides by sqrt(v) + eps; where eps is 0, so is many a v, and a step has no bound."""
        for group in optimizer.param_groups if self.half else ():
            eps = group.get("eps")
            if eps and not FORMATS[self.numerics].round(np.float64(eps)):
                raise BadInput(
                    f"hardware.numerics={self.numerics}: {type(optimizer).__name__}'s eps={eps:g} is 0 in this format, "
                    "and so are squares of small gradients, by whose root and eps it divides; take "
                    "method.optimizer=sgd, where the method lets choose, or hardware.numerics=bfloat16"
                )

    def measure(self) -> dict[str, float]:
        """``lost_updates`` beside the machine's own costs: absent where no optimiser stepped in this process."""
        share = self._updates.share
        return super().measure() | ({} if share is None else {"lost_updates": share})

    def saved_bytes(self, tensor: Tensor) -> int:
        """Emulated numbers have 16 bits there."""
        held = super().saved_bytes(tensor)
        return held // tensor.element_size() * self.item if tensor.dtype is self.dtype else held

    def step_cost(self, step: Callable[[], object], model: nn.Module) -> dict[str, float]:
        """``training_cycles`` and ``training_macs`` of a step of one sample, by the products that its rule makes.

        Layers are updated by SGD. The loss and all that works number by number cost nothing here, as in ``cost``.

        Raises:
            RunFailed: a product doesn't fit L1.
        """
        with self._arithmetic.paused() if self._arithmetic else nullcontext(), Observed(model) as seen:
            step()
        parts = [self.pass_cost(layer, kind) for layer, kind in seen.work]
        cycles = sum(part.cycles for part in parts) + sum(map(self.update, trained_layers(model)))
        return {"training_cycles": cycles, "training_macs": sum(part.macs for part in parts)}

    def costless(self, model: nn.Module, task: Task) -> str | None:
        """Where a network isn't one pass of one sample through layers that the kernels know."""
        found = self._layers(model, task)
        return found if isinstance(found, str) else None

    def _layers(self, model: nn.Module, task: Task) -> list[Layer] | str:
        """What the cost is of, or why there is none."""
        sample = task.sample()
        if sample is None:
            return f"a network of {type(task).__name__} takes more than one sample: cycles can't be told"
        if type(model).forward is nn.Module.forward:
            return f"{type(model).__name__} is parts without a forward pass of their own: cycles can't be told"
        with self._arithmetic.paused() if self._arithmetic else nullcontext():
            found = layers(model, sample)
            multiplied = forward_macs(model, sample)
        known = sum(layer.macs for layer in found)
        if known != multiplied or not found:
            return (
                f"the kernels know {known} of the {multiplied} multiply-accumulates of a forward pass, those of linear "
                "and convolutional layers: cycles can't be told"
            )
        return found

    def cost(self, model: nn.Module, task: Task) -> dict[str, float]:
        """One step of back-propagation with one sample, whatever the run itself did.

        Returns:
            In all: ``cycles``, ``macs``, ``macs_per_cycle``, ``milliseconds``, ``l1_bytes`` (the largest tile),
            ``im2row_bytes`` (the largest buffer, untiled), ``model_bytes`` (parameters and their gradients); and
            ``macs_per_cycle/<pass>``, ``cycles/<pass>``, ``macs_per_cycle/<layer>``. Empty where ``costless`` says why.

        Raises:
            RunFailed: a layer doesn't fit L1, or is no layer that the kernels know.
        """
        found = self._layers(model, task)
        if isinstance(found, str):
            return {}
        costs, total = self.costs(found), self.step_total(found)
        metrics: dict[str, float] = {
            "cycles": total.cycles,
            "macs": total.macs,
            "macs_per_cycle": total.macs / total.cycles,
            "milliseconds": total.cycles / self.clock_mhz / 1e3,
            "l1_bytes": total.l1_bytes,
            "im2row_bytes": max(map(self.im2row_bytes, found)),
            "model_bytes": 2 * self.item * sum(layer.parameters for layer in found),
            "cycles/update": self.update_cycles(found) + self.loss_cycles(found[-1]),
        }
        for step in STEPS:
            part = [steps[step] for steps in costs if step in steps]
            if part:
                metrics[f"cycles/{step}"] = sum(cost.cycles for cost in part)
                metrics[f"macs_per_cycle/{step}"] = sum(cost.macs for cost in part) / metrics[f"cycles/{step}"]
        for layer, steps in zip(found, costs, strict=True):
            macs, cycles = (sum(values) for values in zip(*((c.macs, c.cycles) for c in steps.values()), strict=True))
            metrics[f"macs_per_cycle/layer/{layer.name}"] = macs / cycles
        return metrics

    def plots(self, model: nn.Module, task: Task) -> dict[str, Figure]:
        """``cycles``: of each layer of a step, by pass, with the multiply-accumulates a cycle that they come to."""
        found = self._layers(model, task)
        if isinstance(found, str):
            return {}
        from matplotlib.figure import Figure
        from matplotlib.ticker import EngFormatter

        costs, names = self.costs(found), [layer.name for layer in found]
        figure = Figure(figsize=(6, 1.2 + 0.3 * len(found)), layout="constrained")
        axes = figure.subplots()
        ends = [0.0] * len(found)
        for step, (label, colour) in PASSES.items():
            lengths = [steps[step].cycles if step in steps else 0.0 for steps in costs]
            axes.barh(range(len(found)), lengths, left=ends, color=colour, label=label)
            ends = [end + length for end, length in zip(ends, lengths, strict=True)]
        for place, (end, steps) in enumerate(zip(ends, costs, strict=True)):
            rate = sum(cost.macs for cost in steps.values()) / end
            axes.annotate(f"{rate:.2f}", (end, place), (3, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(found)), names)
        axes.invert_yaxis()
        axes.margins(x=0.08)
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.set_xlabel(f"cycles of {self.cores} cores a step of one sample; beside each bar its MAC/cycle")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        return {"cycles": figure}


class LostUpdates:
    """Of the parameters with a gradient other than zero: which share an optimiser's step leaves as they were."""

    def __init__(self) -> None:
        self._asked = 0
        self._lost = 0
        self._before: list[tuple[Tensor, Tensor]] = []

    @property
    def share(self) -> float | None:
        """0..1; None before the first step."""
        return self._lost / self._asked if self._asked else None

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count in all optimisers of this process."""
        hooks = [register_optimizer_step_pre_hook(self._look), register_optimizer_step_post_hook(self._compare)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _look(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self._before = [
            (parameter, parameter.detach().clone()) for parameter in trained if not parameter.grad.is_sparse
        ]

    def _compare(self, *_: Any) -> None:
        for parameter, before in self._before:
            asked = parameter.grad != 0
            self._asked += int(asked.sum())
            self._lost += int((asked & (parameter.detach() == before)).sum())
        self._before = []
