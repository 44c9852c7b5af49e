"""What both procedures share: the loop over iterations, when the generator learns too, and the test of robustness.

Letters: B images of a batch, n of a split, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import ImageClassification, Method
from runner.errors import BadInput
from runner.loops import Stateful
from runner.methods.learning_rules.bidirectional.network import Layout, Undirected
from runner.methods.learning_rules.rule import EVALUATED_AT_ONCE
from runner.methods.ops.accuracy import accuracy
from runner.methods.ops.attacks import fgsm, pgd, white_noise
from runner.methods.ops.minibatches import stream
from runner.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Probability

if TYPE_CHECKING:
    from runner.run import Run

PURE_NOISE = 10_000
"""Images of nothing but noise by which confidence is judged."""


@dataclass(kw_only=True, eq=False)
class SharedWeights(Method[ImageClassification]):
    """An undirected network, whose weights learn upwards to classify and downwards to generate.

    A procedure says what the second of an iteration's two steps is (``step_down``).
    """

    iterations: PositiveInt
    rhythm: PositiveInt
    """Iterations from one measurement to the next: an epoch of the runner's."""
    batch_size: PositiveInt
    learning: Literal["bp", "bl", "bl_then_bp"]
    """Who learns: the classifier alone, both directions, or both in the first half of the iterations."""
    bias: bool
    """False: only the shared weights learn; biases stay 0, batch normalisation stays as it was at the start."""
    lr: PositiveFloat
    """Of the classifier's Adam."""
    lr_down: PositiveFloat
    """Of the generator's Adam."""
    beta1: Probability
    """First-moment decay of every Adam."""
    convolutions: list[list[PositiveInt]]
    """From the image on: kernel, channels, stride of each."""
    hidden: list[PositiveInt]
    """Widths of the affine layers that follow."""
    activation: Literal["sigmoid", "relu", "leaky_relu"]
    conv_activation: Literal["sigmoid", "relu", "leaky_relu"]
    """Upwards, behind convolutions; downwards it is ``activation`` everywhere."""
    init_std: PositiveFloat | None
    """Weights: normal, truncated at two deviations; None: sqrt(2 / fan-in)."""
    keep: Literal["last", "best", "best_test"]
    """The state of the last iteration, or of the measurement with the best validation or clean test accuracy."""
    noise: NonNegativeFloat
    """White noise of the test: uniform in 0..noise, of pixels in 0..1."""
    eps: NonNegativeFloat
    """Bound of both attacks, in every pixel."""
    pgd_steps: NonNegativeInt
    """0: no such attack."""
    pgd_step: PositiveFloat
    """A step's length in parts of ``eps``."""
    pgd_images: PositiveInt
    """Of the test images the first so many."""

    def layout(self, *, batch_norm: bool) -> Layout:
        """The network's layers."""
        return Layout(
            convolutions=self.convolutions,
            hidden=self.hidden,
            activation=self.activation,
            conv_activation=self.conv_activation,
            batch_norm=batch_norm,
            init_std=self.init_std,
        )

    @abstractmethod
    def step_down(self, x: Tensor, y: Tensor) -> Tensor:
        """The generator's step on a batch [B, C, H, W] with classes [B], after the classifier's; its loss."""

    @abstractmethod
    def prepare(self, task: ImageClassification, run: Run) -> dict[str, Stateful]:
        """What ``step_down`` needs; of it, what a snapshot has to hold beside the model."""

    def learning_rates(self, iteration: int) -> None:
        """Set the optimisers' learning rates for an iteration, from 0."""

    def clean_scores(self, model: nn.Module, x: Tensor) -> Tensor:
        """Logits [n, K] of undisturbed images; ``model`` is left in evaluation mode."""
        return scores(model.eval(), x)

    def adam(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Adam:
        """One of the procedure's optimisers."""
        return torch.optim.Adam(parameters, lr=lr, betas=(self.beta1, 0.999), fused=True)

    def trained(self, after: nn.Module) -> list[nn.Parameter]:
        """What a step of one direction moves: the shared weights and, unless ``bias`` is false, its own parameters."""
        return [*self.undirected.weights(), *(after.parameters() if self.bias else ())]

    def fit(self, task: ImageClassification, run: Run) -> None:
        """Per iteration one step up and, while the generator learns, one step down, at the weights already moved.

        Raises:
            BadInput: the best validation is to be kept, and no image is held out.
        """
        task = in_unit_range(task)
        split: Literal["val", "test"] = "test" if self.keep == "best_test" else "val"
        watched, classes = task.part(split)
        if self.keep == "best" and not len(classes):
            raise BadInput("method.keep=best chooses by validation images: dataset.val_size=5000, or keep=last")
        if not self.bias:
            for parameter in (*self.undirected.after_up.parameters(), *self.undirected.after_down.parameters()):
                parameter.requires_grad_(False)
        seed = int(torch.randint(2**62, (), generator=run.generator))
        self.up = self.adam(self.trained(self.undirected.after_up), self.lr)
        run.track(model=self.undirected, up=self.up, **self.prepare(task, run))
        both_until = {"bp": 0, "bl": self.iterations, "bl_then_bp": self.iterations // 2}[self.learning]
        best = self.keep != "last"
        epochs = -(-self.iterations // self.rhythm)
        for epoch in run.epochs(epochs, monitor=f"{split}_acc" if best else None, restore_best=best):
            first, stop = (epoch - 1) * self.rhythm, min(epoch * self.rhythm, self.iterations)
            self.undirected.train()
            total_up, total_down = torch.zeros(2, dtype=torch.float32, device=run.device)  # of no emulated format
            batches = stream(task, self.batch_size, first, stop, seed, run.generator)
            for iteration, (x, y) in enumerate(batches, first):
                self.learning_rates(iteration)
                total_up += self.step_up(x, y)
                if iteration < both_until:
                    total_down += self.step_down(x, y)
            run.log(loss=total_up / (stop - first))
            if first < both_until:
                run.log(loss_down=total_down / (min(stop, both_until) - first))
            if len(classes):
                run.log(**{f"{split}_acc": accuracy(self.clean_scores(self.undirected, watched), classes)})

    def step_up(self, x: Tensor, y: Tensor) -> Tensor:
        """The classifier's step: the mean cross-entropy of C(x); the loss."""
        self.up.zero_grad()
        loss = functional.cross_entropy(self.undirected(x), y)
        loss.backward()
        self.up.step()
        return loss.detach()

    @property
    def undirected(self) -> Undirected:
        """The model, by its type."""
        assert isinstance(self.model, Undirected)
        return self.model

    def evaluate(self, task: ImageClassification, run: Run) -> dict[str, float]:
        """Accuracy of clean and of disturbed test images, and how sure the network is of pure noise.

        ``test_acc``, ``noisy_acc``, ``fgsm_acc``, ``pgd_acc`` (of the first ``pgd_images``, which ``pgd_clean_acc``
        is of); ``fgsm_stuck``: share of images whose gradient is zero; ``sigmoid_rate``, ``softmax_rate``: largest
        output over images of pure noise, over that of the test images; ``val_acc`` where images were held out.
        """
        task = in_unit_range(task)
        x, y = task.test_x, task.test_y
        clean = self.clean_scores(copy.deepcopy(self.model), x)
        model = self.model.eval()
        draw = torch.Generator().manual_seed(0)  # one fixed draw, whatever the run's seed
        noisy = scores(model, white_noise(x, self.noise, draw))
        attacked = [fgsm(model, part, self.eps) for part in x.split(EVALUATED_AT_ONCE)]
        stuck = torch.cat([part.stuck for part in attacked])
        nothing = scores(model, torch.rand((PURE_NOISE, *task.shape), generator=draw).to(x))
        metrics = {
            "test_acc": accuracy(clean, y),
            "noisy_acc": accuracy(noisy, y),
            "fgsm_acc": accuracy(torch.cat([scores(model, part.x) for part in attacked]), y),
            "fgsm_stuck": int(stuck.sum()) / len(stuck),
            "sigmoid_rate": float(nothing.sigmoid().max() / clean.sigmoid().max()),
            "softmax_rate": float(nothing.softmax(1).max() / clean.softmax(1).max()),
        }
        if self.pgd_steps:
            few = min(self.pgd_images, len(y))
            step = self.pgd_step * self.eps
            parts = [
                pgd(model, part, self.eps, steps=self.pgd_steps, step=step, generator=draw).x
                for part in x[:few].split(EVALUATED_AT_ONCE)
            ]
            metrics["pgd_acc"] = accuracy(scores(model, torch.cat(parts)), y[:few])
            metrics["pgd_clean_acc"] = accuracy(clean[:few], y[:few])
        if len(task.val_y):
            metrics["val_acc"] = accuracy(self.clean_scores(copy.deepcopy(self.model), task.val_x), task.val_y)
        run.save("predictions", {"label": y, "score": clean})
        run.save("generated", self.generated())
        return metrics

    @abstractmethod
    def generated(self) -> Tensor:
        """Pixels [.., C, H, W] of images that the network generates, to look at."""


@torch.no_grad()
def scores(model: nn.Module, x: Tensor) -> Tensor:
    """Logits [n, K] of images [n, C, H, W], in parts."""
    return torch.cat([model(part) for part in x.split(EVALUATED_AT_ONCE)])


def in_unit_range(task: ImageClassification) -> ImageClassification:
    """The task with pixels in [0, 1], whatever the dataset's normalisation: they are probabilities downwards."""
    if not task.low.any() and bool((task.high == 1).all()):
        return task
    span = task.high - task.low
    images = {name: (getattr(task, name) - task.low) / span for name in ("train_x", "val_x", "test_x")}
    return dataclasses.replace(task, **images, low=torch.zeros_like(span), high=torch.ones_like(span))
