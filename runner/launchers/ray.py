"""Ray: its worker processes import torch once and make one cell after the other.

The published Ray launcher of Hydra holds cloudpickle below 3, and brings Amazon's client and Ray's dashboard with it;
this is the same on Ray's core alone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from omegaconf import open_dict

from runner.errors import BadInput, one_line
from runner.launchers.engine import Engine
from runner.types import PositiveInt

ANSWER_SECONDS = 10.0
OWN = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
"""A Ray of the sweep's own answers on this machine alone."""
QUIET = {"log_to_driver": False, "logging_level": "ERROR"}


@dataclass(kw_only=True)
class Ray(Engine):
    """The keys of ``cluster``."""

    address: str | None
    """``auto``, ``host:port`` or ``ray://…`` of a Ray that runs; null: one of the sweep's own, on this machine."""
    cpus: PositiveInt | None
    """Cores of a cell; null: as many threads as its run has pinned."""
    gpus: PositiveInt | None
    memory: PositiveInt | None
    """GB of a cell."""
    workers: PositiveInt | None
    """Most cells at a time; null: as many as Ray has room for."""

    def check(self) -> None:
        """As ``Engine.check``: Ray itself would wait for minutes."""
        host, _, port = (self.address or "").rpartition(":")
        if not host or "/" in host or not port.isdigit():
            return
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        except OSError as error:
            raise BadInput(
                f"cluster.address={self.address}: no Ray answers there: {error.strerror or error}"
            ) from error

    def launch(
        self, launcher: Any, cells: Sequence[Sequence[str]], first: int, threads: int
    ) -> Sequence[JobReturn | str]:
        """As ``Engine.launch``. A worker that is killed costs the cell that it was making."""
        import ray

        cpus = self.cpus or threads
        needed = {
            "num_cpus": cpus,
            "num_gpus": self.gpus or 0,
            "memory": self.memory and self.memory << 30,
            "max_calls": 0,  # else Ray ends a worker that has a GPU after each cell
            "max_retries": 0,
        }
        with self._connected(ray, cpus):
            task = ray.remote(**{name: value for name, value in needed.items() if value is not None})(cell)
            shared = ray.put((launcher.hydra_context, launcher.config, launcher.task_function, Singleton.get_state()))
            waiting = list(enumerate(cells))[::-1]
            under_way: dict[Any, int] = {}
            returned: list[JobReturn | str] = [""] * len(cells)
            while waiting or under_way:
                while waiting and len(under_way) < (self.workers or len(cells)):
                    index, overrides = waiting.pop()
                    under_way[task.remote(shared, os.getcwd(), first + index, list(overrides))] = index
                for reference in ray.wait(list(under_way))[0]:
                    returned[under_way.pop(reference)] = _result(ray, reference)
        return returned

    @contextmanager
    def _connected(self, ray: Any, cpus: int) -> Iterator[None]:
        try:
            ray.init(address=self.address or "local", **QUIET, **({} if self.address else OWN))
        except (ConnectionError, RuntimeError, ValueError) as error:
            told = one_line(str(error).strip().rpartition("\n")[2])
            raise BadInput(f"cluster.address={self.address}: Ray lets nobody in there: {told}") from error
        try:
            most = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
            if most < cpus:
                raise BadInput(f"a cell needs {cpus} cores, no node of this Ray has more than {most:g}: cluster.cpus=…")
            yield
        finally:
            ray.shutdown()


def _result(ray: Any, reference: Any) -> JobReturn | str:
    try:
        returned: JobReturn = ray.get(reference)
    except ray.exceptions.RayError as error:
        return f"its Ray worker is gone: {one_line(str(error))}"
    return returned


def cell(shared: tuple[Any, ...], folder: str, number: int, overrides: list[str]) -> JobReturn:
    """Make one cell in a worker process, as Hydra's launchers do."""
    context, config, task, state = shared
    os.chdir(folder)
    setup_globals()
    Singleton.set_state(state)
    composed = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = number
    HydraConfig.instance().set_config(composed)
    return run_job(
        hydra_context=context,
        config=composed,
        task_function=task,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
