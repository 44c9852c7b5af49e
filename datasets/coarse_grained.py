"""Coarse-grained molecules with forces: a synthetic chain of which everything is known, and alanine dipeptide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from runner import fingerprint
from runner.contracts import Dataset, ForceField
from runner.datasets import chain_physics as physics
from runner.datasets import internal_coordinates as internal
from runner.datasets import sources
from runner.datasets.array_files import read_npz
from runner.errors import BadInput, CorruptData
from runner.places import cache_dir
from runner.types import NonNegativeInt, PositiveFloat, PositiveInt

Arrays = dict[str, NDArray[Any]]
SMALLEST_CHAIN = 8
"""Beads, below which there may be no native contact."""


@dataclass(kw_only=True)
class Chain(Dataset):
    """Frames of a folding chain from its own Langevin motion at 300 K; whole replicas are kept for val and test."""

    beads: PositiveInt
    replicas: PositiveInt
    val_replicas: PositiveInt
    test_replicas: PositiveInt
    frames: PositiveInt
    """Of each replica."""
    stride: PositiveInt
    """Steps of 4 fs from one to the next."""
    settling: NonNegativeInt
    """Steps before the first."""
    draw: NonNegativeInt

    def load(self, task: str) -> ForceField:
        """Positions, energies and forces of ``replicas`` x ``frames`` frames, a replica's in a row; made once, cached.

        Raises:
            BadInput: too few beads, or no replica is left to train.
        """
        if self.beads < SMALLEST_CHAIN:
            raise BadInput(f"dataset.beads={self.beads}: a chain that folds needs at least {SMALLEST_CHAIN}")
        if (kept := self.val_replicas + self.test_replicas) >= self.replicas:
            raise BadInput(f"dataset.replicas={self.replicas} must be above val_replicas + test_replicas = {kept}")
        made = self._made()
        place = np.arange(self.beads)
        bonds = np.stack([place[:-1], place[1:]], axis=1)
        angles = np.stack([place[:-2], place[1:-1], place[2:]], axis=1)
        repulsions = physics.repelling(self.beads).triu().nonzero().numpy()
        frames = np.arange(self.replicas * self.frames)
        ends = self.frames * np.array([self.replicas - kept, self.replicas - self.test_replicas])
        return force_field(
            name=f"synthetic chain of {self.beads} beads",
            arrays={
                **made,
                "types": place,  # contacts are between particular beads, so that each is of its own kind
                "masses": np.full(self.beads, physics.MASS),
                "bonds": bonds,
                "bond_lengths": np.full(len(bonds), physics.BOND_LENGTH),
                "bond_stiffness": np.full(len(bonds), physics.BOND_STIFFNESS),
                "angles": angles,
                "angle_values": np.full(len(angles), physics.ANGLE),
                "angle_stiffness": np.full(len(angles), physics.ANGLE_STIFFNESS),
                "repulsions": repulsions,
                "repulsion_ranges": np.full(len(repulsions), physics.REPULSION_RANGE),
            },
            beta=physics.BETA,
            splits=np.split(frames, ends),
        )

    def _made(self) -> Arrays:
        """Frames and contacts, from the cache where they were made before: seconds of motion."""
        code = (physics.BOND_STIFFNESS, physics.ANGLE_STIFFNESS, physics.CONTACT_ENERGY, physics.REPULSION_RANGE)
        content = np.array([self.beads, self.replicas, self.frames, self.stride, self.settling, self.draw, *code])
        file = cache_dir() / "made" / f"cg_chain-{fingerprint.of_arrays(content=content)}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            if file.is_file():
                try:
                    return read_npz(file)
                except CorruptData:
                    file.unlink()
            made = self._make()
            part = file.with_suffix(".part.npz")
            np.savez(part, **made)
            part.replace(file)
            return made

    def _make(self) -> Arrays:
        generator = torch.Generator().manual_seed(self.draw)
        target = physics.folded(self.beads, generator)
        pairs, lengths = physics.native_contacts(target)
        walk = physics.motion(
            physics.folding_chain(target),
            target.expand(self.replicas, -1, -1),
            self.settling + self.frames * self.stride,
            beta=physics.BETA,
            friction=1.0,
            generator=generator,
        )
        taken = [state for step, state in enumerate(walk, 1 - self.settling) if step > 0 and step % self.stride == 0]
        names = ("positions", "energies", "forces")
        parts = {
            name: torch.stack(part, dim=1).flatten(0, 1).float().numpy()
            for name, part in zip(names, zip(*taken, strict=True), strict=True)
        }
        return {**parts, "contacts": pairs.numpy(), "contact_lengths": lengths.float().numpy()}


def _array(name: str, sha256: str) -> sources.File:
    return sources.File(
        title="alanine dipeptide, 5 beads",
        name=f"ala2/{name}",
        sha256=sha256,
        mirror=sources.Mirror(path=f"md/{name}", sha256=sha256),
    )


_POSITIONS = _array("ala2_coordinates.npy", "00f1f6b70fbc9473157511d53a73b6f629d284d3e08e79155b9d2bf546d6dc81")
_FORCES = _array("ala2_forces.npy", "de1936e1a431b789cb3366b6d5c0208913d2b516d81d199f09f5c914bb536f56")
ALA2_MASSES = (12.0, 14.0, 12.0, 12.0, 14.0)
"""C, N, CA, C, N: told by the bonds' lengths, 1.33, 1.47, 1.54 and 1.34 A."""


