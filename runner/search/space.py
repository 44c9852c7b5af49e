"""A search space in Hydra's own syntax, as Optuna's distributions, and values of it as overrides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from runner import overrides
from runner.errors import BadInput

GROUP = "sweep"
LOG = "log"
MOST_STEPS = 100_000
KINDS = "interval(low,high), range(start,stop,step), choice(a,b) or a,b"


@dataclass(frozen=True)
class Axis:
    """One key that is searched."""

    name: str
    """The key."""
    element: str
    """The key as an override begins with it (``+key``)."""
    text: str
    """The values, as they were typed."""
    distribution: BaseDistribution
    steps: tuple[float, ...] = ()
    """The values of a range of floats as Hydra gives them, rising: Optuna's may differ in the last bit."""

    @property
    def logarithmic(self) -> bool:
        """Whether it is searched by orders of magnitude."""
        return bool(getattr(self.distribution, "log", False))

    def line(self, value: Any) -> str:
        """The override that sets the key to a value of the distribution."""
        if isinstance(self.distribution, CategoricalDistribution):
            return f"{self.element}={value}"  # choices are kept as they are typed
        if self.steps:
            value = min(self.steps, key=lambda step: abs(step - value))
        return overrides.of_keys({self.element: value})[0]

    def values(self) -> list[Any] | None:
        """All values in order; None where there is no end of them."""
        kind = self.distribution
        if isinstance(kind, CategoricalDistribution):
            return list(kind.choices)
        if isinstance(kind, IntDistribution):
            return list(range(kind.low, kind.high + 1, kind.step))
        assert isinstance(kind, FloatDistribution)
        if kind.single():
            return [kind.low]
        return [min(max(step, kind.low), kind.high) for step in self.steps] or None

    def ends(self) -> list[Any]:
        """Values that stand for all in a check: the outermost of numbers, every choice."""
        kind = self.distribution
        if isinstance(kind, CategoricalDistribution):
            return list(kind.choices)
        assert isinstance(kind, IntDistribution | FloatDistribution)
        return list(dict.fromkeys([kind.low, kind.high]))


@dataclass(frozen=True)
class Space:
    """What is searched and what is fixed."""

    axes: dict[str, Axis]
    fixed: list[str]
    """Overrides that every trial shares."""

    @classmethod
    def parse(cls, arguments: Sequence[str], own: Mapping[str, str], loader: ConfigLoader | None = None) -> Space:
        """A space from the command line and a config; what stands on the command line counts.

        Args:
            arguments: overrides, those of the search itself (``sweep.…``) are left out.
            own: values by key, each as it would be typed after ``key=``.
            loader: finds the names that ``glob(*)`` means.

        Raises:
            BadInput: what can't be searched, or nothing to search.
        """
        parser = OverridesParser.create(config_loader=loader)
        try:
            given = [parser.parse_override(f"{key}={text}") for key, text in own.items()]
            typed = [parser.parse_override(line) for line in arguments]
        except HydraException as error:
            raise BadInput(str(error).split("\nSee ")[0]) from error
        for key, override in zip(own, given, strict=True):
            if not override.is_sweep_override():
                raise BadInput(f"sweep.space.{key}={own[key]}: expected a space: {KINDS}")
        typed = [one for one in typed if one.key_or_group != GROUP and not one.key_or_group.startswith(f"{GROUP}.")]
        searched = {one.key_or_group: one for one in given}
        for override in typed:
            searched.pop(override.key_or_group, None)
        searched |= {one.key_or_group: one for one in typed if one.is_sweep_override()}
        if "seed" in searched:
            raise BadInput("seed is no value to search for; sweep.seeds=[0,1,2] makes replicates whose mean counts")
        if not searched:
            raise BadInput(f"nothing to search: give a key a space, {KINDS}, or sweep.space in an experiment")
        fixed = [str(one.input_line) for one in typed if not one.is_sweep_override()]
        return cls({name: axis(override) for name, override in searched.items()}, fixed)

    def lines(self, values: Mapping[str, Any]) -> list[str]:
        """The overrides of a trial."""
        return [*self.fixed, *(axis.line(values[name]) for name, axis in self.axes.items())]

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's, by key."""
        return {name: axis.distribution for name, axis in self.axes.items()}

    def corners(self) -> list[list[str]]:
        """Trials that show whether all values are possible: an axis at each of its ends, the others at their first."""
        first = {name: axis.ends()[0] for name, axis in self.axes.items()}
        tried = [first | {name: end} for name, axis in self.axes.items() for end in axis.ends()]
        return [list(line) for line in dict.fromkeys(tuple(self.lines(values)) for values in tried)]

    def grid(self) -> dict[str, list[Any]]:
        """The values of every axis.

        Raises:
            BadInput: an axis has no end of them.
        """
        found = {}
        for name, axis in self.axes.items():
            values = axis.values()
            if values is None:
                raise BadInput(f"{name}={axis.text} has no end of values for a grid; range(start,stop,step) has one")
            found[name] = values
        return found


def axis(override: Override) -> Axis:
    """A parsed override with a sweep as an axis.

    Raises:
        BadInput: an empty sweep, a logarithm of what isn't positive, an unknown tag.
    """
    value, name, text = override.value(), override.key_or_group, override.get_value_string()
    tags = value.tags if isinstance(value, Sweep) else set()
    if unknown := tags - {LOG}:
        raise BadInput(f"{name}={text}: unknown tag '{min(unknown)}'; there is '{LOG}'")
    log, steps = LOG in tags, tuple[float, ...]()
    try:
        kind: BaseDistribution
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            whole = isinstance(low, int) and isinstance(high, int)
            kind = IntDistribution(low, high, log) if whole else FloatDistribution(low, high, log)
        elif isinstance(value, RangeSweep):
            kind, steps = _range(value, log)
        else:
            if log:
                raise ValueError(f"choices have no '{LOG}'")
            if isinstance(value, Sweep):
                value.shuffle = False
            kind = CategoricalDistribution(tuple(dict.fromkeys(override.sweep_string_iterator())))
    except (ValueError, TypeError, ArithmeticError, HydraException) as error:
        raise BadInput(f"{name}={text}: {error}") from error
    return Axis(name, override.get_key_element(), text, kind, steps)


def _range(value: RangeSweep, log: bool) -> tuple[BaseDistribution, tuple[float, ...]]:
    """Hydra's range is without its ``stop``, Optuna's with its ``high``."""
    start, stop, step = Decimal(value.start), Decimal(value.stop), Decimal(value.step)
    if not step or not 1 <= math.ceil((stop - start) / step) <= MOST_STEPS:
        raise ValueError(f"expected 1 to {MOST_STEPS} values")
    values = tuple(sorted(value.range()))
    if isinstance(values[0], int):
        return IntDistribution(values[0], values[-1], log, abs(int(step))), ()
    if log:
        raise ValueError(f"'{LOG}' goes with interval(low,high)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # half a step more, which Optuna takes off, so that rounding loses no value
        high = values[-1] + abs(float(step)) / 2
        return FloatDistribution(values[0], high, step=abs(float(step))), values
