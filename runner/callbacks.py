"""A user's own code beside a run: told of its start, its epochs and its end, unable to change it but by ending it.

A callback is chosen in the config, under any launcher::

    runner … --include-path my '+callbacks.mine={_target_: my_module.Watcher, path: out.txt}'

or handed over as an object: ``runner.run(…, callbacks=[Watcher(path="out.txt")])``. It enters no run's key,
so a run that exists already is not made again for it, and calls nobody back.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runner import registry
from runner.errors import BadInput

STUDY = "study"
"""The name of the callback by which a search watches its runs. It is none of the run's own, and not recorded."""


@dataclass(frozen=True)
class WatchedRun:
    """What a callback is told about its run; a copy of its own."""

    key: str
    """SHA-256 (hex) of what decides the run."""
    title: str
    """``method on dataset``."""
    choices: Mapping[str, str]
    """Names chosen for method, dataset, model, hardware."""
    config: Mapping[str, Any]
    """The whole config."""
    run_id: str
    """The store's id."""
    seed: int


class Callback:
    """Base class: override what you want to hear of. Constructor: keyword-only arguments, as a method's.

    ``on_epoch`` may raise ``runner.errors.Pruned`` to end the run, which is then KILLED and no failure. Whatever else
    an override raises is told in one line, and the callback hears no more of that run, which goes on.
    Its time doesn't count as training time, and the random numbers that it draws are not the run's.
    """

    def on_run_start(self, run: WatchedRun) -> None:
        """The store has the run; nothing is built yet."""

    def on_epoch(self, run: WatchedRun, loop: str, epoch: int, of: int, metrics: dict[str, float]) -> None:
        """An epoch has ended. A resumed run tells those that it makes, not those that it remembers.

        Args:
            run: the run.
            loop: the loop's name.
            epoch: from 1 in each loop.
            of: most epochs that the loop may have.
            metrics: what was logged in this epoch, without the loop's prefix.
        """

    def on_run_end(self, run: WatchedRun, status: str, metrics: dict[str, float], reason: str) -> None:
        """The run is recorded.

        Args:
            run: the run.
            status: ``finished``, ``failed`` or ``killed`` (then resumable).
            metrics: final metrics and costs; empty where there are none.
            reason: why it failed, else empty.
        """


class Watchers:
    """The callbacks of one run. One that raises is dropped."""

    def __init__(self, callbacks: Mapping[str, Callback], run: WatchedRun) -> None:
        """``callbacks``: by the name that their errors are told under."""
        self._watching = {name: (callback, copy.deepcopy(run)) for name, callback in callbacks.items()}

    def __bool__(self) -> bool:
        return bool(self._watching)

    def start(self) -> None:
        """Tell that the run begins."""
        self._tell(lambda callback, run: callback.on_run_start(run))

    def epoch(self, loop: str, epoch: int, of: int, metrics: Mapping[str, float]) -> None:
        """Tell that an epoch has ended."""
        self._tell(lambda callback, run: callback.on_epoch(run, loop, epoch, of, dict(metrics)))

    def end(self, status: str, metrics: Mapping[str, float], reason: str) -> None:
        """Tell that the run has ended."""
        self._tell(lambda callback, run: callback.on_run_end(run, status, dict(metrics), reason))

    def _tell(self, event: Callable[[Callback, WatchedRun], None]) -> None:
        for name, (callback, run) in list(self._watching.items()):
            try:
                event(callback, run)
            except Exception as error:  # a user's code may raise anything; the run goes on
                del self._watching[name]
                _tell_dropped(name, error)


def build(sections: Mapping[str, dict[str, Any]], handed: Iterable[Callback] = ()) -> dict[str, Callback]:
    """The callbacks of a config's ``callbacks`` and those handed over as objects, by name.

    Raises:
        BadInput: a ``_target_`` is no callback, or its constructor refuses a value with ``BadInput``.
    """
    built: dict[str, Callback] = {}
    for name, section in sections.items():
        try:
            callback = registry.build(section)
        except BadInput:
            raise
        except Exception as error:  # a user's constructor may raise anything; the run goes on
            _tell_dropped(name, error)
            continue
        if not isinstance(callback, Callback):
            raise BadInput(f"callbacks.{name}: {section['_target_']} is no subclass of runner.callbacks.Callback")
        built[name] = callback
    for number, callback in enumerate(handed):
        built[f"{type(callback).__name__}#{number}"] = callback
    return built


def _tell_dropped(name: str, error: Exception) -> None:
    reason = " ".join(str(error).split())
    print(
        f"callback '{name}' raised {type(error).__name__}: {reason}; this run goes on without it",
        file=sys.stderr,
        flush=True,
    )
