"""``runner doctor``: what this machine has, what is wrong, and what to do."""

from __future__ import annotations

import json
import locale
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from runner import attempt, environment, extras, registry, stored
from runner.commands import data, options
from runner.errors import RunnerError
from runner.places import cache_dir, mirror_dir
from runner.store import trouble
from runner.store.records import Records, sqlite_path

DISTRIBUTION = "forward-runner"
NEEDED_BYTES = 2_000_000_000
NEEDED_MEMORY = 2_000_000_000
FIRST_YEAR = 2025
"""A clock that shows an earlier year is wrong."""
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    found: str
    wrong: bool = False
    remedy: str = ""
    """What to do if it is wrong."""


def main(arguments: list[str]) -> int:
    """Print findings; 1 if something is wrong."""
    parser = options.parser("doctor", "check this machine, and say what to do")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options.add_store(parser)
    parsed = parser.parse_args(arguments)
    home = str(stored.store_config(parsed.store)["home"])
    records = options.records(parsed)
    findings = [
        *(*_versions(), *_torch(), *_threads(), *_memory(), *_disk(records, home)),
        *(*_store(records, home), *_data(), *_extras(), *_system()),
    ]
    wrong = sum(finding.wrong for finding in findings)
    if parsed.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
        return 1 if wrong else 0
    for finding in findings:
        print(f"{'WRONG' if finding.wrong else 'ok   '} {finding.found}")
        if finding.wrong:
            print(f"      → {finding.remedy}")
    print("all well" if not wrong else f"{wrong} findings")
    return 1 if wrong else 0


