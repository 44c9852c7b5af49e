"""Simulating a coarse-grained molecule with a trained potential, by any engine: physics and throughput.

Letters: R replicas, N beads, S samples, T temperatures, M ladders of T replicas.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from runner.contracts import ForceField, Method
from runner.errors import BadInput, Diverged
from runner.methods.science.flashschnet.dynamics import Replicas
from runner.methods.science.flashschnet.engines import make
from runner.methods.science.flashschnet.observables import drift, mean_and_error, observables
from runner.methods.science.flashschnet.prior import Prior
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, RunReference

if TYPE_CHECKING:
    from runner.run import Run

SECONDS_PER_DAY = 86_400


class Simulation(nn.Module):
    """Replicas and what was sampled of them so far: a run's checkpoint, and what it resumes from.

    Samples are [S, R]; ``frames`` [S, R, N, 3].
    """

    samples: Tensor
    exchanged: Tensor
    cpu_seconds: Tensor
    timed_steps: Tensor
    potential: Tensor
    kinetic: Tensor
    rung: Tensor
    frames: Tensor

    def __init__(self, replicas: Replicas, samples: int) -> None:
        """``samples`` S at most."""
        super().__init__()
        self.replicas = replicas
        place = replicas.positions
        self.register_buffer("samples", torch.zeros((), dtype=torch.int64))
        self.register_buffer("exchanged", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("cpu_seconds", torch.zeros((), dtype=torch.float64))
        self.register_buffer("timed_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("potential", place.new_zeros(samples, len(place)))
        self.register_buffer("kinetic", place.new_zeros(samples, len(place)))
        self.register_buffer("rung", torch.zeros(samples, len(place), dtype=torch.int64, device=place.device))
        self.register_buffer("frames", place.new_zeros(samples, *place.shape))

    def sample(self) -> None:
        """Note where the replicas are."""
        now = int(self.samples)
        self.potential[now], self.kinetic[now] = self.replicas.energy, self.replicas.kinetic()
        self.rung[now], self.frames[now] = self.replicas.rung, self.replicas.positions
        self.samples += 1


@dataclass(kw_only=True, eq=False)
class CoarseGrainedDynamics(Method[ForceField]):
    """Replicas from frames of the data, moved by prior and network: one evaluation of both a step."""

    potential: RunReference
    """A run of ``force_matching``."""
    engine: Literal["naive", "csr", "compiled", "tiled", "tiled_pairs", "ext", "ext_pairs", "triton"]
    tile: PositiveInt
    weights: Literal["float32", "float16", "bfloat16", "int16"]
    scaling: Literal["channel", "tensor", "cast"]
    drop_cutoff_grad: bool
    integrator: Literal["langevin", "verlet"]
    replicas: PositiveInt
    steps: PositiveInt
    dt: PositiveFloat
    """ps."""
    friction: NonNegativeFloat
    """1/ps."""
    beta: PositiveFloat
    """mol/kcal."""
    tempering: list[PositiveFloat]
    """Further betas."""
    exchange_every: PositiveInt
    sample_every: PositiveInt
    """Steps from one sample to the next; an epoch of the run."""
    discard: Probability
    """Share of the samples, the first ones, that no mean counts."""

    def build(self, task: ForceField, run: Run) -> None:
        """Replicas at rest, nothing sampled.

        Raises:
            BadInput: settings that don't go together.
        """
        betas = [self.beta, *self.tempering]
        if self.replicas % len(betas):
            raise BadInput(f"method.replicas={self.replicas} must be a multiple of the {len(betas)} temperatures")
        if self.tempering and (self.integrator == "verlet" or self.exchange_every % self.sample_every):
            raise BadInput(
                "method.tempering needs integrator=langevin, and exchange_every to be a multiple of sample_every"
            )
        if self.steps < 2 * self.sample_every or self.steps % self.sample_every:
            raise BadInput(
                f"method.steps={self.steps} must be a multiple, 2 or more, of method.sample_every={self.sample_every}"
            )
        start = task.positions.new_zeros(self.replicas, *task.positions.shape[1:])
        self.model = Simulation(Replicas(start, task.masses, betas), self.steps // self.sample_every).to(run.device)

    def fit(self, task: ForceField, run: Run) -> None:
        """Start from training frames, chosen at random, with thermal velocities.

        Raises:
            BadInput: the potential is another molecule's, or no potential of force matching.
            Diverged: the energy is no number any more.
        """
        network = run.reference("potential").restore().model
        if getattr(getattr(network, "embedding", None), "num_embeddings", None) != task.num_types:
            raise BadInput("method.potential must be a run of method=force_matching on the same dataset")
        prior = Prior(task)
        engine = make(
            self.engine,
            network,
            task.types,
            tile=self.tile,
            weights=self.weights,
            scaling=self.scaling,
            drop_cutoff_grad=self.drop_cutoff_grad,
        )

        def forces(positions: Tensor) -> tuple[Tensor, Tensor]:
            energy, force = prior(positions)
            learned_energy, learned_force = engine(positions)
            return energy + learned_energy, force + learned_force

        model, replicas = self.model, self.model.replicas
        chosen = torch.randint(len(task.train), (self.replicas,), generator=run.generator).to(run.device)
        replicas.positions = task.positions[task.train[chosen]].clone()
        replicas.start(forces, run.generator)
        betas = task.positions.new_tensor([self.beta, *self.tempering])
        warm = False
        run.track(model=model)
        for epoch in run.epochs(self.steps // self.sample_every, name="simulation", restore_best=False):
            begun = time.process_time()
            for _ in range(self.sample_every):
                if self.integrator == "langevin":
                    replicas.langevin(forces, self.dt, self.friction, run.generator)
                else:
                    replicas.verlet(forces, self.dt)
            if warm:  # what is compiled or allocated in a process's first steps isn't the engine's cost
                model.cpu_seconds += time.process_time() - begun
                model.timed_steps += self.sample_every
            warm = True
            if not replicas.energy.isfinite().all():
                steps = epoch * self.sample_every
                raise Diverged(f"the energy is no number after {steps} steps; try a smaller method.dt")
            model.sample()
            if self.tempering and epoch * self.sample_every % self.exchange_every == 0:
                odd = bool(epoch * self.sample_every // self.exchange_every % 2)
                model.exchanged += torch.tensor([replicas.exchange(betas, odd, run.generator), 1.0])
            run.log(potential_energy=replicas.energy.mean(), kinetic_energy=replicas.kinetic().mean())
        done = int(model.samples)
        run.save("trajectory", {"positions": model.frames[:done], "energy": model.potential[:done]})

    def evaluate(self, task: ForceField, run: Run) -> dict[str, float]:
        """Means over samples at ``beta``, each with ``_error``, its standard error over replicas.

        ``potential_energy`` (kcal/mol), ``end_to_end``, ``radius_of_gyration`` (A), ``native_contacts``;
        ``temperature``, measured over asked for; ``frames/…``: the same of the data's test frames.
        With verlet ``energy_drift`` over the whole run and ``energy_noise``, its deviation from its mean, kT per bead.
        ``speed/steps_mol_per_s`` and ``speed/ns_per_day`` count all replicas and CPU time.
        """
        model = self.model
        done, first = int(model.samples), int(self.discard * int(model.samples))
        replicas, beads = model.potential.shape[1], task.positions.shape[1]
        asked = model.rung[first:done] == 0
        ladders = replicas // (1 + len(self.tempering))

        def at_beta(samples: Tensor) -> Tensor:
            """[S, R] -> [S, M]: a ladder has one replica at ``beta``."""
            by_ladder = samples.view(len(samples), -1, ladders).transpose(1, 2)
            return by_ladder[asked.view(len(samples), -1, ladders).transpose(1, 2)].view(len(samples), ladders)

        values = {"potential_energy": at_beta(model.potential[first:done])}
        for name, found in observables(model.frames[first:done].flatten(0, 1), task).items():
            values[name] = at_beta(found.view(-1, replicas))
        metrics = {}
        for name, samples in values.items():
            metrics[name], metrics[f"{name}_error"] = mean_and_error(samples)
        kinetic = mean_and_error(at_beta(model.kinetic[first:done]))[0]
        metrics["temperature"] = 2 * kinetic * self.beta / (3 * beads)
        if self.integrator == "verlet":
            total = (model.potential[:done] + model.kinetic[:done]) * self.beta / beads
            metrics["energy_drift"], metrics["energy_drift_error"] = mean_and_error(drift(total).unsqueeze(0))
            metrics["energy_noise"] = float((total.double() - total.double().mean(0)).square().mean().sqrt())
        if model.exchanged[1]:
            metrics["exchange_rate"] = float(model.exchanged[0] / model.exchanged[1])
        if model.timed_steps:
            rate = float(model.timed_steps / model.cpu_seconds)
            metrics["speed/steps_mol_per_s"] = replicas * rate
            metrics["speed/ns_per_day"] = replicas * rate * self.dt * 1e-3 * SECONDS_PER_DAY
        data = observables(task.positions[task.test], task)
        return metrics | {f"frames/{name}": float(found.mean()) for name, found in data.items()}
