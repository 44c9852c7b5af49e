"""Seeds of one cell, made by one job: trained in one pass where their method can (``Method.together``).

Each is a run of its own all the same: own attempt, lock, logs, random states, stop and record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from runner import registry
from runner.contracts import Method, Together
from runner.errors import Interrupted, RunnerError
from runner.execute import Built, Fit, Making, Outcome, claimed, make_exist
from runner.identity import Identity

Ended = Callable[[int, Outcome | RunnerError], object]
"""Told of each run's end, by its seed."""


def make_together(
    identities: Mapping[int, Identity], lines: Mapping[int, Sequence[str]], say: Callable[[str], object], ended: Ended
) -> None:
    """Make runs exist that differ in nothing but their seed.

    Args:
        identities: the runs, by their seed.
        lines: the command line that repeats each, likewise.
        say: called with the reason, where they are trained one by one.
        ended: called once for each run.

    Raises:
        Interrupted: the runs that were under way are KILLED and resumable.
    """
    if not identities:
        return
    first = next(iter(identities.values())).config
    method = type(registry.build(first["method"]))
    if not _is_able(method):
        say(f"seeds_at_once: {Method.together((), (), ())}")
        for seed, identity in identities.items():
            try:
                ended(seed, make_exist(identity, lines[seed]))
            except RunnerError as error:
                ended(seed, _unless_interrupted(error))
        return
    with ExitStack() as stack:
        makings: dict[int, Making] = {}
        # by key: two jobs that want the same runs never each wait for what the other one holds
        for seed, identity in sorted(identities.items(), key=lambda item: item[1].key):
            try:
                found = stack.enter_context(claimed(identity, lines[seed]))
            except RunnerError as error:
                ended(seed, _unless_interrupted(error))
                continue
            if isinstance(found, Outcome):
                ended(seed, found)
            else:
                makings[seed] = found
        if makings:
            stack.enter_context(next(iter(makings.values())).hardware.entered())
            _Pass({seed: makings[seed] for seed in identities if seed in makings}, ended).make(say)


def _is_able(method: type[Method[Any]]) -> bool:
    """Whether a method has more to say than that it is not."""
    return next(kind for kind in method.__mro__ if "together" in vars(kind)) is not Method


def _unless_interrupted(error: RunnerError) -> RunnerError:
    if isinstance(error, Interrupted):
        raise error
    return error


def _how(built: Sequence[Built]) -> Together | str:
    methods = [one.method for one in built]
    try:
        return type(methods[0]).together(methods, [one.task for one in built], [one.run for one in built])
    except Exception as error:  # alone each of them may still end well
        return f"{type(error).__name__}: {error}"


class _Pass:
    """Runs that are claimed, on a hardware that is entered."""

    def __init__(self, makings: Mapping[int, Making], ended: Ended) -> None:
        self._ended = ended
        self._steps = {seed: making.steps(len(makings) - 1) for seed, making in makings.items()}
        self._built: dict[int, Built] = {}

    def make(self, say: Callable[[str], object]) -> None:
        """Make them all; one that fails stops no other."""
        try:
            for seed in list(self._steps):
                self._advance(seed)
            built = list(self._built.values())
            if len(built) > 1:
                how = _how(built)
                if isinstance(how, Together):
                    self._train(how)
                else:
                    say(f"seeds_at_once: one by one, {how}")
            for seed in list(self._steps):
                self._advance(seed)
        except (Interrupted, KeyboardInterrupt) as error:
            for steps in self._steps.values():
                with suppress(Interrupted, KeyboardInterrupt, StopIteration, RunnerError):
                    steps.throw(error)
            raise

    def _train(self, how: Together) -> None:
        """In turns: a step for all that wait for one, then what each does with it."""
        numbers = {seed: number for number, seed in enumerate(self._built)}
        for seed, number in numbers.items():
            self._turn(seed, partial(how.fit, number))
        while waiting := [seed for seed in numbers if seed in self._steps]:
            begun = time.perf_counter()
            try:
                how.step([numbers[seed] for seed in waiting])
            except Exception as error:
                for seed in waiting:
                    self._advance(seed, error=error)
                return
            share = (time.perf_counter() - begun) / len(waiting)
            for seed in waiting:
                self._built[seed].loops.spend(share)
                self._turn(seed)

    def _turn(self, seed: int, fit: Fit | None = None) -> None:
        loops = self._built[seed].loops
        begun, aside = time.perf_counter(), loops.seconds_aside
        self._advance(seed, fit)
        if seed in self._steps:
            loops.spend(time.perf_counter() - begun - (loops.seconds_aside - aside))

    def _advance(self, seed: int, fit: Fit | None = None, error: Exception | None = None) -> None:
        """To a run's next step; one that was built anew, for its snapshots were damaged, is trained alone."""
        steps = self._steps[seed]
        try:
            found = steps.send(fit) if error is None else steps.throw(error)
            if isinstance(found, Built):
                if seed in self._built:
                    self._advance(seed)
                self._built[seed] = found
        except StopIteration as end:
            self._end(seed, end.value)
        except RunnerError as caught:
            self._end(seed, _unless_interrupted(caught))

    def _end(self, seed: int, end: Outcome | RunnerError) -> None:
        del self._steps[seed]
        self._ended(seed, end)
