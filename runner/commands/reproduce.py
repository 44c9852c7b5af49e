"""``runner reproduce paper=…``: make the runs exist that a paper's tables need, through any launcher."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from runner.commands.paper_options import PaperOptions, describe
from runner.durations import Durations
from runner.identity import Identity
from runner.launchers import engine
from runner.making import look_after_store
from runner.store.records import Record, Records, uri_of
from runner.sweep_watch import to_stderr
from runner.tables.measured import needed

OWN = {
    "tables": "only these tables, separated by commas",
    "dry_run": "true: say what would run and for about how long, from earlier runs' times",
}
MINUTE = 60


def main(arguments: list[str]) -> int:
    """Make the missing runs exist, or say which they are."""
    if describe("reproduce", "make the runs exist that a paper's tables need", OWN, arguments):
        return 0
    options = PaperOptions.parse("reproduce", arguments, OWN)
    tables = [name for name in options.own.get("tables", "").split(",") if name]
    for name in tables:
        options.demand("tables", name, options.expanded.paper.tables)
    dry = options.flag("dry_run")
    for_runs = [line for line in engine.without(options.overrides) if not line.startswith("hydra")]
    for_hydra = [line for line in options.overrides if line not in for_runs]
    wanted = needed(options.expanded, for_runs, tables)
    identities = list(wanted.values())
    look_after_store(identities[0].config, to_stderr)
    if dry:
        return _say(wanted)
    from runner.commands import sweep_summary
    from runner.sweep import launch

    status = sweep_summary.show(launch([list(line) for line in wanted], for_hydra, to_stderr))
    print(
        f"next: runner table paper={options.expanded.name} scale={options.expanded.scale} {' '.join(for_runs)}".rstrip()
    )
    return status


def _say(wanted: dict[tuple[str, ...], Identity]) -> int:
    records = _records(list(wanted.values()))
    finished = {record.key for record in records}
    times = Durations.of(records)
    missing = [(line, identity) for line, identity in wanted.items() if identity.key not in finished]
    total, unknown = 0.0, 0
    groups: dict[str, list[float | None]] = defaultdict(list)
    for line, identity in missing:
        groups[" ".join(line[:-1])].append(times.estimate(identity.choices))
    for name, seconds in groups.items():
        known = [value for value in seconds if value is not None]
        total += sum(known)
        unknown += len(seconds) - len(known)
        print(f"{len(seconds)} × {name}: {f'about {sum(known):.0f} s' if known else 'time unknown'}")
    print(f"{len(wanted) - len(missing)} of {len(wanted)} runs exist; {len(missing)} would run, one after the other")
    rest = f", and {unknown} of which no earlier run tells" if unknown else ""
    print(f"about {total / MINUTE:.1f} minutes{rest}")
    return 0


def _records(identities: Sequence[Identity]) -> list[Record]:
    stores = {(uri_of(identity.config), identity.config["tracking"]["experiment"]) for identity in identities}
    return [record for uri, experiment in stores for record in Records(uri, experiment).finished().values()]
