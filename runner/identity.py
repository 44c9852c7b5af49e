"""A run's key: what decides its result, as canonical JSON, hashed.

Two commands that mean the same run have the same key, on any machine. Tracking, paths, progress and the
rhythm of checkpoints don't enter; the task's content fingerprint and the keys of referenced runs do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner import registry, schema
from runner.compose import Composed, compose
from runner.errors import BadInput

ENTERING = ("seed", "limit", "time_budget", "mode", *registry.SECTIONS)
METADATA_ENTERING = ("_target_", "_version_", "_seed_")
NEUTRAL = "_neutral_"
"""A section's keys that came later, with the value under which all is as before: so set, they don't enter."""
SHARED = ("home", "tracking", "progress", "checkpoint")
"""What a run that is referred to takes from the one that refers to it: where it is kept, not what it is."""
ID_PREFIX = "id:"


@dataclass(frozen=True)
class Identity:
    """A validated run: its full config, the part that decides its result, and the key of that part."""

    config: dict[str, Any]
    """The whole config, coerced by the schema."""
    choices: dict[str, str]
    """Names chosen for method, dataset, model, hardware."""
    deciding: dict[str, Any]
    """The part of the config that enters the key, with fingerprint and referenced keys."""
    references: dict[str, Identity]
    """Runs that this run's method refers to by overrides, by argument name."""
    key: str
    """SHA-256 (hex) of ``deciding`` as canonical JSON."""

    @property
    def title(self) -> str:
        """``method on dataset``."""
        return f"{self.choices['method']} on {self.choices['dataset']}"


def canonical(value: Any) -> str:
    """JSON with sorted keys, no blanks, shortest round-trip floats, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def identify(
    composed: Composed,
    key_of_run: Callable[[str], str],
    fingerprint: Callable[[dict[str, Any], str], str],
) -> Identity:
    """Validate a composed config and compute its key.

    Args:
        composed: a config from ``runner.compose``.
        key_of_run: the key of the stored run with a given id (for ``id:…`` references and ``mode=evaluate``).
        fingerprint: content fingerprint of a dataset section whose YAML pins none, for a kind of task.

    Raises:
        BadInput: the config doesn't fit its schema, or the method can't take the dataset's tasks.
    """
    config = schema.validate(composed.config)
    method, dataset = config["method"], config["dataset"]
    task = common_task(composed)
    deciding: dict[str, Any] = {name: config[name] for name in ENTERING if name not in registry.SECTIONS}
    for section in registry.SECTIONS:
        neutral = config[section].get(NEUTRAL, {})
        deciding[section] = {
            key: value
            for key, value in config[section].items()
            if (not key.startswith("_") or key in METADATA_ENTERING) and not (key in neutral and value == neutral[key])
        }
    deciding["task"] = {
        "kind": task,
        "fingerprint": dataset.get("_fingerprint_") or fingerprint(dataset, task),
    }
    references: dict[str, Identity] = {}
    keys: dict[str, str] = {}
    for place, target in referred(method).items():
        if target.startswith(ID_PREFIX):
            keys[place] = key_of_run(target.removeprefix(ID_PREFIX))
        else:
            other = compose(target.split())
            other.config.update({key: composed.config[key] for key in SHARED})
            references[place] = identify(other, key_of_run, fingerprint)
            keys[place] = references[place].key
    for name in schema.references(method["_target_"]):
        listed = [key for place, key in keys.items() if place.startswith(f"{name}.")]
        deciding["method"][name] = keys.get(name, listed)
    if config["mode"] == "evaluate":
        if config["run"] is None:
            raise BadInput("mode=evaluate needs run=<id> of a finished run (`runner list runs`)")
        deciding["run"] = key_of_run(config["run"])
    elif config["run"] is not None:
        raise BadInput("run=… goes with mode=evaluate")
    return Identity(config, composed.choices, deciding, references, digest(deciding))


def referred(method: dict[str, Any]) -> dict[str, str]:
    """The runs that a method's section refers to: by argument, ``name.0``, ``name.1``, … where it is a list of them."""
    found: dict[str, str] = {}
    for name in schema.references(method["_target_"]):
        value = method[name]
        found |= {name: value} if isinstance(value, str) else {f"{name}.{n}": one for n, one in enumerate(value)}
    return found


def common_task(composed: Composed) -> str:
    """The kind of task that the method takes and the dataset hands over.

    Raises:
        BadInput: they have none in common; the message lists the datasets that fit the method.
    """
    takes = composed.config["method"].get("_tasks_", [])
    offers = composed.config["dataset"].get("_tasks_", [])
    shared = [task for task in takes if task in offers]
    if shared:
        return str(shared[0])
    method, dataset = composed.choices["method"], composed.choices["dataset"]
    fitting = [name for name in registry.choices("dataset") if _offers(name, takes)]
    raise BadInput(
        f"method '{method}' takes {' or '.join(takes) or 'no task'}, dataset '{dataset}' gives "
        f"{' or '.join(offers) or 'none'}; datasets that fit: {', '.join(fitting) or 'none'}"
    )


def _offers(dataset: str, tasks: list[str]) -> bool:
    return bool(set(tasks) & set(registry.read("dataset", dataset).get("_tasks_", [])))


def differences(one: Any, other: Any, place: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted fields in which two nested dicts differ, with both values (None where one has no such field)."""
    if isinstance(one, dict) or isinstance(other, dict):
        one, other = ({} if side is None else side for side in (one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted(one.keys() | other.keys()):
            inner = f"{place}.{key}" if place else key
            found |= differences(one.get(key), other.get(key), inner)
        return found
    return {} if one == other else {place: (one, other)}
