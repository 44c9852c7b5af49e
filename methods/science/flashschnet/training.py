"""Force matching: SchNet learns what the prior leaves of the forces (Charron et al., 2025, as FlashSchNet's baseline).

Letters: S frames, B frames of a batch, N beads, E edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from runner.contracts import ForceField, Method
from runner.methods.science.flashschnet.engines import make
from runner.methods.science.flashschnet.neighbours import find
from runner.methods.science.flashschnet.potential import SchNet
from runner.methods.science.flashschnet.prior import Prior
from runner.methods.science.flashschnet.sizes import Sizes
from runner.types import PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class ForceMatching(Sizes, Method[ForceField]):
    """Adam on the mean squared error of forces, -dE/dx; the weights of the lowest validation error are kept."""

    epochs: PositiveInt
    lr: PositiveFloat
    batch_size: PositiveInt

    def build(self, task: ForceField, run: Run) -> None:
        """SchNet for the task's kinds of beads.

        Raises:
            BadInput: fewer than two basis functions, which have no distance between them.
        """
        self.model: SchNet = run.adapt(self.schnet(task.num_types))

    def fit(self, task: ForceField, run: Run) -> None:
        """One pass over the training frames an epoch, in random order."""
        target = task.forces - Prior(task)(task.positions)[1]
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr)
        run.track(model=self.model, optimizer=optimizer)
        for epoch in run.epochs(self.epochs, monitor="val_rmse", mode="min"):
            order = torch.randperm(len(task.train), generator=run.generator).to(run.device)
            squares = task.forces.new_zeros(())
            for frames in task.train[order].split(self.batch_size):
                forces = self._forces(task.positions[frames], task.types)
                loss = (forces - target[frames]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                squares += loss.detach() * len(frames)
            run.log(train_rmse=(squares / len(order)).sqrt())
            if epoch.validates:
                run.log(val_rmse=rmse(self._evaluated(task, task.val)[1], target[task.val]))

    def evaluate(self, task: ForceField, run: Run) -> dict[str, float]:
        """Errors on test frames, in kcal/mol/A and kcal/mol.

        ``force_rmse``; ``prior_force_rmse``, of the prior alone; ``val_force_rmse``; and where energies are known
        ``energy_std``, the standard deviation of the energy's error over frames: forces leave its constant open.
        """
        prior = Prior(task)
        energy, forces = prior(task.positions)
        target = task.forces - forces
        found, predicted = self._evaluated(task, task.test)
        metrics = {
            "force_rmse": rmse(predicted, target[task.test]),
            "prior_force_rmse": rmse(target[task.test], torch.zeros_like(predicted)),
            "val_force_rmse": rmse(self._evaluated(task, task.val)[1], target[task.val]),
        }
        if len(task.energies):
            metrics["energy_std"] = (found + energy[task.test] - task.energies[task.test]).std()
        return {name: float(value) for name, value in metrics.items()}

    def _forces(self, positions: Tensor, types: Tensor) -> Tensor:
        """-dE/dx [B, N, 3], which can itself be differentiated by the weights."""
        edge_index = find(positions, self.cutoff).edge_index
        x = positions.flatten(0, 1).requires_grad_()
        source, destination = edge_index
        distances = (x.index_select(0, destination) - x.index_select(0, source)).norm(dim=1)
        energy = self.model(distances, edge_index, types.repeat(len(positions)))
        (gradient,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
        return -gradient.view_as(positions)

    def _evaluated(self, task: ForceField, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The network's energies [S] and forces [S, N, 3] at some frames."""
        engine = make("csr", self.model, task.types)
        parts = [engine(task.positions[part]) for part in frames.split(self.batch_size)]
        energy, forces = zip(*parts, strict=True)
        return torch.cat(energy), torch.cat(forces)


def rmse(predicted: Tensor, true: Tensor) -> Tensor:
    """Root of the mean squared difference of all components."""
    return (predicted - true).square().mean().sqrt()
