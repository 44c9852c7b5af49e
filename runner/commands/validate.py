"""``runner validate``: check every YAML that is shipped, plugged in or included."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from runner import registry, schema
from runner.commands import options
from runner.compose import Composed, SweepComposer, compose, how_to_sweep
from runner.errors import BadInput, nearest
from runner.identity import common_task
from runner.tables import paper

UNSET = "???"
ADDED = ("experiment", "sweep")
"""Groups of which a command line needs no choice."""
GROUPS = (*registry.SECTIONS, *ADDED, "cluster", "paper")


def main(arguments: list[str]) -> int:
    """Compose and check each choice of each group; status 2 if one is wrong."""
    parser = options.parser("validate", "check every YAML that is shipped, plugged in or included")
    parser.add_argument("what", nargs="*", default=GROUPS, help="a group (paper) or one of its choices (paper=nbfnet)")
    wrong, checked = 0, 0
    for group, name in dict.fromkeys(_named(parser.parse_args(arguments).what)):
        checked += 1
        try:
            _check(group, name)
        except BadInput as error:
            wrong += 1
            print(f"{registry.choices(group)[name]}: {error}", file=sys.stderr)
    print(f"{checked} YAML files checked, {wrong} wrong")
    return 2 if wrong else 0


def _named(what: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Group and name of each choice that is meant."""
    for item in what:
        group, _, name = item.partition("=")
        if group not in GROUPS:
            raise BadInput(f"no group '{group}'{nearest(group, GROUPS)}; {', '.join(GROUPS)}")
        known = registry.choices(group)
        if name and name not in known:
            raise BadInput(f"no {group} '{name}'{nearest(name, known)} (`runner list {group}` shows all)")
        for chosen in [name] if name else known:
            yield group, chosen


def _check(group: str, name: str) -> None:
    if group == "paper":
        composer = SweepComposer()
        for scale in ("cpu", "full"):
            for overrides in dict.fromkeys(cell.overrides for cell in paper.load(name, scale).cells.values()):
                _fits(composer(overrides))
        return
    content = registry.read(group, name)
    if group == "cluster":
        schema.validate_section(group, content[group])
        return
    if group in registry.SECTIONS:
        _keys_match(group, content)
    command = _command(group, name, content)
    if "sweep" in content:
        schema.validate_section("sweep", how_to_sweep(command))
    composed = compose(command)
    schema.validate(composed.config)
    if group in ("method", "dataset"):
        common_task(composed)


def _fits(composed: Composed) -> None:
    """A run's config is right, whether or not its data are here."""
    schema.validate(composed.config)
    common_task(composed)


def _keys_match(group: str, content: dict[str, Any]) -> None:
    fields = schema.fields(content.get("_target_", ""))
    keys = {key for key in content if not key.startswith("_")} - {"defaults"}
    if extra := sorted(keys - fields.keys()):
        raise BadInput(f"key '{extra[0]}' is no argument of {content['_target_']}")
    if missing := sorted(fields.keys() - keys):
        raise BadInput(f"argument '{missing[0]}' of {content['_target_']} has no key")
    if group in ("method", "dataset") and not content.get("_tasks_"):
        raise BadInput("_tasks_ is missing")
    if group == "method" and "_version_" not in content:
        raise BadInput("_version_ is missing")


def _command(group: str, name: str, content: dict[str, Any]) -> list[str]:
    """Overrides with which a choice can be composed: something that fits it, and a value for what must be given."""
    chosen = {} if group in ADDED else {group: name}
    tasks = content.get("_tasks_")
    own = _chosen_by(name) if group == "experiment" else set()
    for other in ("method", "dataset"):
        if other not in own:
            chosen.setdefault(other, _fitting(other, tasks))
    kinds = schema.fields(content["_target_"]) if UNSET in content.values() else {}
    lists = {key for key, kind in kinds.items() if getattr(kind, "__origin__", None) is list}
    unset = {key: "[unset]" if key in lists else "unset" for key, value in content.items() if value == UNSET}
    given = [f"{group}.{key}={value}" for key, value in unset.items()]
    return [
        *(f"{key}={value}" for key, value in chosen.items()),
        *([f"+{group}={name}"] if group in ADDED else []),
        *given,
    ]


def _chosen_by(experiment: str) -> set[str]:
    """Groups of which an experiment, or one that it builds on, makes the choice itself."""
    groups: set[str] = set()
    for entry in registry.read("experiment", experiment).get("defaults", []):
        if isinstance(entry, dict):
            groups |= {key.rpartition("/")[2] for key in entry}
        elif entry != "_self_":
            groups |= _chosen_by(entry)
    return groups


def _fitting(group: str, tasks: list[str] | None) -> str:
    """A choice of the group without mandatory values that shares a task."""
    for name in registry.choices(group):
        content = registry.read(group, name)
        if UNSET not in content.values() and (tasks is None or set(tasks) & set(content.get("_tasks_", []))):
            return name
    raise BadInput(f"no {group} shares a task with it ({', '.join(tasks or [])})")
