"""``runner show RUN``: one run."""

from __future__ import annotations

import json
import shlex
import time

from runner import stored
from runner.commands import options
from runner.errors import RunnerError
from runner.store.records import Record


def main(arguments: list[str]) -> int:
    """Print config, metrics and places of a run."""
    parser = options.parser("show", "one run: config, metrics, where its artefacts are")
    parser.add_argument("run", help="id, or its beginning")
    options.add_store(parser)
    parsed = parser.parse_args(arguments)
    record = options.records(parsed).one(parsed.run)
    tags = record.tags
    print(f"run        {record.run_id}")
    print(f"status     {record.status}{f': {tags[REASON]}' if REASON in tags else ''}")
    print(f"started    {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record.start_ms / 1000))}")
    if tags.get(stored.OVERRIDES_TAG):
        print(f"repeat     runner {shlex.join(stored.overrides_of(record))}")
    for name in (
        "runner.unofficial",
        "runner.no_cost",
        "runner.superseded",
        "runner.duplicate",
        "runner.machine",
        "mlflow.source.git.commit",
    ):
        if name in tags:
            print(f"{name.rpartition('.')[2]:<10} {tags[name]}")
    if record.key:
        print(f"key        {record.key}")
        print(f"code       {_staleness(record)}")
    print(f"artefacts  {record.artifact_uri}")
    if record.metrics:
        print("metrics")
        for name, value in sorted(record.metrics.items()):
            print(f"  {name:<40} {value:.6g}")
    if stored.DECIDING_TAG in tags:
        print("config (what decides the result)")
        print(_indented(json.loads(tags[stored.DECIDING_TAG])))
    return 0


REASON = "runner.reason"


def _staleness(record: Record) -> str:
    try:
        config = stored.identity_of(record).config
    except RunnerError as error:
        return f"its config can't be composed any more: {error}"
    return "stale: it has changed since" if stored.is_stale(record, config) else "unchanged since"


def _indented(config: dict[str, object]) -> str:
    import yaml

    text = yaml.safe_dump(config, sort_keys=True)
    return "\n".join(f"  {line}" for line in text.splitlines())
