"""FlashSchNet's engines: potential, neighbour lists, and that every engine gives the same energies and forces."""

from __future__ import annotations

import copy
import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runner.errors import BadInput, Diverged
from runner.methods.science.flashschnet import engines, neighbours, sixteen_bit
from runner.methods.science.flashschnet.autograd_engines import SegmentMessages, segment_sum
from runner.methods.science.flashschnet.cost import kept_bytes
from runner.methods.science.flashschnet.engine import Engine
from runner.methods.science.flashschnet.neighbours import Neighbours
from runner.methods.science.flashschnet.potential import (
    RadialBasis,
    SchNet,
    envelope,
    envelope_slope,
    gathered_and_added,
)
from runner.store.records import Records
from tests.conftest import Result

CUTOFF = 12.0
TYPES = 4
FUSED = ["tiled", "tiled_pairs", "ext", "ext_pairs"]
ALL = ["naive", "csr", *FUSED]
"""``compiled`` takes half a minute to compile: its test is a slow one."""


def potential(dtype: torch.dtype = torch.float64, seed: int = 0, width: int = 16, **changed: int) -> SchNet:
    """Random weights, and random biases, which would be zero."""
    sizes = {"hidden": width + 4, "filters": width, "num_basis": 20, "num_blocks": 2} | changed
    torch.manual_seed(seed)
    model = SchNet(num_types=TYPES, cutoff=CUTOFF, output_widths=(12, 8), **sizes)
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(value, std=0.3)
    return model.to(dtype)


def molecule(replicas: int = 2, beads: int = 14, seed: int = 0, size: float = 13.0) -> tuple[Tensor, Tensor]:
    """Positions in a box about as large as the cutoff, so that many pairs are just inside it; types."""
    draw = torch.Generator().manual_seed(seed)
    positions = torch.rand(replicas, beads, 3, generator=draw, dtype=torch.float64) * size
    return positions, torch.randint(TYPES, (beads,), generator=draw)


