"""NoProp-DT: T blocks, each trained alone on the embedding noised to its own step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from runner.contracts import ImageClassification
from runner.errors import BadInput
from runner.methods.learning_rules.noprop import schedule
from runner.methods.learning_rules.noprop.classifier import Network, NoProp
from runner.methods.learning_rules.noprop.embedding import noised
from runner.methods.learning_rules.noprop.learners import Learner, Pass
from runner.methods.learning_rules.noprop.workers import Workers
from runner.types import PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


class BlockLoss(nn.Module):
    """(T/2) eta (SNR(t) - SNR(t-1)) ||uhat_t(z_{t-1}, x) - u_y||^2, the batch's mean, z_{t-1} ~ q(z_{t-1} | y)."""

    def __init__(self, network: Network, number: int, abar: Tensor, eta: float) -> None:
        """``number``: t, from 1; ``abar``: [T + 1]."""
        super().__init__()
        self.network = network
        self.number = number
        snr = schedule.snr(abar)
        self.weight = (len(abar) - 1) / 2 * eta * float(snr[number] - snr[number - 1])
        self.abar = float(abar[number - 1])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """For images [B, …] with classes [B]."""
        network, block = self.network, self.network.blocks[self.number - 1]
        u = network.embedding(y)
        uhat = network.clean(block, noised(u, u.new_tensor(self.abar)), block.image(x))
        return self.weight * (uhat - u).square().sum(1).mean()


class ReadingLoss(nn.Module):
    """CE(head(z_T), y) + KL(q(z_0 | y) || N(0, I)), z_T ~ q(z_T | y): it touches no block, and sees no image."""

    def __init__(self, network: Network, abar: Tensor) -> None:
        """``abar``: [T + 1]."""
        super().__init__()
        self.network = network
        self.first, self.last = float(abar[0]), float(abar[-1])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """For classes [B]."""
        u = self.network.embedding(y)
        logits = self.network.classify(noised(u, u.new_tensor(self.last)))
        divergence = schedule.prior_divergence(u.new_tensor(self.first), u).mean()
        return nn.functional.cross_entropy(logits, y) + divergence


class WholeLoss(nn.Module):
    """L_t: what the head and the embedding learn, and what block t learns, on one batch."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum."""
        return torch.stack([part(x, y) for part in self.parts]).sum()


@dataclass(kw_only=True, eq=False)
class NoPropDT(NoProp):
    """For t = 1..T: for each batch: a step of block t, of the head and of the embedding.

    A fixed embedding ties the blocks to nothing: then each block is a learner of its own, the head another (with as
    many steps as all blocks together), each with random numbers of its own, and ``workers`` processes may train them
    at the same time, with the same result to the bit.
    """

    blocks: PositiveInt
    """T."""
    eta: PositiveFloat
    abar_clip: PositiveFloat
    workers: PositiveInt

    @property
    def shape(self) -> tuple[int, int | None]:
        """T blocks of one step each."""
        return self.blocks, None

    @property
    def abar(self) -> Tensor:
        """abar_0 … abar_T, float64."""
        return schedule.cosine(self.blocks, self.abar_clip)

    def build(self, task: ImageClassification, run: Run) -> None:
        """As ever.

        Raises:
            BadInput: the schedule isn't one, or several processes can't share a learned embedding, or are not where
                the hardware is modelled.
        """
        self.steps = schedule.step(self.abar[:-1], self.abar[1:])
        if self.workers > 1 and run.one_process:
            raise BadInput(
                f"method.workers={self.workers}: the chosen hardware is modelled in one process, and would not be in "
                "others; take method.workers=1"
            )
        if self.workers > 1 and self.embedding != "one_hot":
            raise BadInput(
                f"method.workers={self.workers}: all blocks move a learned embedding; "
                "take method.workers=1 or method.embedding=one_hot"
            )
        super().build(task, run)

    def learners(self) -> list[Learner]:
        """What can be trained apart from one another."""
        network, abar = self.network, self.abar
        reading = ReadingLoss(network, abar)
        losses = [BlockLoss(network, number, abar, self.eta) for number in range(1, self.blocks + 1)]
        optimizers = [self.optimizer_of(list(block.parameters())) for block in network.blocks]
        shared = [*network.head.parameters(), *network.embedding.parameters()]
        if network.embedding.learned:
            other = self.optimizer_of(shared)
            pairs = zip(losses, optimizers, strict=True)
            passes = [Pass(WholeLoss(reading, loss), [optimizer, other]) for loss, optimizer in pairs]
            return [Learner(network, passes, self.clip)]
        alone = [
            Learner(block, [Pass(loss, [optimizer])], self.clip)
            for block, loss, optimizer in zip(network.blocks, losses, optimizers, strict=True)
        ]
        return [*alone, Learner(network.head, [Pass(reading, [self.optimizer_of(shared)])] * self.blocks, self.clip)]

    def fit(self, task: ImageClassification, run: Run) -> None:
        """Each learner's pass through the images, once an epoch."""
        learners = self.learners()
        optimizers = {name: item for place, learner in enumerate(learners) for name, item in learner.named(place)}
        run.track(model=self.model, **optimizers)
        base = int(torch.randint(2**62, (), generator=run.generator))
        with self._training(learners, task) as train:
            for epoch in self.validated_epochs(task, run):
                self.model.train()
                run.log(loss=sum(train([(base, place, int(epoch)) for place in range(len(learners))])))
                self.validate(task, run, epoch)

    @contextmanager
    def _training(
        self, learners: list[Learner], task: ImageClassification
    ) -> Iterator[Callable[[list[tuple[int, ...]]], Sequence[float]]]:
        if self.workers == 1:
            yield lambda seeds: [
                learner.epoch(task, self.batch_size, seed) for learner, seed in zip(learners, seeds, strict=True)
            ]
            return
        with Workers(min(self.workers, len(learners)), learners, task, self.batch_size) as workers:
            yield workers.epoch

    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """Of a step of each block, one after the other, the head's with each; the sum of their losses."""
        total = torch.zeros((), dtype=torch.float32, device=x.device)
        for part in (part for learner in self.learners() for part in learner.passes):
            loss = part.loss(x, y)
            loss.backward()
            total += loss.detach()
        return total

    def walk(self, z: Tensor, seen: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """z_t = a_t uhat_t(z_{t-1}, x) + b_t z_{t-1} + sqrt(c_t) noise: all of z_1 … z_T."""
        states = []
        for block, view, a, b, c in zip(self.network.blocks, seen, *self.steps, strict=True):
            uhat = self.network.clean(block, z, view)
            z = float(a) * uhat + float(b) * z + float(c.sqrt()) * self.noise(tuple(z.shape), generator)
            states.append(z)
        return states
