"""A real Slurm on this machine's loopback: munge, a controller and two nodes, all of them in one folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

NODES = ("one", "two")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo", "scontrol", "srun")
NODE = "RUNNER_TEST_NODE"
"""In the environment of a node's daemon: which it is."""
PATIENCE_SECONDS = 90.0
CONFIG = """
ClusterName=runner
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=30
KillWait=2
MaxArraySize=5001
MaxJobCount=20000
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=2000 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=2000 State=UNKNOWN
PartitionName=debug Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why a Slurm can't be started here; empty where it can."""
    absent = [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]
    if absent:
        return f"no {', '.join(absent)} here: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root"


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Slurm:
    """Two nodes of one core each; ``environment`` makes its commands talk to it."""

    def __init__(self, folder: Path) -> None:
        """``folder``: for all that it keeps; it exists and is empty."""
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        config = CONFIG.format(host=socket.gethostname(), folder=folder, ports=_free_ports(3))
        (folder / "slurm.conf").write_text(config)
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        (folder / "state").mkdir()
        folder.chmod(0o755)
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}

    def start(self) -> None:
        """Start everything, and wait until both nodes take jobs."""
        files = [f"--{name}-file={self._folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
        self._begin("munged", "munged", "--foreground", "--force", f"--socket={self._folder}/munge.socket", *files)
        _until(lambda: (self._folder / "munge.socket").exists(), "munged has no socket")
        self._begin("slurmctld", "slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        self.wait_until_idle()

    def start_node(self, name: str) -> None:
        """Start a node's daemon; those of its jobs' steps inherit its environment."""
        self._begin(name, "slurmd", "-D", "-N", name, **{NODE: name})

    def kill_node(self, name: str) -> None:
        """SIGKILL a node's daemon and all that runs on the node, as a power failure does; Slurm notices."""
        daemon = self._processes.pop(name)
        _kill(self._running_on(name))
        daemon.wait()
        _until(lambda: self.states()[name].startswith("down"), f"node {name} isn't down; see {self._folder}")

    def stop(self) -> None:
        """Stop what was started, the youngest first."""
        for node in NODES:
            _kill(self._running_on(node))
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def states(self) -> dict[str, str]:
        """State of each node, by name."""
        told = self.call("sinfo", "--noheader", "--Node", "--format=%N %T").split()
        return dict(zip(told[::2], told[1::2], strict=True))

    def jobs(self) -> int:
        """Number of the last job that was submitted; 0 where there was none."""
        told = self.call("squeue", "--noheader", "--states=all", "--format=%A").split()
        return max(map(int, told), default=0)

    def nodes_of(self, jobs: Iterable[int]) -> set[str]:
        """Names of the nodes on which jobs ran."""
        listed = ",".join(map(str, jobs))
        return set(self.call("squeue", "--noheader", "--states=all", f"--jobs={listed}", "--format=%N").split())

    def wait_until_idle(self) -> None:
        """Until no job is left on any node."""
        _until(lambda: self.states() == dict.fromkeys(NODES, "idle"), f"nodes aren't idle; see {self._folder}")

    def call(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout

    def _begin(self, name: str, *command: str, **more: str) -> None:
        environment = {**os.environ, **self.environment, **more}
        with (self._folder / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def _running_on(self, node: str) -> list[int]:
        """Processes of a node: its daemon, the daemons of its jobs' steps, and the jobs."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            ours = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode() in environment
            if ours and {f"{NODE}={node}".encode(), f"SLURMD_NODENAME={node}".encode()} & set(environment):
                found.append(int(folder.name))
        return found


def _kill(numbers: list[int]) -> None:
    for number in numbers:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _until(true: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        time.sleep(0.2)