@dataclass(kw_only=True)
class AlanineDipeptide(Dataset):
    """10,000 frames of the backbone's five heavy atoms, with forces that average over everything else.

    Their unit is kcal/mol/A: along the four bonds the slopes of the forces over the lengths (1018, 688, 680, 1011) are
    those of kT over the lengths' variances at 300 K (933, 663, 641, 944); in kJ they would be 4.2 times as large. The
    prior is that of the training frames by themselves: means and kT over variances of bonds and angles, and a Fourier
    series for -kT ln p of the dihedrals.
    """

    harmonics: PositiveInt
    """Of the dihedrals' series."""
    beta: PositiveFloat
    val_frames: PositiveInt
    test_frames: PositiveInt

    def files(self) -> list[sources.File]:
        """Positions and forces."""
        return [_POSITIONS, _FORCES]

    def load(self, task: str) -> ForceField:
        """Validation and test frames are the last ones; errors as in :func:`runner.datasets.sources.fetch`.

        Raises:
            BadInput: no frame is left to train.
        """
        positions, forces = (np.load(sources.fetch(file), allow_pickle=False) for file in self.files())
        kept = self.val_frames + self.test_frames
        if kept >= len(positions):
            raise BadInput(f"dataset.val_frames + test_frames = {kept} leaves none of {len(positions)} to train")
        frames = np.arange(len(positions))
        given = {"positions": positions, "forces": forces, "types": np.arange(5)}
        return force_field(
            name="alanine dipeptide, 5 beads",
            arrays={
                **given,
                "masses": np.array(ALA2_MASSES),
                **internal.fitted_prior(positions[:-kept], beta=self.beta, harmonics=self.harmonics),
            },
            beta=self.beta,
            splits=np.split(frames, [len(frames) - kept, len(frames) - self.test_frames]),
            content=tuple(given),
        )


def force_field(
    *, name: str, arrays: Arrays, beta: float, splits: list[NDArray[np.integer]], content: Sequence[str] = ()
) -> ForceField:
    """The task of these arrays; what isn't among them is empty.

    Args:
        name: the dataset's.
        arrays: fields of the task by name; floating-point ones of any width.
        beta: 1 / kT of the frames, mol/kcal.
        splits: train, val and test frames, sorted.
        content: the arrays that the fingerprint is of; the others follow from them and from options. Empty: all.
    """
    empty: dict[str, tuple[int, ...]] = {
        "energies": (0,),
        "dihedrals": (0, 4),
        "dihedral_sin": (0, 1),
        "dihedral_cos": (0, 1),
        "repulsions": (0, 2),
        "repulsion_ranges": (0,),
        "contacts": (0, 2),
        "contact_lengths": (0,),
    }
    indices = ("types", "bonds", "angles", "dihedrals", "repulsions", "contacts")
    whole = {
        key: value.astype(np.int64 if key in indices else np.float32)
        for key, value in ({key: np.zeros(shape) for key, shape in empty.items()} | arrays).items()
    }
    train, val, test = (torch.from_numpy(np.asarray(part, np.int64)) for part in splits)
    return ForceField(
        name=name,
        fingerprint=fingerprint.of_arrays(**{key: whole[key] for key in content or whole}),
        num_types=int(whole["types"].max()) + 1,
        beta=beta,
        train=train,
        val=val,
        test=test,
        **{key: torch.from_numpy(value) for key, value in whole.items()},
    )
