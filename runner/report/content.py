"""What a report shows, read from the store into plain values."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from runner import registry, stored
from runner.errors import BadInput
from runner.identity import digest
from runner.report import curves, studies
from runner.store.records import KEY_TAG, Record, Records
from runner.tables import paper
from runner.tables.measured import Measured, measure

SEED = "${seed}"
NOT_THE_CONFIG = ("seed=", "progress=", "rerun=", "checkpoint.", *stored.STORE_KEYS)


@dataclass
class Group:
    """Runs of the same config but for the seed."""

    id: str
    config: dict[str, Any]
    """What decides the result, without what follows from the seed."""
    label: str
    """The overrides that all of them share."""
    runs: dict[int, Record] = field(default_factory=dict)
    """The run that counts, by seed."""


@dataclass(frozen=True)
class Content:
    """A store, read."""

    uri: str
    written: str
    runs: list[Record]
    """All runs but sweeps' parents, newest first."""
    groups: list[Group]
    papers: list[Measured]
    """At each scale of which something is measured, else at the first."""
    curves: dict[str, dict[str, curves.Curve]]
    """By run id and metric."""
    studies: list[studies.StudyView] = field(default_factory=list)

    @cached_property
    def group_of(self) -> dict[str, Group]:
        """The group of each run that counts, by run id."""
        return {record.run_id: group for group in self.groups for record in group.runs.values()}


HISTORIES_AT_ONCE = 200
"""Whole histories in memory; what is kept of them is thinned."""


def read(records: Records, papers: Sequence[str], overrides: Sequence[str], step: Callable[[], None]) -> Content:
    """Read a store.

    Args:
        records: the store.
        papers: whose tables.
        overrides: the same store, as overrides for the papers' runs.
        step: called after each run whose history was read.

    Raises:
        BadInput: there is no such paper.
        StoreUnavailable: the store can't be read.
    """
    runs = [record for record in records.all() if KEY_TAG in record.tags]
    found = {}
    for start in range(0, len(runs), HISTORIES_AT_ONCE):
        some = [record.run_id for record in runs[start : start + HISTORIES_AT_ONCE]]
        for run_id, history in records.histories(some).items():
            found[run_id] = curves.thinned(history)
            step()
    measured = [scale for name in papers for scale in _scales(name, overrides, runs)]
    moment = time.strftime("%Y-%m-%d %H:%M %Z")
    searched = studies.read(stored.home_of(overrides), {record.run_id for record in runs})
    return Content(records.uri, moment, runs, groups_of(runs), measured, found, searched)


def _scales(name: str, overrides: Sequence[str], runs: Sequence[Record]) -> list[Measured]:
    """The paper at its first scale, and at the others that anything was asked for at."""
    scales = paper.load(name).paper.scales
    asked = {line for record in runs for line in stored.overrides_of(record)}
    shown = [scale for place, scale in enumerate(scales) if place == 0 or asked.issuperset(scales[scale])]
    found = [measure(paper.load(name, scale), overrides, runs) for scale in shown]
    return [scale for place, scale in enumerate(found) if place == 0 or scale.records]


def groups_of(runs: Sequence[Record]) -> list[Group]:
    """Finished runs that count, as groups; those with most seeds' newest run first."""
    groups: dict[str, Group] = {}
    for record in sorted(runs, key=lambda run: run.end_ms or 0):
        if not record.counts:
            continue
        config = without_seed(record)
        identifier = digest(config)[:12]
        group = groups.setdefault(identifier, Group(identifier, config, label_of(record)))
        group.runs.setdefault(seed_of(record), record)  # the earliest to finish counts, as everywhere
    for group in groups.values():
        group.runs = dict(sorted(group.runs.items()))
    return sorted(groups.values(), key=lambda group: -max(run.start_ms for run in group.runs.values()))


def seed_of(record: Record) -> int:
    """The replicate index of a run."""
    return int(deciding(record).get("seed", 0))


def deciding(record: Record) -> dict[str, Any]:
    """What decided a run; empty where the store doesn't say."""
    try:
        found = json.loads(record.tags.get(stored.DECIDING_TAG, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def label_of(record: Record) -> str:
    """The overrides of a run that say what it is: without seed and store."""
    lines = [line for line in stored.overrides_of(record) if not line.startswith(NOT_THE_CONFIG)]
    return " ".join(lines) or record.tags.get("mlflow.runName", record.run_id[:8])


def without_seed(record: Record) -> dict[str, Any]:
    """What decided a run, without the seed and the fields that its YAML derives from the seed."""
    config = deciding(record)
    chosen = {line.partition("=")[0].lstrip("+") for line in stored.overrides_of(record)}
    kept: dict[str, Any] = {}
    for name, value in config.items():
        if name == "seed":
            continue
        if name in registry.SECTIONS and isinstance(value, dict):
            derived = _derived(name, record.tags.get(f"runner.{name}", ""))
            value = {key: item for key, item in value.items() if key not in derived or f"{name}.{key}" in chosen}
        kept[name] = value
    return kept


@cache
def _derived(section: str, name: str) -> frozenset[str]:
    """Fields of a choice that its YAML derives from the seed."""
    try:
        content = registry.read(section, name)
    except BadInput:  # a choice that is gone: its fields count as they are
        return frozenset()
    return frozenset(key for key, value in content.items() if SEED in str(value))
