"""Coarse-grained molecules: the synthetic chain's physics, and alanine dipeptide as it came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import registry
from runner.compose import compose
from runner.contracts import ForceField
from runner.datasets import chain_physics as physics
from runner.datasets import internal_coordinates as internal
from runner.datasets import sources
from runner.datasets.coarse_grained import Chain
from runner.errors import BadInput

SIZES = {
    "beads": 64,
    "replicas": 4,
    "val_replicas": 1,
    "test_replicas": 1,
    "frames": 5,
    "stride": 10,
    "settling": 250,
    "draw": 0,
}


@pytest.fixture(scope="module")
def chain() -> ForceField:
    return Chain(**SIZES).load("ForceField")


def small(**changes: int) -> Chain:
    few = {"beads": 10, "replicas": 3, "frames": 2, "stride": 2, "settling": 5}
    return Chain(**(SIZES | few | changes))


@pytest.fixture(scope="module")
def target() -> torch.Tensor:
    return physics.folded(12, torch.Generator().manual_seed(0))


def test_the_chain_is_the_compact_coil_that_was_asked_for(chain: ForceField) -> None:
    x = chain.positions
    assert x.shape == (20, 64, 3)
    distances = torch.cdist(x, x)
    apart = distances + 99 * torch.eye(64)
    assert float(apart.min()) > 3.0
    assert 35 < float((distances < 12).float().sum(2).mean()) - 1 < 43
    assert float((x[:, 1:] - x[:, :-1]).norm(dim=-1).mean()) == pytest.approx(3.85, abs=0.1)


def test_splits_keep_replicas_apart(chain: ForceField) -> None:
    assert (len(chain.train), len(chain.val), len(chain.test)) == (10, 5, 5)
    whole = torch.cat([chain.train, chain.val, chain.test])
    assert torch.equal(whole, torch.arange(20))


def test_forces_are_minus_the_slope_of_the_energy(target: torch.Tensor) -> None:
    """Of the chain's whole potential, by central differences in float64."""
    folding = physics.folding_chain(target)
    x = target + 0.1
    shifts = 1e-5 * torch.eye(36, dtype=torch.float64).view(36, 12, 3)
    energy = folding(torch.cat([x + shifts, x - shifts]))[0]
    slope = (energy[:36] - energy[36:]) / 2e-5
    torch.testing.assert_close(folding(x.unsqueeze(0))[1].flatten(), -slope, rtol=1e-6, atol=1e-6)


def test_the_stored_energies_and_forces_are_those_of_the_stated_potential(chain: ForceField) -> None:
    """Term by term from the task alone, with autograd for the forces."""
    task = chain.to(torch.device("cpu"), torch.float64)
    x = task.positions[:3].requires_grad_()

    def apart(pairs: torch.Tensor) -> torch.Tensor:
        return (x[:, pairs[:, 0]] - x[:, pairs[:, 1]]).norm(dim=-1)

    u, v = (x[:, task.angles[:, end]] - x[:, task.angles[:, 1]] for end in (0, 2))
    theta = torch.acos((u * v).sum(-1) / (u.norm(dim=-1) * v.norm(dim=-1)))
    ratio = task.contact_lengths / apart(task.contacts)
    energy = (
        (0.5 * task.bond_stiffness * (apart(task.bonds) - task.bond_lengths) ** 2).sum(1)
        + (0.5 * task.angle_stiffness * (theta - task.angle_values) ** 2).sum(1)
        + ((task.repulsion_ranges / apart(task.repulsions)) ** 6).sum(1)
        + physics.CONTACT_ENERGY * (ratio**12 - 2 * ratio**6).sum(1)
    )
    (slope,) = torch.autograd.grad(energy.sum(), x)
    torch.testing.assert_close(energy.detach(), task.energies[:3], rtol=0, atol=1e-3)
    torch.testing.assert_close(-slope, task.forces[:3], rtol=0, atol=1e-3)


def test_native_contacts_are_near_in_space_and_far_along_the_chain(target: torch.Tensor) -> None:
    pairs, lengths = physics.native_contacts(target)
    assert len(pairs) > 0
    assert bool((pairs[:, 1] - pairs[:, 0] >= 4).all())
    assert float(lengths.max()) < physics.CONTACT_CUTOFF


def test_motion_keeps_the_temperature_of_the_bonds() -> None:
    """k <(r - r_0)^2> = kT for a chain of free bonds (its three dimensions add 2 kT / (k r_0^2), 1.6 %)."""
    free = physics.Chain(torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64))
    x = torch.zeros(4000, 2, 3, dtype=torch.float64)
    x[:, 1, 0] = physics.BOND_LENGTH
    draw = torch.Generator().manual_seed(0)
    squares = [
        float(((x[:, 1] - x[:, 0]).norm(dim=-1) - physics.BOND_LENGTH).square().mean())
        for x, _, _ in physics.motion(free, x, 300, beta=physics.BETA, friction=10.0, generator=draw)
    ]
    assert np.mean(squares[150:]) * physics.BOND_STIFFNESS * physics.BETA == pytest.approx(1.0, rel=0.05)


