"""Slurm, through submitit: one array of jobs, each of which imports torch once and makes several cells.

Hydra's own submitit launcher asks ``sacct`` how its jobs are, which needs an accounting database, and raises at the
first job that gives nothing back. Here ``squeue`` is asked, all jobs are waited for, and Ctrl-C cancels them.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn

from runner.errors import BadInput, nearest
from runner.launchers.engine import Engine
from runner.types import PositiveInt

POLL_SECONDS = 1.0
ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
"""States from which a job doesn't come back by itself."""
PATIENCE = 5
"""Polls in a row that must find a job ended before its result is given up: a shared folder may show it late."""
FOR_EXECUTOR = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name")
"""The launcher's keys that submitit has for every kind of cluster; the others are Slurm's."""


@dataclass(kw_only=True)
class Slurm(Engine):
    """The keys of ``cluster``; ``conf/cluster/slurm.yaml`` hands those that sbatch knows to the launcher."""

    partition: str | None
    account: str | None
    cpus: PositiveInt | None
    """Cores of a job; null: as many threads as its runs have pinned."""
    gpus: PositiveInt | None
    memory: PositiveInt | None
    """GB of a job."""
    minutes: PositiveInt
    """Longest that a job may take; it is queued again then, and its run goes on from the last snapshot."""
    workers: PositiveInt
    """Most jobs at a time."""
    cells_per_job: PositiveInt
    """Cells that a job makes one after the other: it needs seconds to start, which they share."""

    def check(self) -> None:
        """As ``Engine.check``."""
        if shutil.which("sbatch") is None:
            raise BadInput("no Slurm here: there is no `sbatch`; type the command where one submits to the cluster")
        asked = subprocess.run(["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, check=False)
        if asked.returncode:
            raise BadInput(f"Slurm doesn't answer: {asked.stderr.strip().splitlines()[-1]}; is SLURM_CONF right?")
        known = list(dict.fromkeys(asked.stdout.split()))
        unknown = [name for name in (self.partition or "").split(",") if name and name not in known]
        if unknown:
            raise BadInput(f"cluster.partition={unknown[0]}: Slurm has {', '.join(known)}{nearest(unknown[0], known)}")

    def launch(
        self, launcher: Any, cells: Sequence[Sequence[str]], first: int, threads: int
    ) -> Sequence[JobReturn | str]:
        """As ``Engine.launch``."""
        executor = _executor(launcher.params, self.cpus or threads)
        numbered = [(number, list(overrides)) for number, overrides in enumerate(cells, first)]
        size = self.cells_per_job
        batches = [numbered[start : start + size] for start in range(0, len(numbered), size)]
        try:
            jobs = executor.map_array(Batch(launcher), batches, [Singleton.get_state()] * len(batches))
        except RuntimeError as error:  # submitit tells so of what sbatch refuses
            told = [line.partition("error: ")[2] for line in str(error).splitlines() if "error: " in line]
            raise BadInput(f"Slurm doesn't take the jobs: {'; '.join(told) or error}") from error
        with _cancelled_on_leaving(jobs):
            returned = _wait(jobs)
        return [
            one
            for batch, job in zip(batches, returned, strict=True)
            for one in ([job] * len(batch) if isinstance(job, str) else job)
        ]


class Batch:
    """What a Slurm job runs: some cells, one after the other."""

    def __init__(self, launcher: Any) -> None:
        """``launcher``: Hydra's, which makes one cell when it is called."""
        self._launcher = launcher

    def __call__(self, cells: Sequence[tuple[int, list[str]]], state: Any) -> list[JobReturn]:
        """What each cell's job gives back."""
        return [self._launcher(overrides, "hydra.sweep.dir", number, "", state) for number, overrides in cells]

    def checkpoint(self, *arguments: Any) -> Any:
        """What runs when the job was out of time or had to yield: the same again, where finished cells are found."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


def _executor(params: dict[str, Any], cpus: int) -> Any:
    """submitit's executor with the launcher's parameters."""
    import submitit

    given = dict(params) | {"cpus_per_task": params["cpus_per_task"] or cpus}
    folder, again = given.pop("submitit_folder"), given.pop("max_num_timeout")
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=again)
    shared = (*FOR_EXECUTOR, "stderr_to_stdout")
    executor.update_parameters(**{key if key in shared else f"slurm_{key}": given[key] for key in given})
    return executor


@contextmanager
def _cancelled_on_leaving(jobs: Sequence[Any]) -> Iterator[None]:
    """Cancel what is left of an array when its sweep is interrupted."""
    try:
        yield
    except BaseException:
        subprocess.run(["scancel", _array(jobs)], check=False, capture_output=True)
        raise


def _array(jobs: Sequence[Any]) -> str:
    return str(jobs[0].job_id).partition("_")[0]


def _wait(jobs: Sequence[Any]) -> list[list[JobReturn] | str]:
    """What each job gave back, or why it gave nothing."""
    returned: list[list[JobReturn] | str | None] = [None] * len(jobs)
    ended = [0] * len(jobs)
    while waiting := [index for index, value in enumerate(returned) if value is None]:
        states = _states(_array(jobs))
        for index in waiting:
            job = jobs[index]
            if job.paths.result_pickle.exists():
                returned[index] = _result(job)
            elif states is not None:
                state = states.get(str(job.job_id), "gone from the queue")
                ended[index] = ended[index] + 1 if state in (*ENDED, "gone from the queue") else 0
                if ended[index] == PATIENCE:
                    returned[index] = f"Slurm job {job.job_id} ended without a result ({state.lower()}): {_log(job)}"
        if None in returned:
            time.sleep(POLL_SECONDS)
    return [value for value in returned if value is not None]


def _states(array: str) -> dict[str, str] | None:
    """State of each job of an array by its id, as far as Slurm remembers; None where it can't be asked now."""
    asked = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={array}", "--format=%i %F %T"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        return {} if "Invalid job id" in done.stderr else None
    return {job: state for job, _, state in (line.split() for line in done.stdout.splitlines())}


def _result(job: Any) -> list[JobReturn] | str:
    try:
        returned: list[JobReturn] = job.result()
    except Exception as error:  # whatever ended the job comes back as text
        return f"Slurm job {job.job_id} failed: {str(error).strip().splitlines()[-1]}; {_log(job)}"
    return returned


def _log(job: Any) -> str:
    return f"its log is {job.paths.stderr}"
