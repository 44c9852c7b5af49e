"""BiPer: bits from a square wave, gradients through a sine (Vargas et al., CVPR 2024, arXiv 2404.01278)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from runner.contracts import ImageClassification
from runner.methods.learning_rules.binary import quantisation_error
from runner.methods.learning_rules.binary.layers import binarised, binary_layers, set_binary
from runner.methods.learning_rules.binary.quantisers import PolynomialActivations, SineWeights
from runner.methods.learning_rules.binary.rule import Stage, StagedRule
from runner.methods.ops.accuracy import accuracy
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class BiPer(StagedRule):
    """Loss: cross-entropy + tau * sum over binary layers of mean(sin(omega w)^2).

    Stage 1 computes with sin(omega w) and binary activations, stage 2 with sgn(sin(omega w)), from where stage 1
    ended and with a fresh optimiser. Both send the gradient through the sine.
    """

    omega: PositiveFloat
    """Angular frequency; the latent weights' scale decides what it does."""
    surrogate: Literal["sine", "ste", "tanh"]
    scale: Literal["learned", "fitted", "shift"]
    activations: Literal["binary", "real"]
    tau: float
    """Of stage 1, or of the only one. Positive pulls omega w towards multiples of pi, negative pushes away."""
    tau_end: float | None
    """None: tau is constant; else it goes from tau to this, exponentially in the epoch."""
    two_stages: bool
    """If not, binary weights from the start, with stage 1's epochs and values."""
    stage2_epochs: PositiveInt
    stage2_lr: PositiveFloat
    stage2_weight_decay: NonNegativeFloat
    stage2_tau: float

    def changed(self, network: nn.Module) -> nn.Module:
        """All but the first and last layer binary."""
        self.current_tau = self.tau
        activations = PolynomialActivations() if self.activations == "binary" else nn.Identity()
        return binarised(network, SineWeights(self.omega, self.surrogate), activations, self.scale)

    def fit(self, task: ImageClassification, run: Run) -> None:
        """Both stages; between them the state of stage 1 is tested, as it is and with its weights made binary."""
        self.first_tau, self.last_tau = self.tau, self.tau if self.tau_end is None else self.tau_end
        if not self.two_stages:
            super().fit(task, run)
            return
        set_binary(self.model, False)
        self.train(task, run, Stage("stage1", self.epochs, self.lr, self.weight_decay))
        self._between(task, run, "stage1")
        set_binary(self.model, True)
        self._between(task, run, "direct")
        self.first_tau = self.last_tau = self.stage2_tau
        self.train(task, run, Stage("stage2", self.stage2_epochs, self.stage2_lr, self.stage2_weight_decay))
        run.log(sign_flips=self.flips.total)

    def _between(self, task: ImageClassification, run: Run, name: str) -> None:
        run.log(**{f"test_acc/{name}": accuracy(self.scores(task, "test"), task.test_y)})
        if len(task.val_y):
            run.log(**{f"val_acc/{name}": accuracy(self.scores(task, "val"), task.val_y)})

    def begin_epoch(self, share: float) -> None:
        """tau(share) = A exp(share) + B, from the first value at 0 to the last at 1."""
        super().begin_epoch(share)
        slope = (self.last_tau - self.first_tau) / (math.e - 1)
        self.current_tau = self.first_tau + slope * (math.exp(share) - 1)

    def penalty(self) -> Tensor | float:
        """tau * sum over layers of mean(s^2)."""
        if self.current_tau == 0.0:
            return 0.0
        return (
            self.current_tau * torch.stack([layer.proxy().square().mean() for layer in binary_layers(self.model)]).sum()
        )

    @torch.no_grad()
    def evaluate(self, task: ImageClassification, run: Run) -> dict[str, float]:
        """Accuracies, and the quantisation error of the trained latents.

        ``quantisation_error``: QE with gamma fitted to each layer, mean over all weights; ``…_repository``: the
        repository's measure; ``omega_b``: omega mean |w|. ``laplace_error/<omega b>``: QE of a draw from a Laplace
        distribution over its closed form.
        """
        metrics = super().evaluate(task, run)
        layers = list(binary_layers(self.model))
        proxies = [layer.proxy().float() for layer in layers]  # beyond an emulated format, like all that follows
        sizes = torch.tensor([s.numel() for s in proxies], dtype=torch.float32)
        errors = torch.stack([quantisation_error.measured_error(s) for s in proxies]).cpu()
        repository = torch.stack([quantisation_error.repository_error(s) for s in proxies]).cpu()
        spreads = torch.stack([self.omega * layer.latent.float().abs().mean() for layer in layers]).cpu()
        measured = {"error": errors, "repository_error": repository, "omega_b": spreads, "weights": sizes}
        run.save("quantisation_error", measured)
        run.save(
            "quantisation_error", quantisation_error.figure(spreads.tolist(), errors.tolist(), f"ω = {self.omega:g}")
        )
        generator = torch.Generator().manual_seed(run.generator.initial_seed())  # the same again in mode=evaluate
        for x in quantisation_error.CHECKED:
            drawn = torch.sin(quantisation_error.laplace(quantisation_error.DRAWN, x, generator))
            ratio = float(quantisation_error.measured_error(drawn)) / quantisation_error.least_error(x)
            metrics[f"laplace_error/{x:g}"] = ratio
        share = sizes / sizes.sum()
        return metrics | {
            "quantisation_error": float((share * errors).sum()),
            "quantisation_error_repository": float(repository.sum()),
            "omega_b": float((share * spreads).sum()),
        }