def coil(replicas: int, beads: int) -> Tensor:
    """Compact self-avoiding chains: bonds of 3.8, no pair under 3.0; of 30 places, the one nearest the centre."""
    draw = torch.Generator().manual_seed(0)
    chains = []
    for _ in range(replicas):
        chain = torch.zeros(1, 3, dtype=torch.float64)
        while len(chain) < beads:
            steps = torch.nn.functional.normalize(torch.randn(30, 3, generator=draw, dtype=torch.float64), dim=1)
            ahead = chain[-1] + 3.8 * steps
            free = ahead[(torch.cdist(ahead, chain) > 3.0).all(1)]
            if len(free):
                chain = torch.cat([chain, free[(free - chain.mean(0)).norm(dim=1).argmin()].unsqueeze(0)])
            else:
                chain = chain[: len(chain) // 2 + 1]
        chains.append(chain)
    return torch.stack(chains)


def run(name: str, model: SchNet, positions: Tensor, types: Tensor, **options: object) -> tuple[Tensor, Tensor]:
    return engines.make(name, model, types, tile=40, **options)(positions)  # type: ignore[arg-type]


# --- the basis and its cutoff


def test_the_basis_is_the_formula() -> None:
    basis, d = RadialBasis(50, CUTOFF), torch.linspace(0.1, 13, 40, dtype=torch.float64)
    for n, found in enumerate(basis(d).T):
        mu = n * CUTOFF / 49
        gamma = -0.5 / (CUTOFF / 49) ** 2
        fc = torch.where(d < CUTOFF, 0.5 * (torch.cos(math.pi * d / CUTOFF) + 1), 0)
        torch.testing.assert_close(found, torch.exp(gamma * (d - mu) ** 2) * fc, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("function", [lambda d: RadialBasis(20, CUTOFF)(d).sum(1), lambda d: envelope(d, CUTOFF)])
def test_derivatives_by_autograd_are_central_differences(function: Callable[[Tensor], Tensor]) -> None:
    d = torch.linspace(0.5, 11.9, 30, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(function(d).sum(), d)
    with torch.no_grad():
        step = 1e-5
        torch.testing.assert_close(found, (function(d + step) - function(d - step)) / (2 * step), rtol=1e-8, atol=1e-8)


def test_the_written_slope_of_the_cutoff_is_autograds() -> None:
    d = torch.linspace(0.1, 13, 50, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(envelope(d, CUTOFF).sum(), d)
    torch.testing.assert_close(envelope_slope(d.detach(), CUTOFF), found, rtol=1e-12, atol=1e-14)


def test_basis_and_slope_are_zero_at_the_cutoff() -> None:
    d = torch.tensor([CUTOFF - 1e-7, CUTOFF, CUTOFF + 1], dtype=torch.float64, requires_grad=True)
    basis = RadialBasis(20, CUTOFF)(d)
    (slope,) = torch.autograd.grad(basis.sum(), d)
    assert basis.abs().max() < 1e-13
    assert slope.abs().max() < 1e-7
    assert basis[1:].abs().max() == slope[1:].abs().max() == 0


def test_weights_are_xavier_and_biases_as_published() -> None:
    model = SchNet(num_types=3, hidden=64, filters=32, num_basis=10, num_blocks=2, cutoff=CUTOFF, output_widths=(16, 8))
    named = dict(model.named_parameters())
    biases = sorted(name for name in named if name.endswith("bias"))
    per_block = ("filter.0.bias", "gather.bias", "update.bias")
    assert biases == sorted(
        [f"blocks.{n}.{name}" for n in range(2) for name in per_block] + ["output.0.bias", "output.2.bias"]
    )
    assert all(named[name].abs().max() == 0 for name in biases)
    for name, value in named.items():
        if value.ndim == 2 and not name.startswith("embedding"):
            bound = math.sqrt(6 / sum(value.shape))
            assert 0.7 * bound < value.abs().max() <= bound


# --- neighbours


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 12), st.sampled_from([0, 256]))
def test_neighbours_are_those_of_brute_force(seed: int, replicas: int, beads: int, brute_force_up_to: int) -> None:
    positions, _ = molecule(replicas, beads, seed, size=25)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "BRUTE_FORCE_UP_TO", brute_force_up_to)
        found = neighbours.find(positions, CUTOFF)
    expected = [
        (r * beads + j, r * beads + i)
        for r in range(replicas)
        for i in range(beads)
        for j in range(beads)
        if i != j and float((positions[r, i] - positions[r, j]).norm()) < CUTOFF
    ]
    assert found.edge_index.T.tolist() == [list(edge) for edge in expected]
    assert found.pairs.T.tolist() == sorted([i, j] for i, j in expected if i < j)


def test_a_position_that_is_no_number_is_told() -> None:
    with pytest.raises(Diverged, match="a bead's position is no number"):
        neighbours.find(torch.tensor([[[0.0, 0, 0], [math.nan, 0, 0]]]), CUTOFF)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([13.0, 60.0]))
def test_pointers_and_permutation(seed: int, beads: int, size: float) -> None:
    found = neighbours.find(molecule(2, beads, seed, size)[0], CUTOFF)
    edges = found.edge_index.shape[1]
    assert (found.pointers[0], found.pointers[-1], len(found.pointers)) == (0, edges, 2 * beads + 1)
    for bead in range(2 * beads):
        assert (found.edge_index[1, found.pointers[bead] : found.pointers[bead + 1]] == bead).all()
    assert found.reverse.sort().values.tolist() == list(range(edges))
    assert torch.equal(found.edge_index[:, found.reverse], found.edge_index.flip(0))


# --- sums over sorted edges


