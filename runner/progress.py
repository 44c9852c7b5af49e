"""Progress on a terminal, through Rich; silent where the output is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich import progress
from rich.console import Console

REFRESH_SECONDS = 0.1


class Bar:
    """A bar that is drawn at most ten times a second, whatever the length of an epoch."""

    def __init__(self, drawn: progress.Progress | None, task: Any = None) -> None:
        self._drawn = drawn
        self._task = task
        self._next = 0.0

    def update(self, done: int, values: dict[str, float]) -> None:
        """Show the number of epochs done and the latest metrics."""
        if self._drawn is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + REFRESH_SECONDS
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._drawn.update(self._task, completed=done, values=shown, refresh=True)


class Progress:
    """Draws a bar a loop, which goes when the loop ends."""

    def __init__(self, enabled: bool) -> None:
        self._console = Console(stderr=True)
        self.enabled = enabled and self._console.is_terminal

    @contextmanager
    def loop(self, name: str, epochs: int) -> Iterator[Bar]:
        """A bar for a loop of so many epochs."""
        if not self.enabled:
            yield Bar(None)
            return
        drawn = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[values]}", style="dim"),
            console=self._console,
            transient=True,
            auto_refresh=False,
        )
        with drawn:
            yield Bar(drawn, drawn.add_task(name, total=epochs, values=""))

    @contextmanager
    def counting(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar for so many things; what it gives is called after each."""
        if not self.enabled:
            yield lambda: None
            return
        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
        with progress.Progress(*columns, console=self._console, transient=True) as drawn:
            task = drawn.add_task(name, total=total)
            yield lambda: drawn.advance(task)