def _versions() -> Iterator[Finding]:
    """Python and the packages, against what the installed distribution requires."""
    yield Finding(
        f"Python {sys.version.split()[0]}", sys.version_info < (3, 11), "install Python 3.11 or newer, and set up anew"
    )
    for requirement in map(Requirement, requires(DISTRIBUTION) or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        install = f"pip install '{requirement.name}{requirement.specifier}'"
        try:
            here = version(requirement.name)
        except PackageNotFoundError:
            yield Finding(f"{requirement.name} is not installed", True, install)
            continue
        fits = requirement.specifier.contains(here, prereleases=True)
        needed = "" if fits else f", needed is {requirement.specifier}"
        yield Finding(f"{requirement.name} {here}{needed}", not fits, install)


def _torch() -> Iterator[Finding]:
    reinstall = "install PyTorch again: pip install --force-reinstall torch"
    try:
        import torch

        a = torch.arange(64.0).reshape(8, 8)
        right = bool(torch.equal(a @ torch.eye(8), a)) and bool(torch.equal(a @ a, a @ a))
    except (ImportError, OSError, RuntimeError) as error:
        yield Finding(f"torch doesn't work: {error}", True, reinstall)
        return
    yield Finding(f"torch multiplies {'right, twice the same' if right else 'wrong'} on the CPU", not right, reinstall)
    devices = torch.cuda.device_count()
    yield Finding(f"{devices} CUDA devices{'' if devices else ' (hardware=cpu is the default)'}")
    for index in range(devices):
        name = torch.cuda.get_device_name(index)
        try:
            torch.eye(8, device=f"cuda:{index}") @ torch.eye(8, device=f"cuda:{index}")
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            yield Finding(f"{name} doesn't compute: {reason}", True, "mend the driver, or use hardware=cpu")
        else:
            yield Finding(f"{name} computes")


def _threads() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    allowed = cores if quota is None else min(cores, quota)
    limit = "" if quota is None else f", a container's quota of {quota:g}"
    yield Finding(f"{cores} cores for this process{limit}; torch would use {torch.get_num_threads()} threads")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        value = os.environ.get(name)
        if value is not None:
            number = int(value) if value.isdigit() else 0
            yield Finding(
                f"{name}={value}, cores are {allowed:g}",
                not 1 <= number <= max(1, allowed),
                f"unset {name}, or set it to a number from 1 to {max(1, int(allowed))}",
            )


def _quota() -> float | None:
    """Cores that a container may use by its quota (cgroup 2, then 1); None: no limit."""
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return None
    try:
        return float(quota) / float(period) if float(quota) > 0 else None
    except ValueError:  # "max"
        return None


def _memory() -> Iterator[Finding]:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            free = min(free, int((CGROUP / name).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    yield Finding(
        f"memory: {free / 1e9:.1f} GB free", free < NEEDED_MEMORY, "end other programs, or take a larger machine"
    )


def _disk(records: Records, home: str) -> Iterator[Finding]:
    database = sqlite_path(records.uri)
    places = {"data cache": (cache_dir(), "RUNNER_DATA"), "home": (Path(home), "home=… or RUNNER_HOME")}
    if database is not None and database.parent.absolute() != Path(home).absolute():
        places["store"] = (database.parent, "tracking.uri=…")
    places["temporary files"] = (Path(tempfile.gettempdir()), "TMPDIR")
    for name, (folder, variable) in places.items():
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        yield Finding(
            f"{name} {folder}: {free / 1e9:.1f} GB free", free < NEEDED_BYTES, f"free some, or move it with {variable}"
        )
        writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
        yield Finding(
            f"{name} {existing} is {'' if writable else 'not '}writable",
            not writable,
            f"mend its permissions, or move it with {variable}",
        )


def _store(records: Records, home: str) -> Iterator[Finding]:
    database = sqlite_path(records.uri)
    if database is not None and trouble.is_new(database):
        yield Finding(f"store {records.uri}: none yet, the first run makes it")
    else:
        try:
            if database is not None:
                trouble.demand_schema(records.uri, database)
                writable = os.access(database, os.W_OK)
                schema = trouble.revision(database, trouble.wait_seconds(records.uri))
                yield Finding(
                    f"store {database} is {'' if writable else 'not '}writable, schema {schema}",
                    not writable,
                    "mend its permissions, or choose another with home=…",
                )
            statuses = [record.status for record in records.all()]
            yield Finding(f"store {records.uri}: {len(statuses)} runs, {statuses.count('FINISHED')} finished")
        except (RunnerError, sqlite3.Error) as error:
            found, _, remedy = str(error).partition(": ")
            yield Finding(found, True, remedy)
    yield from _left(home)


def _left(home: str) -> Iterator[Finding]:
    left = Counter(left.state.status for left in attempt.pending(home))
    told = ", ".join(f"{number} {status}" for status, number in left.items())
    yield Finding(f"{left.total()} runs wait to be recorded{f' ({told}); the next run does it' if left else ''}")
    if unreadable := attempt.unreadable(home):
        yield Finding(
            f"{len(unreadable)} attempts can't be read: {unreadable[0]}",
            True,
            "the next run sets them aside; delete them",
        )


def _data() -> Iterator[Finding]:
    mirror = mirror_dir()
    if mirror is not None:
        files = sum(1 for path in mirror.rglob("*") if path.is_file()) if mirror.is_dir() else 0
        yield Finding(
            f"data mirror {mirror}: {files} files",
            not files,
            "RUNNER_DATA_MIRROR names no folder with files: correct or unset it",
        )
    where: Counter[str] = Counter()
    for name in registry.choices("dataset"):
        try:
            where[data.where(name)] += 1
        except RunnerError as error:
            yield Finding(f"dataset={name}: {error}", True, f"runner data list {name}")
    yield Finding("datasets: " + ", ".join(f"{number} {place}" for place, number in where.items()))
    clients = {"pip": "pip", "apt-get": "apt-get", "npm": "npm"}
    here = [name for name, command in clients.items() if name == "pip" or shutil.which(command)]
    absent = [name for name in clients if name not in here]
    yield Finding(f"package clients: {', '.join(here)}{'; not here: ' + ', '.join(absent) if absent else ''}")


def _extras() -> Iterator[Finding]:
    for name, (module, install) in extras.CLUSTERS.items():
        here = extras.installed(module)
        yield Finding(f"+cluster={name}: {'installed' if here else f'not installed ({install})'}")
    found = shutil.which("sbatch")
    yield Finding(f"Slurm: {f'submits with {found}' if found else 'none here (+cluster=slurm needs its sbatch)'}")
    for package, install in extras.SWEEPERS.values():
        here = extras.installed(package)
        yield Finding(f"sweep={package}: {'installed' if here else f'not installed ({install})'}")


def _system() -> Iterator[Finding]:
    now = time.gmtime()
    yield Finding(f"clock: {time.strftime('%Y-%m-%d %H:%M', now)} UTC", now.tm_year < FIRST_YEAR, "set the clock")
    encoding = locale.getpreferredencoding(False)
    utf8 = encoding.lower().replace("-", "") == "utf8"
    yield Finding(f"text encoding {encoding}", not utf8, "export LC_ALL=C.UTF-8, or PYTHONUTF8=1")
    commit = environment.commit()
    told = (
        f"commit {commit['commit'][:12]}{', changed since' if commit['dirty'] else ''}" if commit else "no git checkout"
    )
    yield Finding(f"source: {told}")
