"""A method and a dataset that exist only to try the runner: two loops in a row, all kinds of randomness."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from runner.contracts import Dataset, Method, NodeClassification, Task
from runner.fingerprint import of_graph
from runner.run import Run
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt, RunReference


@dataclass(kw_only=True)
class ToyData(Dataset):
    """Random points of two classes."""

    nodes: PositiveInt
    fold: int

    def load(self, task: str) -> Task:
        generator = np.random.default_rng(7)
        x = generator.normal(size=(self.nodes, 4)).astype(np.float32)
        y = (x[:, 0] > 0).astype(np.int64)
        edge_index = np.stack([np.arange(self.nodes), np.roll(np.arange(self.nodes), 1)])
        third = self.nodes // 3
        order = torch.randperm(self.nodes, generator=torch.Generator().manual_seed(self.fold))
        return NodeClassification(
            name="toy_data",
            fingerprint=of_graph(edge_index, x, y),
            x=torch.from_numpy(x),
            edge_index=torch.from_numpy(edge_index),
            y=torch.from_numpy(y),
            num_classes=2,
            train=order[:third].sort().values,
            val=order[third : 2 * third].sort().values,
            test=order[2 * third :].sort().values,
        )


@dataclass(kw_only=True)
class Toy(Method[NodeClassification]):
    """Two layers trained one after the other, with noise from every generator."""

    epochs: PositiveInt
    lr: PositiveFloat
    epoch_seconds: NonNegativeFloat

    def build(self, task: NodeClassification, run: Run) -> None:
        self.model = nn.ModuleList([run.adapt(nn.Linear(4, 8)), run.adapt(nn.Linear(8, 2))])

    def fit(self, task: NodeClassification, run: Run) -> None:
        h = task.x
        for number, layer in enumerate(self.model, start=1):
            head = run.adapt(nn.Linear(8, 2)) if number == 1 else nn.Identity()
            optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=self.lr)
            run.track(layer=layer, head=head, optimizer=optimizer)
            for epoch in run.epochs(
                self.epochs, name=f"layer{number}", monitor="val_acc", patience=1000, every=2, restore_best=True
            ):
                done = (number - 1) * self.epochs + epoch
                self._fault(done)
                noise = torch.randn(h.shape) + torch.randn(h.shape, generator=run.generator)
                noise = noise + random.random() + float(np.random.rand())
                optimizer.zero_grad()
                out = head(torch.relu(layer(h + 0.1 * noise)))
                loss = functional.cross_entropy(out[task.train], task.y[task.train])
                loss.backward()
                optimizer.step()
                run.log(loss=loss)
                if epoch.validates:
                    run.log(val_acc=(out[task.val].argmax(1) == task.y[task.val]).float().mean())
                time.sleep(self.epoch_seconds)
            run.log(**{f"between{number}": random.random()})
            h = torch.relu(layer(h)).detach()

    def _fault(self, done: int) -> None:
        """What ``TOY_FAULT=<kind>:<epoch>`` asks for; not part of the config, so that the run's key stays."""
        kind, _, epoch = os.environ.get("TOY_FAULT", "none:0").partition(":")
        if done != int(epoch):
            return
        if kind in ("kill", "term", "int"):
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}[kind])
        if kind == "error":
            raise ValueError("asked for")
        if kind == "nan":
            with torch.no_grad():
                self.model[0].weight.fill_(float("nan"))

    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        with torch.no_grad():
            out = self.model[1](torch.relu(self.model[0](task.x)))
        run.save("predictions", {"index": task.test, "probability": out[task.test].softmax(1)})
        return {"test_acc": float((out[task.test].argmax(1) == task.y[task.test]).float().mean())}


@dataclass(kw_only=True)
class Student(Method[NodeClassification]):
    """Refers to another run."""

    teacher: RunReference
    scale: PositiveFloat

    def build(self, task: NodeClassification, run: Run) -> None:
        self.model = nn.Linear(1, 1)

    def fit(self, task: NodeClassification, run: Run) -> None:
        teacher = run.reference("teacher")
        method = teacher.restore()
        with torch.no_grad():
            self.model.weight.fill_(sum(float(p.abs().sum()) for p in method.model.parameters()))

    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        return {
            "teacher_acc": run.reference("teacher").metrics["test_acc"],
            "weight": self.model.weight.item() * self.scale,
        }
