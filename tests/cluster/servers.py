"""A PostgreSQL and an MLflow tracking server on it, on loopback: started, stopped, killed, started again on their data.

``with postgres() as database, tracking(database) as server:`` gives a server at ``server.uri`` that keeps its runs in
the database and serves their artefacts itself. Ports are free ones, all files lie in a temporary folder, and what was
started is stopped at the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

READY_SECONDS = 120.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.05
LOOPBACK = "127.0.0.1"
USER = "postgres"
"""Whom PostgreSQL runs as where we are root, as whom it refuses to run."""


def missing() -> str:
    """What isn't installed of all this, for a test's reason to be skipped; empty where all is there."""
    if _programs() is None:
        return "PostgreSQL isn't installed (apt-get install postgresql)"
    if find_spec("psycopg2") is None:
        return "psycopg2 isn't installed (pip install 'forward-runner[server]')"
    return ""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def descendants(process: int) -> dict[int, str]:
    """Command lines of all that a process has started, and they in turn, by process id."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(folder.name)] = int(parent)
                commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    found: dict[int, str] = {}
    heads = {process}
    while heads:
        heads = {child for child, parent in parents.items() if parent in heads and child not in found}
        found |= {child: commands.get(child, "") for child in heads}
    return found


def kill(process: int) -> None:
    """SIGKILL to one that may have ended already."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


AnyServer = TypeVar("AnyServer", bound="Server")


class Server(ABC):
    """A process with its children, in a group of its own, that can be killed and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        """``folder``: where its data and its log lie."""
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def command(self) -> list[str]:
        """What is run, in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it is ready."""

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / "log"

    def start(self) -> None:
        """Start it, and come back when it answers."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Start it, and come back at once."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._as()
            )

    def wait(self) -> None:
        """Come back when it answers.

        Raises:
            RuntimeError: it ended, or doesn't answer in time.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not self.answers():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"{self.command[0]} doesn't answer: {self.log.read_text()[-2000:]}")
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """SIGKILL to it and all that it started, at once."""
        if self._process is None:
            return
        for process in (self._process.pid, *descendants(self._process.pid)):  # its head first, which could start more
            kill(process)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            self.kill()

    def _as(self) -> dict[str, object]:
        """As whom it runs, and with which environment."""
        return {}


class Postgres(Server):
    """A cluster of databases of its own."""

    @property
    def command(self) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": self.folder,
            "max_connections": 200,
            "logging_collector": "off",
        }
        return [
            str(_program("postgres")),
            *("-D", str(self.folder / "data")),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]

    def make(self) -> None:
        """Make the cluster; anyone on this machine may use it."""
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER, USER)
        subprocess.run(
            [_program("initdb"), "-D", self.folder / "data", "-U", USER, "--auth=trust", "-E", "UTF8", "--locale=C"],
            check=True,
            capture_output=True,
            **self._as(),
        )

    def uri(self, database: str = "postgres") -> str:
        """Where one of its databases is, as SQLAlchemy says it."""
        return f"postgresql+psycopg2://{USER}@{LOOPBACK}:{self.port}/{database}"

    def answers(self) -> bool:
        words = ["-h", LOOPBACK, "-p", str(self.port), "-q"]
        return subprocess.run([_program("pg_isready"), *words]).returncode == 0

    def _as(self) -> dict[str, object]:
        return {"cwd": self.folder, **({"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {})}


class Tracking(Server):
    """``mlflow server``, artefacts included: its clients see neither the database nor the folder of the artefacts."""

    def __init__(self, folder: Path, store: str, workers: int = 2) -> None:
        """``store``: the URI of its database. ``workers``: processes that answer."""
        super().__init__(folder)
        self._store = store
        self._workers = workers

    @property
    def uri(self) -> str:
        """What ``tracking.uri=`` takes."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def artifacts(self) -> Path:
        """Where it keeps what it is given."""
        return self.folder / "artifacts"

    @property
    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "mlflow", "server"),
            *("--backend-store-uri", self._store),
            *("--serve-artifacts", "--artifacts-destination", str(self.artifacts)),
            *("--host", LOOPBACK, "--port", str(self.port), "--workers", str(self._workers)),
        ]

    def workers(self) -> list[int]:
        """The processes that answer in its name, which its head starts again where one dies."""
        started = {} if self._process is None else descendants(self._process.pid)
        return [process for process, command in started.items() if "spawn_main" in command]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _as(self) -> dict[str, object]:
        silent = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        return {"cwd": self.folder, "env": {**os.environ, **silent}}


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A new PostgreSQL that is ready; gone afterwards, data and all."""
    with _folder() as folder:
        server = Postgres(folder)
        server.make()
        with _running(server):
            yield server


@contextmanager
def tracking(database: Postgres, workers: int = 2) -> Iterator[Tracking]:
    """A new tracking server that is ready, on a database that is running; gone afterwards, artefacts and all."""
    with _folder() as folder, _running(Tracking(folder, database.uri(), workers)) as server:
        yield server


@contextmanager
def _running(server: AnyServer) -> Iterator[AnyServer]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that another user can reach, as pytest's own can't be."""
    folder = Path(tempfile.mkdtemp(prefix="runner-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> Path:
    folder = _programs()
    assert folder is not None
    return folder / name


def _programs() -> Path | None:
    """The folder of PostgreSQL's programs; Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None
