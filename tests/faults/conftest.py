"""A command line in a process of its own that keeps what it prints and can't eat the machine."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TOY, Result, _in_child

MEMORY_BYTES = 6 << 30
PATIENCE_SECONDS = 20.0
"""After which a run that goes on is asked to end, as a user would with Ctrl-C."""
OFFLINE = {
    "PIP_NO_INDEX": "1",
    "npm_config_offline": "true",
    "http_proxy": "http://[::1]:9",
    "https_proxy": "http://[::1]:9",
}

Background = Callable[..., BaseProcess]
Captured = Callable[[list[str]], Result]


def _captured(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from runner import cli, registry

    registry.conf_dirs.cache_clear()
    try:
        status = cli.status(arguments)
    except SystemExit as left:  # argparse's --help
        status = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 70
    try:
        sys.stdout.flush()
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)


@pytest.fixture(scope="session")
def offline_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data cache that holds nothing but the empty store, so that no test loads a dataset or builds a store."""
    from runner.places import cache_dir
    from runner.store import template

    folder = tmp_path_factory.mktemp("cache")
    template.ensure(folder / "mlflow.db")
    shutil.copytree(cache_dir() / "store", folder / "store")
    return folder


@pytest.fixture(scope="session")
def small_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for ``dataset=file``: 40 nodes on a ring with chords, 5 features, 2 classes."""
    file = tmp_path_factory.mktemp("graph") / "ring.npz"
    draw = np.random.default_rng(3)
    x = draw.random((40, 5), dtype=np.float32)
    ring = np.stack([np.arange(40), np.roll(np.arange(40), 1)])
    chords = np.stack([np.arange(40), np.roll(np.arange(40), 7)])
    np.savez(file, x=x, y=(x[:, 0] > 0.5).astype(np.int64), edge_index=np.concatenate([ring, chords], axis=1))
    return file


@pytest.fixture
def captured(forkserver: object, offline_cache: Path, tmp_path: Path) -> Captured:
    """Run the command line in a fresh process, in a folder of its own, without network and with bounded memory."""
    folder = tmp_path / "here"
    folder.mkdir()
    environment = {
        "RUNNER_HOME": str(folder / "runs"),
        "RUNNER_INCLUDE_PATH": str(TOY),
        "RUNNER_DATA": str(offline_cache),
        "RUNNER_DATA_MIRROR": str(offline_cache / "none"),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        **OFFLINE,
    }

    def call(arguments: list[str]) -> Result:
        process = forkserver.Process(target=_captured, args=(arguments, environment, str(folder)))  # type: ignore[attr-defined]
        process.start()
        process.join(PATIENCE_SECONDS)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.is_alive():
                os.kill(process.pid, number)
                process.join(PATIENCE_SECONDS)
        texts = [(folder / name).read_text(encoding="utf-8", errors="replace") for name in ("out", "err")]
        return Result(process.exitcode, *texts)

    return call


def _own_group(arguments: list[str], environment: dict[str, str]) -> None:
    os.setsid()
    _in_child(arguments, environment)


@pytest.fixture
def background(forkserver: object, offline_cache: Path) -> Background:
    """Begin a command in a process group of its own, and go on."""

    def call(arguments: list[str], home: Path, target: Callable[..., None] = _own_group, *more: object) -> BaseProcess:
        environment = {
            "RUNNER_HOME": str(home),
            "RUNNER_INCLUDE_PATH": str(TOY),
            "RUNNER_DATA": str(offline_cache),
        }
        process = forkserver.Process(target=target, args=(arguments, environment, *more))  # type: ignore[attr-defined]
        process.start()
        return process

    return call
