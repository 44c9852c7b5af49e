"""A real Ray on this machine's loopback: a head and a second node of one core each."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

PATIENCE_SECONDS = 180.0
START = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
WORKER = b"ray::"
"""Begins the title of a process that is making something."""


def missing() -> str:
    """Why a Ray can't be started here; empty where it can."""
    return "" if find_spec("ray") else "no Ray here: pip install 'forward-runner[ray]'"


class RayCluster:
    """Two nodes; ``address`` is what a sweep types, ``environment`` what lets it in."""

    def __init__(self) -> None:
        # a socket's path may have 107 characters, and Ray's own part of it has sixty
        self._folder = Path(tempfile.mkdtemp(prefix="ray"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start both nodes, and wait until Ray has both."""
        self._begin("--head", f"--port={self._port}", "--include-dashboard=false", f"--temp-dir={self._folder}")
        _until(self._answers, f"Ray doesn't answer; see {self._folder}")
        self._begin(f"--address={self.address}")
        _until(lambda: len(self.processes(b"raylet/raylet")) == 2, f"a node is missing; see {self._folder}")

    def stop(self) -> None:
        """Kill what was started, and remove its files."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for number in self.processes(b""):
            _kill(number)
        shutil.rmtree(self._folder, ignore_errors=True)

    def workers(self) -> list[int]:
        """Processes that are making a cell."""
        return self.processes(WORKER)

    def processes(self, having: bytes) -> list[int]:
        """Ids of this Ray's processes whose command line has these bytes."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
            except OSError:
                continue
            if having in words and f"RUNNER_TEST_RAY={self._folder}\0".encode() in environment:
                found.append(int(folder.name))
        return found

    def kill_worker(self) -> None:
        """SIGKILL one of the processes that are making a cell."""
        _kill(self.workers()[0])

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True

    def _begin(self, *arguments: str) -> None:
        number = len(self._processes)
        shared = ["--block", "--num-cpus=1", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        environment = {**os.environ, **self.environment, "RUNNER_TEST_RAY": str(self._folder)}
        with (self._folder / f"node-{number}.out").open("wb") as out:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", START, "start", *shared, *arguments],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )
            )


def _kill(number: int) -> None:
    try:
        os.kill(number, signal.SIGKILL)
    except ProcessLookupError:
        return


def _until(true: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        time.sleep(0.2)
