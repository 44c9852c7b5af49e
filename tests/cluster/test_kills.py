"""Kill anything at any moment, type the same command: the sweep ends complete, and every cell counts exactly once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.cluster import servers
from tests.cluster.sweeping import Reference, Sweep, completed, made_once, overlapped, undisturbed
from tests.faults.conftest import Background, _own_group
from tests.faults.test_kills import killed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

PARENTS, USERS, WORKERS, SERVERS, ANSWERING, DATABASES, MACHINES = 40, 14, 12, 4, 12, 14, 6
"""How many are killed: sweeps' parents; one of two users of a folder; joblib's workers, or their parent alone; whole
tracking servers; their answering processes; PostgreSQLs; one of two machines that share nothing but a server."""
MOST = 4
"""Kills in a row before the command is left to itself."""
PATIENCE_SECONDS = 180.0
THEN = "then complete, each cell once"

Count = Callable[[str, str], None]


@pytest.fixture
def reference(background: Background, tmp_path: Path) -> Reference:
    """What the sweep gives, and how long it takes, on this machine now."""
    background(["--version"], tmp_path).join()  # the fork server has begun
    return undisturbed(Sweep(tmp_path / "undisturbed"), background)


@pytest.fixture
def fresh(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Sweep]:
    """Sweeps with homes of their own; with experiments of their own too, for those who choose a server."""

    def sweeps() -> Iterator[Sweep]:
        for number in count():
            home = tmp_path / f"home{number}"
            home.mkdir()
            yield Sweep(home, [f"tracking.experiment={request.node.name}-{number}"])

    return sweeps()


def on(server: servers.Tracking, sweep: Sweep) -> Sweep:
    return replace(sweep, store=[f"tracking.uri={server.uri}", *sweep.store])


def _impatient(arguments: list[str], environment: dict[str, str]) -> None:
    """A command that asks a server that is away once again, and soon."""
    os.environ |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}
    _own_group(arguments, environment)


def ended(process: BaseProcess) -> bool:
    """Whether a command comes to its own end, well or not."""
    process.join(PATIENCE_SECONDS)
    return process.exitcode is not None and process.exitcode >= 0


def test_the_parent(background: Background, reference: Reference, fresh: Iterator[Sweep], count_fault: Count) -> None:
    draw, kills, part = random.Random(1), 0, "sweep's parent"
    for sweep in fresh:
        for _ in range(draw.randint(1, MOST)):
            sweep.kills.append(draw.uniform(0, reference.seconds))
            if not killed(background(sweep.command, sweep.home), sweep.kills[-1]):
                break
            kills += 1
            count_fault(part, "killed")
        completed(sweep, background, reference)
        made_once(sweep)
        count_fault(part, THEN)
        if kills >= PARENTS:
            break


def test_one_of_two_users_of_a_folder(
    background: Background, reference: Reference, fresh: Iterator[Sweep], count_fault: Count
) -> None:
    draw, kills, part = random.Random(2), 0, "one of two users"
    for sweep in fresh:
        both = [background(sweep.command, sweep.home) for _ in range(2)]
        sweep.kills.append(draw.uniform(0, reference.seconds))
        if killed(both[0], sweep.kills[-1]):
            kills += 1
            count_fault(part, "killed")
        both[1].join()
        assert both[1].exitcode == 0, sweep  # the other one ends complete by itself
        completed(sweep, background, reference)
        made_once(sweep)
        count_fault(part, THEN)
        if kills >= USERS:
            break


def test_a_joblib_worker(
    background: Background, reference: Reference, fresh: Iterator[Sweep], count_fault: Count
) -> None:
    """A worker dies and takes its pool along, or the parent dies and its workers go on for a while."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    draw, kills = random.Random(3), 0
    for sweep in fresh:
        sweep.more = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
        groups = []
        for _ in range(draw.randint(1, MOST)):
            process = background(sweep.command, sweep.home)
            groups.append(process.pid)
            if (workers := begun_workers(process)) and process.exitcode is None:
                sweep.kills.append(draw.uniform(0, 2 * reference.seconds))
                process.join(sweep.kills[-1])
                if process.exitcode is not None:
                    break
                alone = draw.random() < 0.3
                servers.kill(process.pid if alone else draw.choice(workers))
                kills += 1
                count_fault("joblib's parent alone" if alone else "joblib worker", "killed")
                process.join(PATIENCE_SECONDS)
                assert process.exitcode is not None, sweep
        completed(sweep, background, reference)
        made_once(sweep)
        count_fault("joblib worker", THEN)
        for group in groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        if kills >= WORKERS:
            break


