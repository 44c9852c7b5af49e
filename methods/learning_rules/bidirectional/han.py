"""Hybrid adversarial networks (HAN): the generator learns from noise, against a discriminator."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import ImageClassification
from runner.errors import BadInput
from runner.loops import Stateful
from runner.methods.learning_rules.bidirectional.network import Undirected, Upward
from runner.methods.learning_rules.bidirectional.shared import SharedWeights
from runner.types import PositiveFloat

if TYPE_CHECKING:
    from runner.run import Run

SHOWN = 20
"""Generated images that are kept to look at."""


@dataclass(kw_only=True, eq=False)
class HybridAdversarial(SharedWeights):
    """z uniform in [-1, 1)^K; D has the classifier's shape, weights of its own, and one output::

    up       softmax cross-entropy of C(x) with y               moves W and what is C's own
    D step   BCE(D(x), 1) + BCE(D(G(z)), 0)                     moves D
    down     BCE(D(G(z)), 1), another z                         moves W and what is G's own
    """

    lr_discriminator: PositiveFloat
    batch_norm: bool
    """Upwards behind all convolutions but the first, downwards behind affine layers; parameters for each direction."""
    test_statistics: Literal["moving", "batch"]
    """Of batch normalisation, for clean accuracy; ``batch``: those of all test images, as the authors' code has it."""

    def build(self, task: ImageClassification, run: Run) -> None:
        """The network, and the discriminator, which is not part of the checkpoint.

        Raises:
            BadInput: batches of one image have no statistics.
        """
        if self.batch_norm and self.batch_size == 1:
            raise BadInput("method.batch_norm=true takes statistics of a batch: method.batch_size=2 or more")
        layout = self.layout(batch_norm=self.batch_norm)
        self.model = run.adapt(Undirected(task.shape, task.num_classes, layout))
        behind_affine = self.conv_activation if self.convolutions else self.activation
        discriminator = Upward(task.shape, 1, dataclasses.replace(layout, activation=behind_affine))
        self.discriminator = run.adapt(discriminator)
        for module in (*self.model.modules(), *self.discriminator.modules()):
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum, module.eps = 0.1, 1e-5  # decay .9

    def prepare(self, task: ImageClassification, run: Run) -> dict[str, Stateful]:
        """The discriminator and two more Adams."""
        self.inputs, self.generator = task.num_classes, run.generator
        self.moved_down = self.trained(self.undirected.after_down)
        self.down = self.adam(self.moved_down, self.lr_down)
        self.judge = self.adam(self.discriminator.parameters(), self.lr_discriminator)
        self.discriminator.train()
        return {"down": self.down, "discriminator": self.discriminator, "judge": self.judge}

    def step_down(self, x: Tensor, y: Tensor) -> Tensor:
        """The discriminator's step, then the generator's."""
        with torch.no_grad():
            fake = self.images(self.noise_like(x))
        self.judge.zero_grad()
        (judged(self.discriminator(x), True) + judged(self.discriminator(fake), False)).backward()
        self.judge.step()
        self.down.zero_grad()
        loss = judged(self.discriminator(self.images(self.noise_like(x))), True)
        torch.autograd.backward(loss, inputs=self.moved_down)
        self.down.step()
        return loss.detach()

    def noise_like(self, x: Tensor) -> Tensor:
        """Fresh z [B, K]."""
        return torch.rand(len(x), self.inputs, generator=self.generator).to(x).mul_(2).sub_(1)

    def images(self, z: Tensor) -> Tensor:
        """Pixels of G(z)."""
        return self.undirected.generate(z).sigmoid()

    def clean_scores(self, model: nn.Module, x: Tensor) -> Tensor:
        """With ``test_statistics=batch`` in one pass, which moves the moving averages too."""
        if self.test_statistics == "moving":
            return super().clean_scores(model, x)
        with torch.no_grad():
            found: Tensor = model.train()(x)
        model.eval()
        return found

    @torch.no_grad()
    def generated(self) -> Tensor:
        """G(z) of a fixed draw, by moving averages: [20, C, H, W]."""
        top = self.undirected.eval().layers[-1].weight
        z = torch.rand(SHOWN, len(top), generator=torch.Generator().manual_seed(0)).mul_(2).sub_(1)
        return self.images(z.to(top))


def judged(logits: Tensor, real: bool) -> Tensor:
    """Mean sigmoid cross-entropy of D's logits [B, 1] with "real" or "generated"."""
    return functional.softplus(-logits if real else logits).mean()
