"""``runner [overrides]`` and ``runner -m [overrides]``: make runs exist; Hydra's own flags."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from typing import TYPE_CHECKING

from hydra._internal.utils import get_args_parser

from runner import compose, schema, stored
from runner.errors import BadInput, one_line
from runner.identity import Identity
from runner.launchers import engine
from runner.store.records import Records, uri_of

if TYPE_CHECKING:
    from runner.jobs import Cell


def main(arguments: list[str]) -> int:
    """Run what Hydra's command line asks for; gives the exit status."""
    explain = "--explain" in arguments
    parsed = _parse([argument for argument in arguments if argument != "--explain"])
    if parsed.multirun:
        return _sweep(parsed.overrides, explain)
    if not parsed.cfg and any(map(engine.is_about, parsed.overrides)):
        raise BadInput("a cluster makes sweeps: add -m (`runner --help` shows more)")
    overrides = stored.expanded(parsed.overrides)
    if parsed.cfg or parsed.info or parsed.hydra_help or parsed.shell_completion:
        return _ask_hydra(parsed, overrides)
    identity = stored.identify_run(compose.compose(overrides))
    return _explain([identity]) if explain else _run(identity, overrides)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        parsed, unknown = parser.parse_known_intermixed_args(arguments)
    except argparse.ArgumentError as error:
        raise BadInput(f"{error} (`runner --help` shows all)") from error
    if unknown:
        raise BadInput(f"unknown option '{unknown[0]}' (`runner --help` shows all)")
    if parsed.config_name or parsed.config_path or parsed.experimental_rerun:
        raise BadInput("--config-name, --config-path and --experimental-rerun have no meaning here; use --include-path")
    if parsed.config_dir:
        raise BadInput("use --include-path DIR, whose conf/ holds config groups, instead of --config-dir")
    assert isinstance(parsed, argparse.Namespace)
    return parsed


def _ask_hydra(parsed: argparse.Namespace, overrides: list[str]) -> int:
    app = compose.hydra()
    try:
        if parsed.cfg:
            if parsed.cfg == "job":
                schema.validate(compose.compose(overrides).config)
            app.show_cfg(compose.CONFIG_NAME, overrides, parsed.cfg, parsed.package, parsed.resolve)
        elif parsed.info:
            app.show_info(parsed.info, compose.CONFIG_NAME, overrides)
        elif parsed.hydra_help:
            app.hydra_help(compose.CONFIG_NAME, get_args_parser(), parsed)
        else:
            app.shell_completion(compose.CONFIG_NAME, overrides)
    except compose.COMPOSING as error:
        raise compose.bad_input(error, overrides) from error
    return 0


def _run(identity: Identity, overrides: list[str]) -> int:
    from runner.making import make_run
    from runner.sweep_watch import to_stderr

    begun = time.perf_counter()
    cell = make_run(identity, overrides, to_stderr)
    if cell.status == "existing":
        _say_existing(identity, cell)
    elif cell.status == "failed":
        print(f"runner: {identity.title} failed: {one_line(cell.reason)}", file=sys.stderr)
        if cell.run_id:
            print(f"  recorded as FAILED: runner show {cell.run_id[:8]}{_store(overrides)}", file=sys.stderr)
        return 1
    else:
        _say_finished(identity, cell, overrides, time.perf_counter() - begun)
    return 0


def _say_existing(identity: Identity, cell: Cell) -> None:
    from runner.jobs import figures

    run = (cell.run_id or "")[:8]
    print(f"{identity.title}: {figures(cell.metrics)}{_unofficial(identity)}")
    print(f"  finished before: run {run}{' (stale: the code has changed since)' if cell.stale else ''}")
    print("  again: add rerun=true")


def _say_finished(identity: Identity, cell: Cell, overrides: list[str], seconds: float) -> None:
    from runner.jobs import figures

    run = (cell.run_id or "")[:8]
    print(f"{identity.title}: {figures(cell.metrics)}{_unofficial(identity)}")
    if cell.reason:
        print(f"  not recorded yet ({seconds:.1f} s in all)")
        print(f"  note: {cell.reason}", file=sys.stderr)
        return
    print(f"  recorded as run {run} in {uri_of(identity.config)} ({seconds:.1f} s in all)")
    line, store = " ".join(overrides), _store(overrides)
    print(f"  next: runner show {run}{store}  |  runner ui{store}  |  runner -m {line} 'seed=range(5)'")


def _store(overrides: list[str]) -> str:
    """What names the store of a command line, for the command that looks at it."""
    return "".join(f" {shlex.quote(line)}" for line in overrides if line.startswith(stored.STORE_KEYS))


def _unofficial(identity: Identity) -> str:
    limit = identity.config["limit"]
    return "" if limit is None else f"  [unofficial: limit={limit}]"


def _sweep(overrides: list[str], explain: bool) -> int:
    from runner.commands import sweep_summary
    from runner.making import make_sweep
    from runner.sweep_watch import to_stderr

    if explain:
        raise BadInput("--explain goes with a single run, not with -m")
    found: list[str] = []
    status = sweep_summary.show(make_sweep(overrides, to_stderr, found.append))
    for line in found:
        print(line)
    return status


def _explain(identities: list[Identity]) -> int:
    from runner import attempt

    for identity in identities:
        config = identity.config
        records = Records(uri_of(config), config["tracking"]["experiment"])
        print(f"{identity.title}: key {identity.key[:16]}")
        folder = attempt.folder_of(config["home"], identity.key)
        if found := records.finished([identity.key]).get(identity.key):
            stale = " (stale: the code has changed since)" if stored.is_stale(found, config) else ""
            print(f"  not new: finished as run {found.run_id[:8]}{stale}")
        elif (folder / "attempt.json").exists():
            print("  new, and begun: the same command without --explain goes on from its last snapshot")
        elif nearest := stored.nearest_finished(identity, records):
            record, fields = nearest
            print(f"  new: it differs from the nearest finished run {record.run_id[:8]} in {len(fields)} fields")
            for field, (this, that) in fields.items():
                print(f"    {field}: {this} here, {that} there")
        else:
            print("  new: no finished run to compare with")
    return 0
