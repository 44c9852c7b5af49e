"""A chain's bonds, angles and dihedrals, and the potential that each would have if it were alone.

Letters: S frames, N beads, n harmonics.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 72
"""Of a dihedral's histogram: 5 degrees each."""

Floats = NDArray[np.floating[Any]]


def bonds(positions: Floats) -> Floats:
    """Lengths between neighbours: [S, N, 3] -> [S, N - 1]."""
    return np.linalg.norm(np.diff(positions, axis=1), axis=-1)


def angles(positions: Floats) -> Floats:
    """Between the bonds of each inner bead, rad: [S, N, 3] -> [S, N - 2]."""
    bond = np.diff(positions, axis=1)
    u, v = -bond[:, :-1], bond[:, 1:]
    return np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), (u * v).sum(-1))


def dihedrals(positions: Floats) -> Floats:
    """Around each inner bond, rad, in (-pi, pi], 0 for cis (IUPAC's sign): [S, N, 3] -> [S, N - 3]."""
    bond = np.diff(positions, axis=1)
    normal = np.cross(bond[:, :-1], bond[:, 1:])
    m, n, middle = normal[:, :-1], normal[:, 1:], bond[:, 1:-1]
    sine = np.linalg.norm(middle, axis=-1) * (bond[:, :-2] * n).sum(-1)
    return np.arctan2(sine, (m * n).sum(-1))


def fitted_prior(positions: Floats, *, beta: float, harmonics: int) -> dict[str, NDArray[Any]]:
    """Boltzmann inversion, term by term: fields of a ``ForceField``'s prior from frames [S, N, 3] of a chain.

    A harmonic term has k = kT / variance around the mean. A dihedral's series is the least-squares fit to -kT ln p over
    the bins that were visited; its constant is left out.

    Args:
        positions: at temperature 1 / beta.
        beta: mol/kcal.
        harmonics: n.
    """
    x = positions.astype(np.float64)
    length, angle, dihedral = bonds(x), angles(x), dihedrals(x)
    place = np.arange(x.shape[1])
    edges = np.linspace(-np.pi, np.pi, BINS + 1)
    order = np.arange(1, harmonics + 1)
    waves = order * (0.5 * (edges[1:] + edges[:-1]))[:, None]
    series = np.concatenate([np.ones((BINS, 1)), np.sin(waves), np.cos(waves)], axis=1)
    fitted = []
    for column in dihedral.T:
        count = np.histogram(column, edges)[0]
        seen = count > 0
        fitted.append(np.linalg.lstsq(series[seen], -np.log(count[seen]) / beta, rcond=None)[0])
    coefficients = np.stack(fitted)
    return {
        "bonds": np.stack([place[:-1], place[1:]], axis=1),
        "bond_lengths": length.mean(0),
        "bond_stiffness": 1 / (beta * length.var(0)),
        "angles": np.stack([place[:-2], place[1:-1], place[2:]], axis=1),
        "angle_values": angle.mean(0),
        "angle_stiffness": 1 / (beta * angle.var(0)),
        "dihedrals": np.stack([place[:-3], place[1:-2], place[2:-1], place[3:]], axis=1),
        "dihedral_sin": coefficients[:, 1 : harmonics + 1],
        "dihedral_cos": coefficients[:, harmonics + 1 :],
    }
