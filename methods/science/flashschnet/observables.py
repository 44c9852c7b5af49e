"""What is read off a configuration of a chain, and means over replicas with their errors.

Letters: R replicas, N beads, c contacts, S samples, M ladders.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runner.contracts import ForceField

TOUCHING = 1.2
"""A native contact counts up to this multiple of its length in the target."""


def observables(positions: Tensor, task: ForceField) -> dict[str, Tensor]:
    """Of ``positions`` [R, N, 3], each [R]: A, A, and a share where the task has a folded target.

    ``end_to_end``: |x_N - x_1|;  ``radius_of_gyration``: root of the mean of |x - centre|^2, beads weighted alike;
    ``native_contacts``: Q, the share of the native contacts that are closer than 1.2 times their native distance.
    """
    found = {
        "end_to_end": (positions[:, -1] - positions[:, 0]).norm(dim=-1),
        "radius_of_gyration": (positions - positions.mean(1, keepdim=True)).square().sum(-1).mean(1).sqrt(),
    }
    if len(task.contacts):
        i, j = task.contacts.T
        distances = (positions[:, i] - positions[:, j]).norm(dim=-1)
        found["native_contacts"] = (distances < TOUCHING * task.contact_lengths).to(distances.dtype).mean(1)
    return found


def mean_and_error(samples: Tensor) -> tuple[float, float]:
    """Of ``samples`` [S, M], whose columns are independent: the mean, and the standard error over columns' means.

    The error is 0 where there is a single column: nothing tells it.
    """
    blocks = samples.double().mean(0)
    error = blocks.std() / len(blocks) ** 0.5 if len(blocks) > 1 else torch.zeros(())
    return float(blocks.mean()), float(error)


def drift(energies: Tensor) -> Tensor:
    """What straight lines through each replica's total energies [S, M] rise from the first sample to the last; [M]."""
    time = torch.linspace(-0.5, 0.5, len(energies), dtype=torch.float64, device=energies.device)
    return (time @ (energies.double() - energies.double().mean(0))) / time.square().sum()
