"""Processes that train learners beside one another, an epoch at a time.

Each process has some of the learners for the whole run. It is told a seed a learner, and answers with losses and
states: the run's own copies are whole after every epoch, for validation and for snapshots.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

import torch
from torch import multiprocessing

from runner.contracts import ImageClassification
from runner.errors import RunnerError
from runner.methods.learning_rules.noprop.learners import Learner

Seed = tuple[int, ...]


class Workers:
    """Context manager around the processes. The first epoch is trained here, while they start."""

    def __init__(self, count: int, learners: list[Learner], task: ImageClassification, batch_size: int) -> None:
        self._learners = learners
        self._task = task
        self._batch_size = batch_size
        self._count = count
        self._pipes: list[Connection] = []
        self.processes: list[BaseProcess] = []
        self._begun = False

    def __enter__(self) -> Self:
        """Start the processes; they end when this one closes its pipes, by whatever death."""
        context = multiprocessing.get_context("forkserver")
        for _ in range(self._count):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self.processes.append(process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them."""
        for pipe in self._pipes:
            pipe.close()
        for process in self.processes:
            if error is not None:
                process.terminate()
            process.join()

    def wait(self) -> None:
        """Until all processes are there."""
        for pipe in self._pipes:
            pipe.poll(None)

    def epoch(self, seeds: list[Seed]) -> Sequence[float]:
        """Train each learner with its seed; their losses."""
        if not self._begun and not all(pipe.poll() for pipe in self._pipes):
            return [
                learner.epoch(self._task, self._batch_size, seed)
                for learner, seed in zip(self._learners, seeds, strict=True)
            ]
        try:
            if not self._begun:
                self._hand_over()
            for place, pipe in enumerate(self._pipes):
                pipe.send(seeds[place :: self._count])
            losses = [0.0] * len(seeds)
            for place, pipe in enumerate(self._pipes):
                answer = torch.load(io.BytesIO(pipe.recv_bytes()), weights_only=True)
                for number, (loss, state) in zip(range(place, len(seeds), self._count), answer, strict=True):
                    losses[number] = loss
                    self._learners[number].load(state)
        except (EOFError, OSError) as error:
            raise RunnerError("a process that trained blocks ended; method.workers=1 trains them here") from error
        return losses

    def _hand_over(self) -> None:
        settings = (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.get_deterministic_debug_mode(),
        )
        for place, pipe in enumerate(self._pipes):
            pipe.recv()
            mine = self._learners[place :: self._count]
            # plain pickle: its tensors are copies, not shared memory
            pipe.send_bytes(pickle.dumps((settings, mine, without_tests(self._task), self._batch_size)))
        self._begun = True


def without_tests(task: ImageClassification) -> ImageClassification:
    """The training images alone: what a learner sees."""
    x, y = task.test_x[:0].clone(), task.test_y[:0].clone()
    return dataclasses.replace(task, val_x=x, val_y=y, test_x=x, test_y=y)


def work(pipe: Connection) -> None:
    """A process's life: say that it is there, take learners and task, and train until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the run, which ends this
    pipe.send("ready")
    try:
        (threads, dtype, deterministic), learners, task, batch_size = pickle.loads(pipe.recv_bytes())
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_deterministic_debug_mode(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, see runner.hardware
        while True:
            seeds = pipe.recv()
            answer = [
                (learner.epoch(task, batch_size, seed), learner.state())
                for learner, seed in zip(learners, seeds, strict=True)
            ]
            content = io.BytesIO()
            torch.save(answer, content)
            pipe.send_bytes(content.getvalue())
    except (EOFError, OSError):
        return