def one_list(seed: int = 0) -> Neighbours:
    return neighbours.find(molecule(2, 9, seed, size=30)[0], CUTOFF)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_segment_sum_is_index_add(seed: int) -> None:
    found = one_list(seed)
    rows = torch.randn(found.edge_index.shape[1], 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = torch.zeros(18, 5, dtype=torch.float64).index_add(0, found.edge_index[1], rows)
    torch.testing.assert_close(segment_sum(rows, found.pointers), expected, rtol=1e-12, atol=1e-12)


def test_isolated_beads_get_nothing() -> None:
    positions = torch.tensor([[[0.0, 0, 0], [5, 0, 0], [100, 0, 0]]], dtype=torch.float64)
    found = neighbours.find(positions, CUTOFF)
    assert segment_sum(torch.ones(2, 1, dtype=torch.float64), found.pointers).flatten().tolist() == [1, 1, 0]


def test_the_gradient_by_source_is_autograds() -> None:
    found = one_list()
    y = torch.randn(18, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(found.edge_index.shape[1], 5, dtype=torch.float64, requires_grad=True)
    g = torch.randn(18, 5, dtype=torch.float64)
    expected = torch.autograd.grad((gathered_and_added(y, weights, found.edge_index) * g).sum(), (y, weights))
    ours = torch.autograd.grad((SegmentMessages.apply(y, weights, found) * g).sum(), (y, weights))
    for gradient, its in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, its, rtol=1e-12, atol=1e-12)


def test_fused_message_passing_passes_gradcheck() -> None:
    """By y, by the filter, by positions; and twice by the naive path, on which force matching trains."""
    positions, types = molecule(1, 5)
    found, model = neighbours.find(positions, CUTOFF), potential()
    source, destination = found.edge_index
    y = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(len(source), 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y, w: SegmentMessages.apply(y, w, found), (y, w))

    def energy(x: Tensor) -> Tensor:
        return model((x[destination] - x[source]).norm(dim=1), found.edge_index, types)

    x = positions[0].requires_grad_()
    assert torch.autograd.gradcheck(energy, x)
    assert torch.autograd.gradgradcheck(energy, x, atol=1e-4)


# --- engines


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("name", ALL[1:])
def test_engines_agree_with_the_naive_one_in_float64(name: str, drop: bool) -> None:
    model, (positions, types) = potential(), molecule(3, 14)
    energy, forces = run("naive", model, positions, types, drop_cutoff_grad=drop)
    ours, our_forces = run(name, model, positions, types, drop_cutoff_grad=drop)
    assert ((ours - energy).abs() / energy.abs()).max() < 1e-10
    assert (our_forces - forces).abs().max() < 1e-10 * forces.abs().max()


@pytest.mark.parametrize("name", ALL)
def test_engines_agree_with_the_naive_one_in_float32(name: str) -> None:
    model, (positions, types) = potential(width=64, num_basis=50, num_blocks=3), molecule(2, 40)
    energy, forces = run("naive", model, positions, types)
    ours, our_forces = run(name, copy.deepcopy(model).float(), positions, types)
    assert ours.dtype == our_forces.dtype == torch.float32
    assert (ours - energy).abs().max() < 1e-6 * 40
    assert (our_forces - forces).abs().max() < 1e-5 * forces.abs().max()


@pytest.mark.slow
def test_the_compiled_engine_agrees_with_the_naive_one() -> None:
    if engines.missing("compiled"):
        pytest.skip(engines.missing("compiled"))
    model, (positions, types) = potential(), molecule(2, 14)
    energy, forces = run("naive", model, positions, types)
    ours, our_forces = run("compiled", model, positions, types)
    torch.testing.assert_close(ours, energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(our_forces, forces, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_forces_are_central_differences_of_the_energy(name: str) -> None:
    """Of pairs at half to nearly all of the cutoff, where the filter's own cutoff has a slope that counts."""
    draw = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(8, 3, generator=draw, dtype=torch.float64), dim=1)
    lengths = torch.linspace(0.25, 0.475, 8, dtype=torch.float64).unsqueeze(1) * CUTOFF
    positions, types = (directions * lengths).unsqueeze(0), torch.arange(8) % TYPES
    model = potential()
    _, forces = run(name, model, positions, types)
    _, dropped = run(name, model, positions, types, drop_cutoff_grad=True)
    step, numerical = 1e-4, torch.zeros_like(forces)
    for bead in range(8):
        for axis in range(3):
            shift = torch.zeros_like(positions)
            shift[0, bead, axis] = step
            higher, lower = (run(name, model, positions + by, types)[0] for by in (shift, -shift))
            numerical[0, bead, axis] = -(higher - lower) / (2 * step)
    torch.testing.assert_close(forces, numerical, rtol=1e-6, atol=1e-6)
    assert (dropped - numerical).abs().max() > 1e-3


@pytest.mark.parametrize("name", ALL)
def test_symmetries(name: str) -> None:
    model, (positions, types) = potential(), molecule(2, 14)
    energy, forces = run(name, model, positions, types)
    assert forces.sum(1).abs().max() < 1e-10
    assert torch.linalg.cross(positions, forces, dim=2).sum(1).abs().max() < 1e-9
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).Q
    rotation = rotation * rotation.det()
    turned, turned_forces = run(name, model, positions @ rotation.T + 3, types)
    torch.testing.assert_close(turned, energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(turned_forces, forces @ rotation.T, rtol=1e-9, atol=1e-10)
    order = torch.randperm(14, generator=torch.Generator().manual_seed(3))
    permuted, permuted_forces = run(name, model, positions[:, order], types[order])
    torch.testing.assert_close(permuted, energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(permuted_forces, forces[:, order], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_replicas_are_evaluated_as_if_alone(name: str) -> None:
    model, (positions, types) = potential(), molecule(3, 10)
    energy, forces = run(name, model, positions, types)
    for r in range(3):
        alone, alone_forces = run(name, model, positions[r : r + 1], types)
        torch.testing.assert_close(alone, energy[r : r + 1], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone_forces, forces[r : r + 1], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_beads_without_neighbours(name: str) -> None:
    """They have the energy of their type, and no force."""
    positions = torch.arange(3, dtype=torch.float64).view(1, 3, 1) * torch.full((3,), 50.0)
    energy, forces = run(name, potential(), positions, torch.arange(3))
    alone = [float(run(name, potential(), torch.zeros(1, 1, 3), torch.tensor([kind]))[0]) for kind in range(3)]
    assert float(energy) == pytest.approx(sum(alone), rel=1e-12)
    assert forces.abs().max() == 0


@pytest.mark.parametrize("name", ["csr", *FUSED])
def test_repeats_are_the_same_to_the_bit(name: str) -> None:
    model, (positions, types) = potential(torch.float32), molecule(2, 20)
    energy, forces = run(name, model, positions, types)
    again, forces_again = run(name, model, positions, types)
    assert torch.equal(energy, again)
    assert torch.equal(forces, forces_again)


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("tile", [1, 7, 10**6])
def test_the_size_of_a_tile_is_a_matter_of_rounding(name: str, tile: int) -> None:
    model, (positions, types) = potential(), molecule(1, 9)
    energy, forces = run("naive", model, positions, types)
    ours, our_forces = engines.make(name, model, types, tile=tile)(positions)
    torch.testing.assert_close(ours, energy, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(our_forces, forces, rtol=1e-10, atol=1e-11)


def test_an_engine_sees_a_step_of_training() -> None:
    model, (positions, types) = potential(), molecule(1, 6)
    engine = engines.make("tiled", model, types)
    before = engine(positions)[0]
    with torch.no_grad():
        for value in model.parameters():
            value += 0.1
    assert not torch.allclose(engine(positions)[0], before)
    torch.testing.assert_close(engine(positions)[0], run("naive", model, positions, types)[0])


def test_without_numba_the_torch_tiles_stand_in(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    model, (positions, types) = potential(), molecule(1, 6)
    with caplog.at_level(logging.WARNING):
        ours, _ = run("ext_pairs", model, positions, types)
    assert "numba is not installed: ext_pairs runs in plain torch" in caplog.text
    assert torch.equal(ours, run("tiled_pairs", model, positions, types)[0])


def test_the_quotient_of_polynomials_is_tanh() -> None:
    """At d = 0, where the cutoff is 1, and without weights, h is tanh of the bias."""
    pytest.importorskip("numba", reason="the compiled passes need the extra 'packed'")
    from runner.methods.science.flashschnet import kernels

    bias = torch.linspace(-12, 12, 4001)
    rows = torch.zeros(2 + 2 * kernels.REACH[torch.float32] - 1, len(bias))
    h = torch.empty(1, len(bias))
    hidden = kernels.kernels(torch.float32).hidden
    hidden(torch.zeros(1).numpy(), rows.numpy(), bias.numpy(), 1.0, 1.0, 1.0, h.numpy(), h.numpy())
    torch.testing.assert_close(h[0].double(), bias.double().tanh(), rtol=1e-6, atol=4e-7)


def test_an_unknown_engine_is_told() -> None:
    with pytest.raises(BadInput, match="no engine 'fast'; choose one of naive, csr"):
        engines.make("fast", potential(), torch.zeros(1, dtype=torch.int64))


# --- Triton


@pytest.mark.skipif(bool(engines.missing("triton")), reason=f"triton: {engines.missing('triton')}")
@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_triton_kernels_agree_with_the_naive_engine(dtype: torch.dtype, limit: float, drop: bool) -> None:
    """Sizes are no powers of two, and one bead is alone."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, (positions, types) = potential(width=20), molecule(1, 7)
    positions[0, 6] += 100
    positions = torch.cat([positions, 0.9 * positions])
    energy, forces = run("naive", model, positions, types, drop_cutoff_grad=drop)
    ours, our_forces = run(
        "triton", model.to(device, dtype), positions.to(device), types.to(device), drop_cutoff_grad=drop
    )
    assert (ours.cpu() - energy).abs().max() < limit * energy.abs().max()
    assert (our_forces.cpu() - forces).abs().max() < limit * forces.abs().max()


def test_the_triton_kernels_in_tritons_interpreter() -> None:
    """The test above in a process of its own: the interpreter has to be chosen before triton is imported."""
    pytest.importorskip("triton", reason="triton comes with PyTorch for CUDA")
    name = test_the_triton_kernels_agree_with_the_naive_engine.__name__
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", f"{__file__}::{name}"]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout
    assert "...." in done.stdout, "it skips none"


def test_triton_without_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match=r"engine 'triton': (it needs a CUDA GPU|triton is not installed)"):
        run("triton", potential(), *molecule())


# --- 16 bits


@pytest.mark.parametrize("weights", ["float16", "int16"])
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_channels_of_their_own_scale_lose_at_most_half_a_unit(weights: sixteen_bit.Weights, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 40, generator=draw) * 10.0 ** torch.randint(-6, 5, (6, 1), generator=draw)
    error, coarse = (
        (sixteen_bit.pack(weight, weights, scaling).unpacked() - weight).abs().amax(1)
        for scaling in ("channel", "tensor")
    )
    largest = weight.abs().amax(1)
    assert (error <= 2**-11 * largest).all()
    if weights == "float16":
        relative = (sixteen_bit.pack(weight, weights, "channel").unpacked() - weight).abs() / weight.abs()
        assert relative[weight.abs() > 2**-13 * largest.unsqueeze(1)].max() <= 2**-11 * 1.001  # the product rounds too
    assert (error / largest).max() <= (coarse / largest).max()


def test_scaling_keeps_sixteen_bits_in_range() -> None:
    """A cast of 1e5 overflows and one of 1e-9 is lost; scaled channels hold both."""
    weight = torch.tensor([[1e5, -3e4], [1e-9, 4e-10]])
    cast = sixteen_bit.pack(weight, "float16", "cast").unpacked()
    assert torch.isinf(cast[0, 0])
    assert cast[1, 0] == 0
    torch.testing.assert_close(sixteen_bit.pack(weight, "float16", "channel").unpacked(), weight, rtol=2**-10, atol=0)
    spanning = torch.tensor([[1e-6, 1e-6], [1e4, 1e4]])
    packed = sixteen_bit.pack(spanning, "float16", "channel")
    assert packed.values.abs().max() == 1
    torch.testing.assert_close(packed.unpacked(), spanning)


def test_a_channel_of_zeros_stays_zero() -> None:
    for weights in ("float16", "bfloat16", "int16"):
        assert sixteen_bit.pack(torch.zeros(2, 3), weights, "channel").unpacked().abs().max() == 0


@pytest.mark.parametrize(("weights", "limit"), [("float16", 2e-3), ("bfloat16", 1e-2), ("int16", 2e-3)])
def test_forces_with_sixteen_bit_weights(weights: sixteen_bit.Weights, limit: float) -> None:
    model, types = potential(torch.float32, width=128, num_basis=50, num_blocks=3), torch.arange(40) % TYPES
    positions = coil(1, 40)
    _, forces = run("naive", model, positions, types)
    for name in ("naive", "tiled_pairs", "ext_pairs"):
        _, rounded = run(name, model, positions, types, weights=weights)
        error = (rounded - forces).square().mean().sqrt() / forces.square().mean().sqrt()
        assert 1e-6 < error < limit


def test_sixteen_bit_weights_take_half_the_bytes() -> None:
    model: Engine = engines.make("naive", potential(torch.float32, width=64), torch.zeros(1, dtype=torch.int64))
    full = sum(layer.weight.nbytes for layer in sixteen_bit.sixteen_bit_layers(model.potential))
    assert 0.5 < sixteen_bit.round_weights(model.potential, "float16", "channel") / full < 0.56


def test_int16_without_a_scale_is_refused() -> None:
    with pytest.raises(BadInput, match="int16 weights need a scale"):
        sixteen_bit.pack(torch.ones(1, 1), "int16", "cast")


# --- what they cost


def test_fused_engines_keep_a_fifth_of_the_bytes_at_most() -> None:
    model, types, positions = potential(torch.float32, width=64), torch.arange(64) % TYPES, coil(2, 64)
    found = neighbours.find(positions, CUTOFF)
    naive = kept_bytes(engines.make("naive", model, types), positions, found)
    edges = found.edge_index.shape[1]
    # of each block: tanh, filter, its product with the cutoff, gathered rows; of the basis the product and its factors
    assert naive > edges * (2 * 4 * 64 + 2 * 20) * 4
    for name in FUSED:
        assert kept_bytes(engines.make(name, model, types, tile=128), positions, found) < 0.2 * naive


def test_the_cost_of_all_engines_is_one_run(cli: Callable[..., Result], tmp_path: Path) -> None:
    sizes = ["hidden=16", "filters=16", "num_basis=8", "num_blocks=2", "output_widths=[8]", "replicas=2", "rounds=1"]
    chain = ["dataset.beads=16", "dataset.replicas=3", "dataset.val_replicas=1", "dataset.test_replicas=1"]
    frames = ["dataset.frames=2", "dataset.stride=1", "dataset.settling=1"]
    method = ["method=schnet_cost", *(f"method.{size}" for size in sizes)]
    made = cli(*method, "dataset=cg_chain", *chain, *frames, "progress=false")
    assert made.status == 0, made.err
    (record,) = Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").all()
    for name in ALL:
        assert record.metrics[f"force64/{name}"] < 1e-10
        assert record.metrics[f"energy32/{name}"] < 1e-6
        assert record.metrics[f"force32/{name}"] < 1e-5
        assert record.metrics[f"speed/{name}"] > 0
        assert record.metrics[f"engine_seconds/{name}"] > 0
        assert record.metrics[f"peak/{name}"] > 0
    assert record.metrics["memory/naive"] == record.metrics["speed/naive"] == 1
    assert record.metrics["force_rms/drop_cutoff_grad"] > record.metrics["force_rms/float16_channel"] > 0
    assert cli(*method, "dataset=cg_chain", *chain, *frames, "method.engines=[csr]").err.startswith(
        "runner: method.engines must hold naive"
    )
