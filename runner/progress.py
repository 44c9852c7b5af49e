"""Progress on a terminal, through Rich; silent where the output is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich import progress
from rich.console import Console
from rich.text import Text

REFRESH_SECONDS = 0.1

_sweeps: list[progress.Progress] = []
"""What the sweep of this process draws on: the bars of its cells join it."""


class Bar:
    """A bar that is drawn at most ten times a second, whatever the length of an epoch."""

    def __init__(self, drawn: progress.Progress | None, task: Any = None) -> None:
        self._drawn = drawn
        self._task = task
        self._next = 0.0
        self._values: dict[str, float] = {}

    def update(self, done: int, values: dict[str, float]) -> None:
        """Show the number of epochs done and the latest metrics."""
        if self._drawn is None:
            return
        self._values |= values
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + REFRESH_SECONDS
        shown = "  ".join(f"{name} {value:.4g}" for name, value in self._values.items())
        self._drawn.update(self._task, completed=done, values=shown, refresh=True)


class Progress:
    """Draws a bar a loop, which goes when the loop ends."""

    def __init__(self, enabled: bool, *, alone: bool = True) -> None:
        """``alone``: no sweep's cell. A cell draws below its sweep's bar, and not at all in another process."""
        self._console = Console(stderr=True)
        self._alone = alone
        self.enabled = enabled and self._console.is_terminal

    @contextmanager
    def loop(self, name: str, epochs: int) -> Iterator[Bar]:
        """A bar for a loop of so many epochs."""
        if self.enabled and _sweeps:
            drawn = _sweeps[-1]
            task = drawn.add_task(f"  {name}", total=epochs, values="")
            try:
                yield Bar(drawn, task)
            finally:
                drawn.remove_task(task)
        elif self.enabled and self._alone:
            with _drawing(self._console, auto_refresh=False) as drawn:
                yield Bar(drawn, drawn.add_task(name, total=epochs, values=""))
        else:
            yield Bar(None)

    @contextmanager
    def counting(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar for so many things; what it gives is called after each."""
        if not self.enabled:
            yield lambda: None
            return
        with _drawing(self._console, auto_refresh=True) as drawn:
            task = drawn.add_task(name, total=total, values="")
            yield lambda: drawn.advance(task)


class _Left(progress.TimeRemainingColumn):
    """Time left: what the task's ``left`` says (seconds, None: unknown), else by the task's own speed."""

    def render(self, task: progress.Task) -> Text:
        if "left" not in task.fields:
            return super().render(task)
        left = task.fields["left"]
        shown = "-:--:--" if left is None else str(timedelta(seconds=round(left)))
        return Text(shown, style="progress.remaining")


def _drawing(console: Console, auto_refresh: bool) -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        _Left(),
        progress.TextColumn("{task.fields[values]}", style="dim"),
        console=console,
        transient=True,
        auto_refresh=auto_refresh,
        refresh_per_second=2,
    )


Report = Callable[[int, int, float | None], None]
"""Takes runs done, runs failed, and the seconds that are left, where they are known."""


@contextmanager
def sweep(enabled: bool, total: int) -> Iterator[Report | None]:
    """A bar for all runs of a sweep; None where nothing is drawn."""
    console = Console(stderr=True)
    if not (enabled and console.is_terminal):
        yield None
        return
    with _drawing(console, auto_refresh=True) as drawn:
        task = drawn.add_task("runs", total=total, values="", left=None)

        def report(done: int, failed: int, left: float | None) -> None:
            drawn.update(task, completed=done, left=left, values=f"{failed} failed" if failed else "")

        _sweeps.append(drawn)
        try:
            yield report
        finally:
            _sweeps.remove(drawn)