def test_it_is_made_once_and_anew_for_another_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_DATA", str(tmp_path))
    first = small().load("ForceField")
    (file,) = (tmp_path / "made").glob("*.npz")
    written = file.stat().st_mtime_ns
    assert small().load("ForceField").fingerprint == first.fingerprint
    assert file.stat().st_mtime_ns == written
    file.write_bytes(b"damaged")
    assert small().load("ForceField").fingerprint == first.fingerprint, "made again, to the bit"
    assert small(draw=1).load("ForceField").fingerprint != first.fingerprint
    assert len(list((tmp_path / "made").glob("*.npz"))) == 2


@pytest.mark.parametrize(("changes", "told"), [({"beads": 7}, "at least 8"), ({"val_replicas": 2}, "must be above")])
def test_impossible_sizes_are_refused(changes: dict[str, int], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        small(**changes).load("ForceField")


# Fitted priors


@settings(max_examples=10)
@given(seed=st.integers(0, 100))
def test_inversion_finds_the_harmonic_potential_that_made_the_frames(seed: int) -> None:
    draw = np.random.default_rng(seed)
    length = draw.normal(1.5, 0.05, 20_000)
    frames = np.zeros((20_000, 5, 3))
    frames[:, 1:, 0] = np.array([1.0, 2.0, 3.0, 4.0])
    frames[:, 1:, 1] = np.array([1.0, 0.0, 1.0, 0.0])
    frames[:, :2] = 0
    frames[:, 1, 1] = length
    found = internal.fitted_prior(frames, beta=2.0, harmonics=1)
    assert found["bond_lengths"][0] == pytest.approx(1.5, rel=0.01)
    assert found["bond_stiffness"][0] == pytest.approx(1 / (2.0 * 0.05**2), rel=0.05)


def test_inversion_finds_the_series_that_made_the_dihedrals() -> None:
    """p(phi) proportional to exp(-beta (0.3 sin phi - 0.4 cos 2 phi)), drawn by rejection."""
    draw = np.random.default_rng(0)
    phi = draw.uniform(-np.pi, np.pi, 400_000)
    potential = 0.3 * np.sin(phi) - 0.4 * np.cos(2 * phi)
    phi = phi[draw.uniform(size=phi.size) < np.exp(-1.67 * (potential + 0.7))]
    frames = np.zeros((len(phi), 4, 3))
    frames[:, 0] = [1, 0, 0]
    frames[:, 2] = [0, 0, 1]
    frames[:, 3] = np.stack([np.cos(phi), np.sin(phi), np.ones_like(phi)], axis=1)
    frames += draw.normal(0, 1e-6, frames.shape)  # bonds and angles of some variance
    np.testing.assert_allclose(internal.dihedrals(frames)[:, 0], phi, atol=1e-4)
    found = internal.fitted_prior(frames, beta=1.67, harmonics=2)
    np.testing.assert_allclose(found["dihedral_sin"], [[0.3, 0.0]], atol=0.02)
    np.testing.assert_allclose(found["dihedral_cos"], [[0.0, -0.4]], atol=0.02)


@pytest.fixture(scope="module")
def ala2() -> ForceField:
    dataset = registry.build(compose(["method=force_matching", "dataset=cg_ala2"]).config["dataset"])
    if any(sources.status(file) is sources.Status.MISSING for file in dataset.files()):
        pytest.skip("not in the cache, and RUNNER_DATA_MIRROR does not have it")
    task: ForceField = dataset.load("ForceField")
    return task


def test_alanine_dipeptides_forces_are_in_kcal_per_mol_and_angstrom(ala2: ForceField) -> None:
    """Along a bond their slope is that of the length's own distribution at 300 K, within a fifth."""
    assert ala2.counts() == {"frames": 10_000, "beads": 5}
    assert len(ala2.energies) == 0
    bond = ala2.positions[:, 1:] - ala2.positions[:, :-1]
    length = bond.norm(dim=-1)
    along = (ala2.forces[:, 1:] * bond / length.unsqueeze(-1)).sum(-1)
    away = length - length.mean(0)
    slope = -(along * away).sum(0) / away.square().sum(0)
    torch.testing.assert_close(slope, ala2.bond_stiffness, rtol=0.2, atol=0)


def test_alanine_dipeptides_splits_are_in_order(ala2: ForceField) -> None:
    assert torch.equal(torch.cat([ala2.train, ala2.val, ala2.test]), torch.arange(10_000))
    assert (len(ala2.val), len(ala2.test)) == (1000, 2000)
