"""Every error a user may meet, each with the exit status it stands for.

The command line prints the message as one line; a traceback is shown only with ``RUNNER_TRACEBACK=1``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RunnerError(Exception):
    """Base of all errors that are told in one line; ``exit_status`` goes to the shell."""

    exit_status = 1


class BadInput(RunnerError):
    """What was asked for can't be: an unknown name, a wrong type, a missing device."""

    exit_status = 2


class DataUnavailable(RunnerError):
    """Genuine data can't be had here; the message says how to supply it."""


class CorruptData(RunnerError):
    """Data differ from what their recipe pins; the message names both hashes."""


class StoreUnavailable(RunnerError):
    """The tracking store can't be reached, read or written."""


class RunFailed(RunnerError):
    """A run ended without a result; the message is the reason that the store keeps."""


class Diverged(RunFailed):
    """A logged value is NaN or infinite."""


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM: the run is KILLED and resumable. Not an ``Exception``, so that no method swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"signal {signal_number}")
        self.exit_status = 128 + signal_number


class Pruned(BaseException):
    """A callback ends its run before its time: KILLED, resumable, and no failure. No method swallows it either."""


LONGEST = 1000


def one_line(text: str) -> str:
    """``text`` without line breaks and control characters, shortened where it is endless."""
    text = " ".join(text.split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def nearest(name: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'cora'?"`` where one of ``choices`` is close to ``name``, else the empty string."""
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
