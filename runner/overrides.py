"""Python values as overrides, and back: ``lr=0.1`` and ``{"model.num_layers": 2}`` are what one types."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from runner.errors import BadInput

PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_][\w.-]*", re.IGNORECASE | re.ASCII)
"""Strings that Hydra's grammar reads as strings without quotes."""
BACKSLASH = "\\"


def of_keys(keys: Mapping[str, Any]) -> list[str]:
    """``{"model.num_layers": 2}`` as ``["model.num_layers=2"]``; a list is a value.

    Raises:
        BadInput: a value that no config can hold.
    """
    return [f"{key}={_written(key, value)}" for key, value in keys.items()]


def of_sweep(keys: Mapping[str, Any]) -> list[str]:
    """The same for a sweep: a list or range at the top is a choice of values, each made to exist."""
    return [
        f"{key}={','.join(_written(key, item) for item in value)}"
        if isinstance(value, Sequence) and not isinstance(value, str)
        else f"{key}={_written(key, value)}"
        for key, value in keys.items()
    ]


def as_keys(overrides: Sequence[str]) -> dict[str, Any]:
    """Overrides of one run as values by key."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {override.key_or_group: override.value() for override in parsed if not override.is_delete()}


def environment() -> list[str]:
    """Hydra overrides that give a job this process's own settings, whatever its worker began with."""
    names = sorted(name for name in os.environ if name.startswith("RUNNER_"))
    return [f"+hydra.job.env_set.{name}={_quoted(os.environ[name])}" for name in names]


def _written(key: str, value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) else _quoted(value)
    if isinstance(value, Mapping):
        inner = ",".join(f"{name}:{_written(key, item)}" for name, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, Sequence):
        return f"[{','.join(_written(key, item) for item in value)}]"
    raise BadInput(f"{key}={value!r}: a config holds numbers, strings, booleans, None, lists and dicts")


def _quoted(text: str) -> str:
    r"""In single quotes, as Hydra's grammar wants it: backslashes count only before a quote.

    The grammar has no escape for a trailing backslash but doubling it.
    """
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{trailing * BACKSLASH}'"
