"""FlashSchNet's physics: priors, dynamics, force matching, and simulations that resume."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runner.contracts import ForceField
from runner.datasets.coarse_grained import Chain
from runner.methods.science.flashschnet.dynamics import ACCELERATION, Replicas
from runner.methods.science.flashschnet.engines import ENGINES, make
from runner.methods.science.flashschnet.observables import drift, mean_and_error, observables
from runner.methods.science.flashschnet.potential import SchNet
from runner.methods.science.flashschnet.prior import Prior, angle, bond, dihedral, repulsion
from runner.store.records import Record, Records
from runner.store.writer import artifact
from tests.conftest import Result

Cli = Callable[..., Result]
CPU = torch.device("cpu")
SIZES = {
    "beads": 12,
    "replicas": 5,
    "val_replicas": 1,
    "test_replicas": 1,
    "frames": 6,
    "stride": 5,
    "settling": 50,
    "draw": 0,
}
SMALL = ["dataset=cg_chain", *(f"dataset.{key}={value}" for key, value in SIZES.items())]
NARROW = ["method.hidden=8", "method.filters=8", "method.num_basis=8", "method.output_widths=[8]"]
TRAINED = " ".join(["method=force_matching", *SMALL, *NARROW, "method.epochs=2", "method.batch_size=8"])
SIMULATION = [
    "method=cg_dynamics",
    *SMALL,
    f"method.potential='{TRAINED}'",
    "method.engine=tiled_pairs",
    "method.replicas=4",
    "method.steps=60",
    "method.sample_every=2",
    "progress=false",
]
BETA, MASS = 1.67, 12.0
CUTOFF = 12.0


@pytest.fixture(scope="module")
def chain() -> ForceField:
    """The small chain in float64, with dihedrals, which its own physics has none of."""
    task = Chain(**SIZES).load("ForceField").to(CPU, torch.float64)
    place = torch.arange(9)
    draw = torch.Generator().manual_seed(0)
    series = torch.randn(2, 9, 3, generator=draw, dtype=torch.float64)
    four = torch.stack([place, place + 1, place + 2, place + 3], dim=1)
    return dataclasses.replace(task, dihedrals=four, dihedral_sin=series[0], dihedral_cos=series[1])


@pytest.fixture(scope="module")
def network() -> SchNet:
    torch.manual_seed(0)
    return SchNet(
        num_types=12, hidden=16, filters=16, num_basis=10, num_blocks=2, cutoff=CUTOFF, output_widths=[8]
    ).double()


def rotation(seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=draw, dtype=torch.float64))
    return q * torch.linalg.det(q)


# Priors


TERMS = [(bond, 2, 2), (repulsion, 2, 1), (angle, 3, 2), (dihedral, 4, 0)]


@pytest.mark.parametrize(("term", "beads", "parameters"), TERMS)
@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_a_terms_gradient_is_that_of_autograd(
    term: Callable[..., object], beads: int, parameters: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    x = [torch.randn(5, 2, 3, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(beads)]
    numbers = [torch.rand(5, 1, generator=draw, dtype=torch.float64) + 0.5 for _ in range(parameters)]
    if term is dihedral:
        numbers = [torch.randn(5, 1, 3, generator=draw, dtype=torch.float64) for _ in range(2)]
    energy, gradients = term(*x, *numbers)  # type: ignore[misc]
    for found, true in zip(gradients, torch.autograd.grad(energy.sum(), x), strict=True):
        torch.testing.assert_close(found, true, rtol=1e-9, atol=1e-9)


def test_dihedrals_are_0_for_cis_and_pi_for_trans_and_turn_the_iupac_way() -> None:
    def energy(last: list[float], sine: float, cosine: float) -> float:
        x = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], last], dtype=torch.float64).view(4, 1, 1, 3)
        series = [torch.tensor([[[value]]], dtype=torch.float64) for value in (sine, cosine)]
        return float(dihedral(*x, *series)[0])

    assert energy([1.0, 0, 1.0], 0, 1) == pytest.approx(1)
    assert energy([-1.0, 0, 1.0], 0, 1) == pytest.approx(-1)
    # seen along the middle bond, clockwise is positive: along +z that is from +x towards +y
    assert energy([0, 1.0, 1.0], 1, 0) == pytest.approx(1)
    assert energy([0, -1.0, 1.0], 1, 0) == pytest.approx(-1)


def test_straight_angles_and_planar_dihedrals_give_finite_forces(chain: ForceField) -> None:
    line = torch.zeros(1, 12, 3, dtype=torch.float64)
    line[0, :, 0] = 3.8 * torch.arange(12)
    energy, forces = Prior(chain)(line)
    assert energy.isfinite().all()
    assert forces.isfinite().all()


# compiled is naive's graph, slow to compile; both of these have tests of their own beside the engines
@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in ("compiled", "triton")])
def test_forces_are_minus_the_slope_of_the_energy_by_central_differences(
    engine: str, chain: ForceField, network: SchNet
) -> None:
    prior, learned = Prior(chain), make(engine, network, chain.types)
    x = chain.positions[3]
    distances = torch.cdist(x, x)
    assert ((distances > 0.5 * CUTOFF) & (distances < 0.95 * CUTOFF)).sum() > 20
    step = 1e-5
    shifts = step * torch.eye(36, dtype=torch.float64).view(36, 12, 3)
    both = torch.cat([x + shifts, x - shifts])
    energy = prior(both)[0] + learned(both)[0]
    slope = (energy[:36] - energy[36:]) / (2 * step)
    forces = prior(x.unsqueeze(0))[1] + learned(x.unsqueeze(0))[1]
    torch.testing.assert_close(forces.flatten(), -slope, rtol=1e-6, atol=1e-6)


def test_forces_without_the_cutoffs_slope_are_not(chain: ForceField, network: SchNet) -> None:
    x = chain.positions[3:4]
    whole = make("naive", network, chain.types)(x)[1]
    dropped = make("naive", network, chain.types, drop_cutoff_grad=True)(x)[1]
    assert (whole - dropped).square().mean().sqrt() > 1e-3 * whole.square().mean().sqrt()


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_nothing_pushes_or_turns_the_whole(seed: int, chain: ForceField, network: SchNet) -> None:
    x = chain.positions[seed % len(chain.positions)].unsqueeze(0)
    for forces in (Prior(chain)(x)[1], make("naive", network, chain.types)(x)[1]):
        assert forces.sum(1).abs().max() < 1e-9
        assert torch.linalg.cross(x, forces).sum(1).abs().max() < 1e-8


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_forces_turn_with_the_molecule(seed: int, chain: ForceField) -> None:
    x, turn = chain.positions[:2], rotation(seed)
    energy, forces = Prior(chain)(x)
    turned_energy, turned = Prior(chain)(x @ turn.T + 5.0)
    torch.testing.assert_close(turned_energy, energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(turned, forces @ turn.T, rtol=1e-8, atol=1e-8)


def test_replicas_are_evaluated_as_if_alone(chain: ForceField) -> None:
    energy, forces = Prior(chain)(chain.positions[:4])
    for one in range(4):
        alone = Prior(chain)(chain.positions[one : one + 1])
        torch.testing.assert_close((energy[one : one + 1], forces[one : one + 1]), alone, rtol=1e-12, atol=1e-12)


# Dynamics


def spring(stiffness: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda x: (0.5 * stiffness * x.square().sum((1, 2)), -stiffness * x)


def test_langevin_gives_a_spring_its_variance() -> None:
    """1 / (beta k), within 2 %: 30,000 coordinates, 20 times."""
    stiffness, draw = 40.0, torch.Generator().manual_seed(0)
    replicas = Replicas(torch.zeros(10_000, 1, 3, dtype=torch.float64), torch.tensor([MASS]).double(), [BETA])
    replicas.start(spring(stiffness), draw)
    variances = []
    for step in range(400):
        replicas.langevin(spring(stiffness), 0.01, 10.0, draw)
        if step >= 200 and step % 10 == 0:
            variances.append(replicas.positions.var())
    assert float(torch.stack(variances).mean()) == pytest.approx(1 / (BETA * stiffness), rel=0.02)


def test_initial_velocities_are_those_of_maxwell_and_boltzmann() -> None:
    masses = torch.tensor([1.0, 12.0, 40.0]).double()
    replicas = Replicas(torch.zeros(40_000, 3, 3, dtype=torch.float64), masses, [BETA, 0.5 * BETA])
    replicas.start(spring(1.0), torch.Generator().manual_seed(0))
    cold, hot = replicas.velocities.view(2, 20_000, 3, 3)
    expected = ACCELERATION / (BETA * masses)
    torch.testing.assert_close(cold.var((0, 2), correction=0), expected, rtol=0.02, atol=0)
    torch.testing.assert_close(hot.var((0, 2), correction=0), 2 * expected, rtol=0.02, atol=0)
    assert float(replicas.kinetic()[:20_000].mean()) == pytest.approx(4.5 / BETA, rel=0.02)


def moved(chain: ForceField, start: Tensor, step: Callable[..., None], steps: int) -> Replicas:
    """Replicas after some steps, all begun with the same velocities."""
    prior = Prior(chain)
    replicas = Replicas(start, chain.masses, [BETA])
    replicas.start(prior, torch.Generator().manual_seed(1))
    draw = torch.Generator().manual_seed(2)
    for _ in range(steps):
        step(replicas, prior, draw)
    return replicas


def test_langevin_without_friction_is_velocity_verlet(chain: ForceField) -> None:
    start = chain.positions[:3]
    langevin = moved(chain, start, lambda r, prior, draw: r.langevin(prior, 0.004, 0.0, draw), 50)
    verlet = moved(chain, start, lambda r, prior, draw: r.verlet(prior, 0.004), 50)
    assert (verlet.positions - start).abs().max() > 0.1
    torch.testing.assert_close(langevin.positions, verlet.positions, rtol=1e-12, atol=1e-12)


def test_verlet_keeps_the_energy_and_runs_backwards(chain: ForceField) -> None:
    prior = Prior(chain)
    replicas = Replicas(chain.positions[:2], chain.masses, [BETA])
    replicas.start(prior, torch.Generator().manual_seed(0))
    before = replicas.energy + replicas.kinetic()
    for _ in range(200):
        replicas.verlet(prior, 0.001)
    torch.testing.assert_close(replicas.energy + replicas.kinetic(), before, rtol=0, atol=0.02)
    replicas.velocities = -replicas.velocities
    for _ in range(200):
        replicas.verlet(prior, 0.001)
    torch.testing.assert_close(replicas.positions, chain.positions[:2], rtol=0, atol=1e-9)


def test_replicas_move_as_if_alone(chain: ForceField) -> None:
    prior, start = Prior(chain), chain.positions[:3]
    together = Replicas(start, chain.masses, [BETA])
    together.start(prior, torch.Generator().manual_seed(0))
    velocities = together.velocities.clone()
    for _ in range(20):
        together.verlet(prior, 0.004)
    for one in range(3):
        alone = Replicas(start[one : one + 1], chain.masses, [BETA])
        alone.start(prior, torch.Generator())
        alone.velocities = velocities[one : one + 1]
        for _ in range(20):
            alone.verlet(prior, 0.004)
        torch.testing.assert_close(alone.positions[0], together.positions[one], rtol=1e-12, atol=1e-12)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), rungs=st.integers(2, 4), odd=st.booleans())
def test_exchange_permutes_the_rungs_of_a_ladder(seed: int, rungs: int, odd: bool) -> None:
    draw = torch.Generator().manual_seed(seed)
    betas = [1.67 - 0.2 * rung for rung in range(rungs)]
    replicas = Replicas(torch.randn(3 * rungs, 2, 3, generator=draw), torch.ones(2), betas)
    replicas.start(spring(1.0), draw)
    shares = [replicas.exchange(torch.tensor(betas), odd, draw) for _ in range(5)]
    assert all(0 <= share <= 1 for share in shares)
    for ladder in replicas.rung.view(rungs, 3).T:
        assert sorted(ladder.tolist()) == list(range(rungs))
    torch.testing.assert_close(replicas.beta, torch.tensor(betas)[replicas.rung])


def test_exchange_always_takes_what_cools_the_cold_one_and_rescales_velocities() -> None:
    betas = torch.tensor([2.0, 1.0])
    replicas = Replicas(torch.zeros(2, 1, 3), torch.ones(1), betas.tolist())
    replicas.energy = torch.tensor([5.0, -5.0])
    replicas.velocities = torch.ones(2, 1, 3)
    assert replicas.exchange(betas, False, torch.Generator().manual_seed(0)) == 1.0
    assert replicas.rung.tolist() == [1, 0]
    torch.testing.assert_close(replicas.velocities[:, 0, 0], torch.tensor([2.0, 0.5]).sqrt())


def test_exchange_keeps_each_temperatures_distribution() -> None:
    draw, stiffness = torch.Generator().manual_seed(0), 5.0
    betas = torch.tensor([1.67, 1.0], dtype=torch.float64)
    replicas = Replicas(torch.zeros(20_000, 1, 3, dtype=torch.float64), torch.tensor([MASS]).double(), betas.tolist())
    replicas.start(spring(stiffness), draw)
    for step in range(300):
        replicas.langevin(spring(stiffness), 0.01, 10.0, draw)
        if step % 10 == 0:
            replicas.exchange(betas, False, draw)
    for rung, beta in enumerate(betas):
        found = replicas.positions[replicas.rung == rung].var()
        assert float(found) == pytest.approx(float(1 / (beta * stiffness)), rel=0.03)


# Observables


def test_observables_of_a_known_shape(chain: ForceField) -> None:
    line = torch.zeros(1, 12, 3, dtype=torch.float64)
    line[0, :, 0] = torch.arange(12)
    found = observables(line, chain)
    assert float(found["end_to_end"]) == 11
    assert float(found["radius_of_gyration"]) == pytest.approx((143 / 12) ** 0.5)
    i, j = chain.contacts.T
    assert float(found["native_contacts"]) == float(((j - i) < 1.2 * chain.contact_lengths).double().mean())


@given(slope=st.floats(-1, 1), samples=st.integers(2, 50))
def test_drift_is_a_lines_rise(slope: float, samples: int) -> None:
    line = torch.linspace(3.0, 3.0 + slope, samples, dtype=torch.float64).unsqueeze(1)
    assert float(drift(line)) == pytest.approx(slope, abs=1e-9)


def test_errors_are_those_of_independent_columns() -> None:
    samples = torch.tensor([[1.0, 3.0], [1.0, 3.0]])
    assert mean_and_error(samples) == (2.0, pytest.approx(1.0))
    assert mean_and_error(samples[:, :1]) == (1.0, 0.0)


# Runs


def records(home: Path) -> dict[str, Record]:
    """The store's finished runs by method."""
    found = Records(f"sqlite:///{home}/mlflow.db", "runner").all()
    return {record.tags["runner.method"]: record for record in found if record.status == "FINISHED"}


