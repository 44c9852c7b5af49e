"""The crossbar's devices, pairs and rules against closed forms, and against a loop over single synapses."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor, nn

from runner.errors import BadInput
from runner.methods.hardware.crossbar.array import SCHEMES, Crossbar, Design
from runner.methods.hardware.crossbar.device import branch, pulsed, reset, spread
from runner.methods.hardware.crossbar.target import SynapseCrossbar
from runner.methods.models.perceptron import Perceptron

DESIGN = Design(
    scheme="unidirectional",
    rule="threshold",
    threshold=0.0,
    threshold_growth=1.0,
    fraction=0.01,
    beta_ltp=3.0,
    beta_ltd=3.0,
    abrupt_ltd=False,
    pulses=64,
    dynamic_range=None,
    weight_range=4.0,
    spread="normal",
    gain_spread=0.0,
    step_spread=0.0,
    nonlinearity_spread=0.0,
    pulse_noise=0.0,
    refresh_level=0.5,
    refresh_other=None,
)
SPREAD = {"gain_spread": 0.2, "step_spread": 0.2, "nonlinearity_spread": 0.2}
betas = st.floats(0, 8)
counts = st.integers(1, 200)


@pytest.fixture(autouse=True)
def seeded_double() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def one(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def target(**changes: Any) -> SynapseCrossbar:
    settings = vars(replace(DESIGN)) | {"delta_clip": 1.0} | changes
    return SynapseCrossbar(device="cpu", precision="float64", threads=1, deterministic=True, **settings)


def crossbar(rows: int = 5, columns: int = 7, **changes: Any) -> tuple[Tensor, Crossbar]:
    """Weights as they are read, and their array."""
    bound = columns**-0.5
    made = Crossbar(torch.empty(rows, columns).uniform_(-bound, bound), replace(DESIGN, **changes))
    return made.read(), made


# One device


@given(betas, counts)
def test_p_pulses_go_from_one_end_to_the_other_and_back(beta: float, pulses: int) -> None:
    both, up, g = branch(one(beta), pulses), one(1.0), one(0.0)
    seen = [0.0]
    for _ in range(pulses):
        g = pulsed(g, up, both, both, 0.0)
        seen.append(float(g))
    assert seen == sorted(set(seen))
    assert math.isclose(seen[-1], 1, abs_tol=1e-9)
    for _ in range(pulses):
        g = pulsed(g, -up, both, both, 0.0)
        seen.append(float(g))
    assert seen[pulses:] == sorted(set(seen[pulses:]), reverse=True)
    assert math.isclose(seen[-1], 0, abs_tol=1e-9)


@given(betas, counts)
def test_a_step_is_the_difference_of_the_curve_and_pulses_its_inverse(beta: float, pulses: int) -> None:
    up, n = branch(one(beta), pulses), torch.arange(pulses + 1, dtype=torch.float64)
    g = up.curve(n)
    closed = n / pulses if beta < 1e-12 else torch.expm1(-beta * n / pulses) / math.expm1(-beta)
    torch.testing.assert_close(g, closed, atol=1e-9, rtol=0)
    torch.testing.assert_close(up.step(g[:-1]), g.diff(), atol=1e-9, rtol=0)
    torch.testing.assert_close(up.pulses(g), n, atol=1e-6 * pulses, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_beta_is_linear(dtype: torch.dtype) -> None:
    n = torch.arange(65, dtype=dtype)
    for beta in (0.0, 1e-7):
        response = branch(torch.tensor(beta, dtype=dtype), 64)
        torch.testing.assert_close(response.curve(n), n / 64, atol=1e-6, rtol=0)
        torch.testing.assert_close(response.step(n / 64), torch.full_like(n, 1 / 64), atol=1e-6, rtol=0)


def test_abrupt_depression_goes_to_the_bottom_in_one_pulse() -> None:
    up = branch(one(3.0), 64)
    assert pulsed(torch.rand(9), -torch.ones(9), up, reset(one(1.0)), 0.0).tolist() == [0.0] * 9


@pytest.mark.parametrize("distribution", ["normal", "lognormal"])
def test_spread_has_mean_one_and_its_deviation(distribution: Any) -> None:
    draw = spread(0.2, (200_000,), distribution, one(1.0))
    assert abs(float(draw.mean()) - 1) < 4 * 0.2 / 200_000**0.5
    assert abs(float(draw.std()) - 0.2) < 0.004
    assert float(draw.min()) > 0
    assert spread(0.0, (9,), distribution, one(1.0)).tolist() == [1.0] * 9


# A pair


def test_unidirectional_up_and_down_from_equal_states_gives_exactly_nothing() -> None:
    _, array = crossbar(refresh_level=1.0)
    for state in (0.0, 0.2, 0.7):
        array.conductance.fill_(state)
        weight = array.read()
        array.update(weight, torch.ones_like(weight))
        assert (weight > 0).all()
        array.update(weight, -torch.ones_like(weight))
        assert weight.count_nonzero() == 0


@given(st.floats(0.1, 6), st.integers(8, 128), st.floats(0.3, 0.7))
def test_bidirectional_up_and_down_leaves_a_residual(beta: float, pulses: int, g: float) -> None:
    c, b = -math.expm1(-beta / pulses), -1 / math.expm1(-beta)
    residual = -c * (2 * g - 1) - c**2 * (b - g)
    assert abs(residual) > 0 or g == 0.5
    _, array = crossbar(scheme="bidirectional_single", beta_ltp=beta, beta_ltd=beta, pulses=pulses)
    array.conductance.fill_(g)
    weight = array.read()
    for direction in (1.0, -1.0):
        array.update(weight, torch.full_like(weight, direction))
    clipped = g + c * (b - g) > 1
    if not clipped:
        torch.testing.assert_close(array.conductance[0], torch.full_like(weight, g + residual), atol=1e-12, rtol=0)
    assert (array.conductance[1] == g).all()


def test_random_pulses_drift_to_where_both_steps_are_equal() -> None:
    weight, array = crossbar(20, 25, scheme="bidirectional_both", beta_ltp=3.0, beta_ltd=1.0, weight_range=3.0)
    up, down = branch(one(3.0), 64), branch(one(1.0), 64)
    symmetry = brentq(lambda g: float(up.step(one(g)) - down.step(one(1 - g))), 0, 1)
    assert abs(symmetry - 0.5) > 0.05
    array.conductance.fill_(0.9)
    for _ in range(400):  # 500 pairs: 2e5 pulses of each device
        array.update(weight, torch.randn_like(weight))
    g = array.conductance
    for device in g:
        assert abs(float(device.mean()) - symmetry) < 4 * float(device.std()) / device.numel() ** 0.5


@pytest.mark.parametrize("changes", [{}, {"beta_ltp": 0.0}, {"dynamic_range": 5.0} | SPREAD, SPREAD], ids=str)
def test_a_refresh_keeps_the_weight_within_half_a_step_and_erases_the_loser(changes: dict[str, Any]) -> None:
    _, array = crossbar(40, 50, threshold=0.5, **changes)
    array.conductance.uniform_(0.1, 0.6)
    before = array.read()
    due = (array.conductance.amax(0) > 0.5) & (array.conductance.amin(0) > 1 / 64)
    assert 0 < due.sum() < due.numel()
    where = torch.arange(2000)
    gain, (up, _) = array._part(array.gain, where), array._branches(where)
    g = array._refreshed(array.conductance.view(2, -1), gain, up).view_as(array.conductance)
    array.conductance.copy_(g)
    after = array.read()
    assert (g.amin(0)[due] == 0).all()
    first = array.shape[0].expand_as(g)
    half = array.scale * (first * array.gain).amax(0) / 2
    # left out: what no pulse can write, for a device too weak or an offset larger than the difference
    winner = torch.where(before >= 0, g[0], g[1])
    reachable = due & (winner > 0) & (winner < 1)
    assert reachable.sum() > 0.8 * due.sum()
    assert ((after - before).abs() <= half + 1e-12)[reachable].all()
    assert torch.equal(after[~due], before[~due])
    assert int(array.counts[2]) == int(due.sum())


def test_both_at_one_gain_is_single_at_twice_the_gain() -> None:
    weight1, both = crossbar(scheme="bidirectional_both", weight_range=4.0)
    single = Crossbar(weight1, replace(DESIGN, scheme="bidirectional_single", weight_range=8.0))
    weight2 = single.read()
    for _ in range(300):  # 35 synapses: 1e4 pulses
        change = torch.randn_like(weight1)
        both.update(weight1, change)
        single.update(weight2, change)
    torch.testing.assert_close(weight1, weight2, atol=1e-9, rtol=0)


# Rules


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_stochastic_rule_is_unbiased_on_linear_devices(scheme: str) -> None:
    size = 100_000
    array = Crossbar(
        torch.zeros(2, size), replace(DESIGN, scheme=scheme, beta_ltp=0.0, beta_ltd=0.0, rule="stochastic")
    )
    step = array.scale * (2 if scheme == "bidirectional_both" else 1) / 64
    wanted = torch.tensor([[0.3], [-0.07]]) * step
    array.update(weight := array.read(), wanted.expand(2, size))
    for moved, change in zip(weight, wanted, strict=True):
        assert set((moved / step).round(decimals=9).unique().tolist()) == {0.0, float(change.sign())}
        assert abs(float(moved.mean() - change)) < 4 * float(moved.std()) / size**0.5


def test_many_fine_levels_and_the_stochastic_rule_are_stochastic_gradient_descent() -> None:
    x, y = torch.randn(200, 12), torch.randn(200, 8)
    exact = nn.Linear(12, 8, bias=False)
    # levels so fine that the range is never left, and a rate so low that no probability reaches 1
    hardware = target(
        scheme="bidirectional_both", rule="stochastic", beta_ltp=0.0, beta_ltd=0.0, pulses=20_000, delta_clip=None
    )
    modelled = nn.Linear(12, 8, bias=False)
    modelled.load_state_dict(exact.state_dict())
    start = exact.weight.detach().clone()
    hardware.adapt(modelled)
    torch.testing.assert_close(modelled.weight, exact.weight)
    with hardware.entered():
        for layer in (exact, modelled):
            optimizer = torch.optim.SGD(layer.parameters(), lr=5e-4)
            for _ in range(3000):
                optimizer.zero_grad()
                (layer(x) - y).square().mean().backward()
                optimizer.step()
    moves = torch.stack([(layer.weight.detach() - start).flatten() for layer in (exact, modelled)])
    assert float(torch.corrcoef(moves)[0, 1]) > 0.99


def test_the_fraction_rule_pulses_that_share_of_the_largest() -> None:
    weight, array = crossbar(20, 50, rule="fraction", fraction=0.05)
    before, change = weight.clone(), torch.randn_like(weight)
    array.update(weight, change)
    largest = change.abs().flatten().topk(50).indices
    assert set((weight - before).flatten().nonzero().flatten().tolist()) == set(largest.tolist())
    array.update(weight, torch.zeros_like(change))
    assert int(array.counts[1]) == 50


def test_a_growing_threshold_passes_fewer() -> None:
    weight, array = crossbar(threshold=0.5, threshold_growth=4.0)
    array.update(weight, torch.full_like(weight, 0.6))
    assert int(array.counts[1]) == weight.numel()
    array.counts[0] = 1000
    array.update(weight, torch.full_like(weight, 1.9))
    assert int(array.counts[1]) == weight.numel()
    array.update(weight, torch.full_like(weight, 2.1))
    assert int(array.counts[1]) == 2 * weight.numel()


# The array against a loop over synapses


def by_hand(array: Crossbar, change: Tensor) -> tuple[Tensor, Tensor]:
    """Conductances and weights after one update, synapse by synapse, written down directly."""
    design, g, wanted = array.design, array.conductance.tolist(), change.tolist()
    gain = array.gain.expand_as(array.conductance).tolist()
    shape = array.shape.view(4, *(array.shape.shape[1:] or (1, 1, 1))).expand(4, *array.conductance.shape).tolist()
    floor = 0.0 if design.dynamic_range is None else 1 / (design.dynamic_range - 1)
    weights = []
    for i, row in enumerate(wanted):
        weights.append([])
        for j, move in enumerate(row):
            if abs(move) > design.threshold:
                moves = {
                    "bidirectional_both": [(0, move > 0), (1, move < 0)],
                    "bidirectional_single": [(0, move > 0)],
                    "unidirectional": [(0 if move > 0 else 1, True)],
                }[design.scheme]
                for device, up in moves:
                    first, slope = (shape[2 * (not up) + part][device][i][j] for part in (0, 1))
                    now = g[device][i][j]
                    now = now + (first - slope * now) if up else now - (first - slope * (1 - now))
                    g[device][i][j] = min(1, max(0, now))
                plus, minus = g[0][i][j], g[1][i][j]
                if (
                    design.scheme == "unidirectional"
                    and max(plus, minus) > design.refresh_level
                    and min(plus, minus) > 1 / design.pulses
                ):
                    difference = gain[0][i][j] * (plus + floor) - gain[1][i][j] * (minus + floor)
                    winner, loser = (0, 1) if difference >= 0 else (1, 0)
                    first, slope = shape[0][winner][i][j], shape[1][winner][i][j]
                    # as many pulses as bring the read-out nearest
                    aim = (abs(difference) + gain[loser][i][j] * floor) / gain[winner][i][j] - floor
                    n, level = 0, 0.0
                    while level < aim and level < 1:
                        n, level, last = n + 1, level + first - slope * level, level
                    exact = math.log1p(-min(max(aim, 0), 1) * slope / first) / math.log1p(-slope) if aim > 0 else 0
                    g[winner][i][j] = min(1, level if round(exact) == n else last) if n else 0.0
                    g[loser][i][j] = 0.0
            read = [gain[side][i][j] * (g[side][i][j] + floor) for side in (0, 1)]
            weights[-1].append(array.scale * (read[0] - read[1]))
    return torch.tensor(g), torch.tensor(weights)


@pytest.mark.parametrize("changes", [{}, SPREAD, {"dynamic_range": 5.0} | SPREAD], ids=str)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_updates_are_those_of_single_synapses(scheme: str, changes: dict[str, Any]) -> None:
    weight, array = crossbar(6, 9, scheme=scheme, threshold=0.6, weight_range=3.0, **changes)
    refreshes = 0
    for _ in range(120):
        change = torch.randn_like(weight)
        g, read = by_hand(array, change)
        array.update(weight, change)
        torch.testing.assert_close(array.conductance, g, atol=1e-9, rtol=0)
        torch.testing.assert_close(weight, read, atol=1e-9, rtol=0)
        assert torch.equal(weight, array.read())
        refreshes = int(array.counts[2])
    assert (refreshes > 50) == (scheme == "unidirectional")
    assert 0 <= float(array.saturation()) <= 1


def test_no_spread_is_the_deterministic_device_bit_for_bit() -> None:
    tiny = dict.fromkeys((*SPREAD, "pulse_noise"), 1e-40)  # factors of one, computed as those of a real spread
    start, _ = crossbar()
    arrays = [Crossbar(start, replace(DESIGN, threshold=0.5, **changes)) for changes in ({}, tiny)]
    assert arrays[1].gain.shape == (2, *start.shape)
    weights = [array.read() for array in arrays]
    for _ in range(200):
        change = torch.randn_like(start)
        for weight, array in zip(weights, arrays, strict=True):
            array.update(weight, change)
    assert torch.equal(*weights)
    assert torch.equal(arrays[0].conductance, arrays[1].conductance)


# The target


def network(**changes: Any) -> tuple[SynapseCrossbar, nn.Module]:
    hardware = target(**changes)
    model = Perceptron(hidden=[9], activation="clip", bias=True, init="uniform", init_std=0.1).network(6, 4)
    return hardware, hardware.adapt(model)


def trained(hardware: SynapseCrossbar, model: nn.Module, steps: int, optimizer: Callable[..., Any]) -> None:
    draw = torch.Generator().manual_seed(1)
    stepping = optimizer(model.parameters(), lr=0.5)
    with hardware.entered():
        for _ in range(steps):
            stepping.zero_grad()
            x, y = torch.rand(10, 6, generator=draw), torch.randint(4, (10,), generator=draw)
            nn.functional.cross_entropy(model(x), y).backward()
            stepping.step()


def test_parameters_keep_their_names_and_read_what_the_arrays_hold() -> None:
    hardware, model = network(**SPREAD)
    assert [name for name, _ in model.named_parameters()] == [
        f"layers.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")
    ]
    for optimizer in (torch.optim.SGD, torch.optim.Adam):
        trained(hardware, model, 20, optimizer)
        for layer in model.layers:
            assert torch.equal(layer.weight, layer.crossbar.read())
    assert hardware.adapt(model.layers[0]) is model.layers[0]
    assert hardware.cost(model, None)["pulses"] > 0  # type: ignore[arg-type]


def test_the_backward_pass_reads_the_same_array_transposed() -> None:
    hardware, model = network(delta_clip=None, **SPREAD)
    trained(hardware, model, 20, torch.optim.SGD)
    x = torch.rand(5, 6, requires_grad=True)
    first, last = (layer.crossbar.read() for layer in model.layers)
    delta = torch.randn(5, 4)
    model(x).backward(delta)
    hidden = x.detach() @ first.T + model.layers[0].bias.detach()
    gate = ((hidden > 0) & (hidden < 1)).double()
    torch.testing.assert_close(x.grad, (delta @ last * gate) @ first)


def test_an_error_is_clipped_sample_by_sample() -> None:
    _, model = network(delta_clip=1.0)
    x, delta = torch.rand(5, 6), torch.randn(5, 4)
    model(x).backward(delta)  # gradients of a batch mean: five times too small to be errors
    clipped = delta.clamp(-0.2, 0.2)
    torch.testing.assert_close(model.layers[1].bias.grad, clipped.sum(0))
    assert not torch.equal(clipped, delta)


def test_weights_that_a_method_sets_are_programmed() -> None:
    hardware, model = network()
    with torch.no_grad():
        model.layers[1].weight.fill_(0.1)
    trained(hardware, model, 1, torch.optim.SGD)
    step = float(model.layers[1].crossbar.shape[0]) * model.layers[1].crossbar.scale
    assert ((model.layers[1].weight - 0.1).abs() <= step + 1e-12).all()
    assert torch.equal(model.layers[1].weight, model.layers[1].crossbar.read())


def test_a_state_that_is_put_back_goes_on_as_before() -> None:
    hardware, model = network(threshold=0.01, **SPREAD)
    trained(hardware, model, 10, torch.optim.SGD)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    trained(hardware, model, 10, torch.optim.SGD)
    other_hardware, other = network(threshold=0.01, **SPREAD)
    other.load_state_dict(state)
    trained(other_hardware, other, 10, torch.optim.SGD)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_hooks_are_gone_after_the_run_and_software_is_untouched() -> None:
    hardware, model = network(scheme="software", delta_clip=None)
    torch.manual_seed(0)
    plain = Perceptron(hidden=[9], activation="clip", bias=True, init="uniform", init_std=0.1).network(6, 4).double()
    plain.load_state_dict(model.state_dict())
    trained(hardware, model, 5, torch.optim.SGD)
    trained(target(scheme="unidirectional"), plain, 5, torch.optim.SGD)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert hardware.cost(model, None) == {}  # type: ignore[arg-type]
    assert hardware.plots(model, None) == {}  # type: ignore[arg-type]


def test_networks_without_linear_layers_are_refused() -> None:
    with pytest.raises(BadInput, match=r"Conv2d has no linear layer .* hardware=cpu"):
        target().adapt(nn.Conv2d(1, 2, 3))


def test_the_response_is_plotted() -> None:
    hardware, model = network(beta_ltp=5.0, beta_ltd=1.0)
    (axes,) = hardware.plots(model, None)["response"].axes  # type: ignore[arg-type]
    up, down = [list(map(float, line.get_ydata())) for line in axes.lines]
    assert (up[0], round(up[-1], 9), round(down[0], 9), round(down[-1], 9)) == (0, 1, 1, 0)
    assert up[32] > 0.9
    assert 0.3 < down[32] < 0.5


# Against IBM's simulator


@pytest.mark.skipif(
    "RUNNER_AIHWKIT_PYTHON" not in os.environ,
    reason="RUNNER_AIHWKIT_PYTHON names no Python with aihwkit (1.1.0 goes with torch 2.10: one of its own)",
)
@pytest.mark.parametrize(("beta", "pulses"), [(1.0, 16), (3.0, 64), (5.0, 32)])
def test_the_response_is_that_of_aihwkit(beta: float, pulses: int) -> None:
    script = Path(__file__).with_name("aihwkit_curve.py")
    command = [os.environ["RUNNER_AIHWKIT_PYTHON"], script, str(beta), str(pulses)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    both, n = branch(one(beta), pulses), torch.arange(pulses + 1, dtype=torch.float64)
    ours = torch.cat([both.curve(n)[1:], 1 - both.curve(n)[1:]])
    torch.testing.assert_close(torch.tensor(json.loads(printed)), ours, atol=1e-5, rtol=0)