def begun_workers(process: BaseProcess) -> list[int]:
    """Joblib's workers, once a command has any; they still have to import all that they need."""
    while process.exitcode is None:
        found = [pid for pid, command in servers.descendants(process.pid).items() if "loky.backend.popen" in command]
        if found:
            return found
        time.sleep(0.02)
    return []


def struck(
    sweep: Sweep, background: Background, reference: Reference, draw: random.Random, strike: Callable[[], None]
) -> bool:
    """Whether the command was still under way when ``strike`` fell; it comes to its own end afterwards."""
    process = background(sweep.command, sweep.home, _impatient)
    sweep.kills.append(draw.uniform(0, 2 * reference.seconds))
    process.join(sweep.kills[-1])
    hit = process.exitcode is None
    if hit:
        strike()
    assert ended(process), sweep
    return hit


def test_the_tracking_server(
    background: Background,
    reference: Reference,
    fresh: Iterator[Sweep],
    database: servers.Postgres,
    count_fault: Count,
) -> None:
    """All of it, which is started again at once, or one of the processes that answer, which its head starts again."""
    draw, kills = random.Random(4), {"tracking server": 0, "one of its processes": 0}
    wanted = dict(zip(kills, (SERVERS, ANSWERING), strict=True))
    with servers.tracking(database) as server:

        def whole() -> None:
            server.kill()
            server.begin()

        def one() -> None:
            servers.kill(draw.choice(server.workers()))

        for sweep in (on(server, sweep) for sweep in fresh):
            for _ in range(draw.randint(1, MOST)):
                part = draw.choice([name for name in kills for _ in range(wanted[name] - kills[name])] or list(kills))
                hit = struck(sweep, background, reference, draw, whole if part == "tracking server" else one)
                server.wait()
                if not hit:
                    break
                kills[part] += 1
                count_fault(part, "killed")
            completed(sweep, background, reference)
            made_once(sweep)
            count_fault("tracking server", THEN)
            if all(kills[name] >= wanted[name] for name in kills):
                break


def test_postgresql(
    background: Background,
    reference: Reference,
    fresh: Iterator[Sweep],
    database: servers.Postgres,
    server: servers.Tracking,
    count_fault: Count,
) -> None:
    draw, kills, part = random.Random(5), 0, "PostgreSQL"

    def strike() -> None:
        database.kill()
        time.sleep(draw.choice([0, 0, 1]))
        database.start()

    for sweep in (on(server, sweep) for sweep in fresh):
        for _ in range(draw.randint(1, MOST)):
            if not struck(sweep, background, reference, draw, strike):
                break
            kills += 1
            count_fault(part, "killed")
        completed(sweep, background, reference)
        made_once(sweep)
        count_fault(part, THEN)
        if kills >= DATABASES:
            break


def test_one_of_two_machines_on_a_bare_server(
    background: Background,
    reference: Reference,
    fresh: Iterator[Sweep],
    server: servers.Tracking,
    count_fault: Count,
    tmp_path: Path,
) -> None:
    """They share no folder, and so no lock: attempts may overlap, and those that do count once."""
    draw, kills, part, overlapping = random.Random(6), 0, "one of two machines", 0
    for number, here in enumerate(on(server, sweep) for sweep in fresh):
        there = replace(here, home=tmp_path / f"there{number}")
        there.home.mkdir()
        one, other = (background(sweep.command, sweep.home) for sweep in (here, there))
        here.kills.append(draw.uniform(0, 2 * reference.seconds))
        if killed(one, here.kills[-1]):
            kills += 1
            count_fault(part, "killed")
        other.join()
        assert other.exitcode == 0, here
        completed(here, background, reference)
        overlapping += overlapped(here)
        count_fault(part, THEN)
        if kills >= MACHINES:
            break
    count_fault(part, f"{overlapping} attempts tagged as duplicates:")
