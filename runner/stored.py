"""Stored runs and the configs they came from: identities, staleness, the nearest finished run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from runner import code_fingerprint, registry, schema
from runner.compose import COMPOSING, CONFIG_NAME, Composed, bad_input, compose
from runner.errors import BadInput, DataUnavailable, RunnerError
from runner.identity import Identity, differences, identify
from runner.store.records import KIND_TAG, Record, Records, uri_of

CODE_TAG = "runner.code"
OVERRIDES_TAG = "runner.overrides"
DECIDING_TAG = "runner.deciding"
STORE_KEYS = ("home=", "tracking.")


def records_of(overrides: Sequence[str]) -> Records:
    """The store that a command means: ``home=…`` and ``tracking.…`` among its arguments, else the defaults."""
    config = store_config(overrides)
    return Records(uri_of(config), config["tracking"]["experiment"])


def home_of(overrides: Sequence[str]) -> Path:
    """The folder ``home`` that a command means."""
    return Path(store_config(overrides)["home"])


def store_config(overrides: Sequence[str]) -> dict[str, Any]:
    """``home`` and ``tracking`` of the config that such arguments mean."""
    for line in overrides:
        if not line.startswith(STORE_KEYS) or "=" not in line:
            raise BadInput(f"'{line}' can't be used here; home=… and tracking.uri=… can")
    content = registry.load_yaml(registry.conf_dirs()[0] / f"{CONFIG_NAME}.yaml")
    config = OmegaConf.create({name: content[name] for name in ("home", "tracking")})
    try:
        given = OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))
        merged: Any = OmegaConf.to_container(given, resolve=True)
    except (*COMPOSING, yaml.YAMLError) as error:
        raise bad_input(error, overrides) from error
    return schema.validate_some(merged)


def identify_run(composed: Composed) -> Identity:
    """The identity of a composed config; asks its own store about the runs that it names by id."""

    def key_of_run(run_id: str) -> str:  # asked for once the config is known to be sound
        record = Records(uri_of(composed.config), composed.config["tracking"]["experiment"]).one(run_id)
        if record.key is None or record.status != "FINISHED":
            raise BadInput(f"run {run_id} is {record.status.lower()}: a finished run is needed")
        return record.key

    return identify(composed, key_of_run, _content_fingerprint)


def _content_fingerprint(section: dict[str, Any], task: str) -> str:
    try:
        return str(registry.build(section).load(task).fingerprint)
    except (RunnerError, MemoryError):
        raise
    except Exception as error:  # a dataset of the user's own may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise DataUnavailable(f"the dataset can't be read: {reason}; check dataset.…=") from error


def expanded(overrides: Sequence[str]) -> list[str]:
    """``mode=evaluate run=<id>`` with the overrides of that run before it; any other command line as it is."""
    overrides = list(overrides)
    run_id = next((line.removeprefix("run=") for line in overrides if line.startswith("run=")), None)
    if "mode=evaluate" not in overrides or run_id is None:
        return overrides
    record = records_of([_unescaped(line) for line in overrides if line.startswith(STORE_KEYS)]).one(run_id)
    overrides[overrides.index(f"run={run_id}")] = f"run={record.run_id}"
    return [*overrides_of(record), *overrides]


def _unescaped(line: str) -> str:
    """An override as it would be typed for a command: in a sweep Hydra writes ``http\\://``, say."""
    value = OverridesParser.create().parse_override(line).value()
    return f"{line.partition('=')[0]}={'null' if value is None else value}"


def overrides_of(record: Record) -> list[str]:
    """The overrides that made a run."""
    return [str(line) for line in json.loads(record.tags.get(OVERRIDES_TAG, "[]"))]


def identity_of(record: Record) -> Identity:
    """A stored run's identity, composed again."""
    return identify_run(compose(overrides_of(record)))


def is_stale(record: Record, config: dict[str, Any]) -> bool:
    """Whether the code that a run depends on has changed since."""
    return record.tags.get(CODE_TAG) != code_fingerprint.of_sections(config)


def nearest_finished(identity: Identity, records: Records) -> tuple[Record, dict[str, tuple[Any, Any]]] | None:
    """The finished run that differs from ``identity`` in the fewest fields, and those fields (this, that)."""
    compared = [
        (record, differences(identity.deciding, json.loads(record.tags[DECIDING_TAG])))
        for record in records.finished().values()
        if record.tags.get(KIND_TAG) == identity.config["mode"] and DECIDING_TAG in record.tags
    ]
    return min(compared, key=lambda pair: (len(pair[1]), -pair[0].start_ms), default=None)