def trajectory(home: Path, folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir()
    run_id = records(home)["cg_dynamics"].run_id
    with np.load(artifact(f"sqlite:///{home}/mlflow.db", run_id, "trajectory.npz", folder)) as stored:
        return dict(stored)


def physics(record: Record) -> dict[str, float]:
    """All but costs."""
    costs = ("saved_", "fit_", "inference_", "upload_", "peak_", "speed/")
    return {name: value for name, value in record.metrics.items() if not name.startswith(costs)}


def test_a_killed_simulation_ends_with_the_same_trajectory(child: Callable[..., object], tmp_path: Path) -> None:
    command = [*SIMULATION, "checkpoint.every=0"]
    assert child(*command, RUNNER_HOME=str(tmp_path / "undisturbed")) == 0
    assert child(*TRAINED.split(), "progress=false") == 0
    process = child(*command, wait=False)
    deadline = time.monotonic() + 120
    while not list((Path(os.environ["RUNNER_HOME"]) / "attempts").glob("*/snapshots/simulation.pt")):
        assert process.is_alive(), "it ended before it could be killed"  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()  # type: ignore[attr-defined]
    process.join()  # type: ignore[attr-defined]
    assert child(*command) == 0
    undisturbed, resumed = tmp_path / "undisturbed", tmp_path / "runs"
    one, other = trajectory(undisturbed, tmp_path / "a"), trajectory(resumed, tmp_path / "b")
    assert one["positions"].shape == (30, 4, 12, 3)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert physics(records(undisturbed)["cg_dynamics"]) == physics(records(resumed)["cg_dynamics"])


def test_a_trained_potential_is_simulated_alike_by_all_engines(cli: Cli, tmp_path: Path) -> None:
    for change in ("method.engine=naive", "method.engine=tiled_pairs", "method.integrator=verlet"):
        result = cli(*SIMULATION, change)
        assert result.status == 0, result.err
    found = Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").all()
    trained = next(record for record in found if record.tags["runner.method"] == "force_matching")
    assert trained.metrics["force_rmse"] < 3
    naive, fused, verlet = sorted(
        (record for record in found if record.tags["runner.method"] == "cg_dynamics"), key=lambda run: run.start_ms
    )
    for name in ("potential_energy", "end_to_end", "native_contacts", "temperature"):
        assert naive.metrics[name] == pytest.approx(fused.metrics[name], rel=1e-3)
        assert f"{name}_error" in fused.metrics or name == "temperature"
    assert 0.5 < fused.metrics["temperature"] < 1.5
    assert abs(verlet.metrics["energy_drift"]) < 0.05
    assert fused.metrics["speed/ns_per_day"] == pytest.approx(fused.metrics["speed/steps_mol_per_s"] * 0.004 * 86.4)


def test_tempering_counts_samples_at_the_asked_temperature(cli: Cli, tmp_path: Path) -> None:
    line = ["method.tempering=[1.42]", "method.exchange_every=4", "method.engine=naive"]
    result = cli(*SIMULATION, *line)
    assert result.status == 0, result.err
    record = records(tmp_path / "runs")["cg_dynamics"]
    assert 0 < record.metrics["exchange_rate"] <= 1
    assert record.metrics["potential_energy_error"] > 0
    again = cli("mode=evaluate", f"run={record.run_id}", "progress=false")
    assert again.status == 0, again.err
    evaluated = Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").all()
    (own,) = [run for run in evaluated if run.tags["runner.kind"] == "evaluate"]
    trained = ("parameters", "epochs")
    shared = set(physics(own)) & set(physics(record)) - set(trained)
    assert {name: own.metrics[name] for name in shared} == {name: record.metrics[name] for name in shared}
    assert "potential_energy" in shared


OTHER = " ".join(["method=force_matching", "method.epochs=1", *SMALL, "dataset.beads=10", *NARROW])
WRONG = {
    "method.replicas=5 method.tempering=[1.42]": "a multiple of the 2 temperatures",
    "method.tempering=[1.42] method.integrator=verlet": "needs integrator=langevin",
    "method.steps=61": "must be a multiple",
    "method.engine=fast": "engine",
}


@pytest.mark.parametrize("change", WRONG)
def test_wrong_settings_are_told_in_a_line(change: str, cli: Cli) -> None:
    result = cli(*SIMULATION, *change.split())
    assert result.status == 2
    assert WRONG[change] in result.err


def test_a_potential_of_another_molecule_is_refused(cli: Cli) -> None:
    result = cli(*SIMULATION, f"method.potential='{OTHER}'")
    assert result.status == 2
    assert "on the same dataset" in result.err


FULL = ["dataset.beads=30", "dataset.replicas=3", "dataset.val_replicas=1", "dataset.test_replicas=1"]
FULL += ["dataset.frames=2", "dataset.stride=2", "dataset.settling=5"]


def test_the_full_configs_start(cli: Cli) -> None:
    trained = " ".join(["+experiment=flashschnet_full", *FULL, "limit=1"])
    result = cli(
        "+experiment=flashschnet_full_dynamics",
        *FULL,
        f"method.potential='{trained}'",
        "method.replicas=2",
        "method.steps=4",
        "method.sample_every=2",
        "limit=1",
        "progress=false",
    )
    assert result.status == 0, result.err
    assert "potential_energy" in result.out
