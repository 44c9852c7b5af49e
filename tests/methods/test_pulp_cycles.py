"""The cluster's model: instruction counts, closed forms, what networks ask for, memory, and the fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from runner import registry, schema
from runner.compose import compose
from runner.errors import RunFailed
from runner.methods.hardware.pulp import fit
from runner.methods.hardware.pulp.kernels import HALF, SINGLE, Kernel, Product, library_choice
from runner.methods.hardware.pulp.layers import layers
from runner.methods.hardware.pulp.target import Pulp


def target(**changes: Any) -> Pulp:
    line = ["method=hardware_cost", "dataset=workload_image", "hardware=pulp_8core"]
    made: Pulp = registry.build(schema.validate(compose(line).config)["hardware"])
    return dataclasses.replace(made, **changes)


IDEAL = {"stall": 1.0, "fork": 0.0, "loop_setup": 0.0, "store": 0.0, "store_pair": 0.0, "join_lanes": 0.0}


@pytest.mark.parametrize(
    ("kernel", "transposed", "cycles", "macs_per_cycle"),
    [
        (SINGLE["naive"], True, 3.0, 2.67),
        (SINGLE["2x1"], True, 2.5, 3.2),
        (SINGLE["4x4"], True, 1.5, 5.33),
        (HALF["naive"], True, 3.0, 2.67),
        (HALF["2x4"], True, 1.25, 6.4),
        (HALF["2x4"], False, 1.75, 4.57),
        (HALF["4x8"], True, 0.875, 9.14),
        (HALF["4x8"], False, 1.125, 7.11),
    ],
)
def test_inner_loops(kernel: Kernel, transposed: bool, cycles: float, macs_per_cycle: float) -> None:
    assert kernel.cycles_per_mac(transposed=transposed) == cycles
    assert 8 / cycles == pytest.approx(macs_per_cycle, abs=0.005)
    shape = Product(64, 32, 32, transposed)
    assert target(**IDEAL).product_cycles(shape, kernel) == shape.macs * cycles / 8


def test_a_last_single_row_stays_wide() -> None:
    """(5 loads + 4 multiplications) / 8; 2 shuffles more where B lies as it is."""
    for transposed, cycles in ((True, 1.125), (False, 1.375)):
        other, multiply = HALF["4x8"].instructions(transposed=transposed, rows=1)
        assert (other + multiply) / 8 == cycles


def test_closed_form_with_all_terms() -> None:
    """8 cores, 16 rows of 2 on each but no leftovers: blocks (set-up + K/2 * 14 + 8 outputs), in 16 bits."""
    machine = target(stall=1.5)
    n, k, m = 32, 20, 12
    blocks = (n // 8 // 2) * (m // 4)
    block = machine.loop_setup + k // 2 * 14 * 1.5 + 8 * (machine.store_pair / 2 + machine.join_lanes)
    assert machine.product_cycles(Product(n, k, m, True), HALF["4x8"]) == blocks * block
    block = machine.loop_setup + k * 24 * 1.5 + 16 * machine.store
    assert machine.product_cycles(Product(n, k, m, True), SINGLE["4x4"]) == (n // 8 // 4) * (m // 4) * block


def test_leftovers_in_closed_form() -> None:
    machine = target(**IDEAL)
    # 3 rows a core: a pair and a single one; 1 column over; odd K
    wide = (7 * 14 + 1 * 24) + (7 * 9 + 1 * 12)
    assert machine.product_cycles(Product(24, 15, 5, True), HALF["4x8"]) == wide + 3 * 15 * 3
    # 4x4: 2 rows a core make a block of 4 each; the last 2 rows are split by columns, 1 a core
    assert machine.product_cycles(Product(18, 10, 8, True), SINGLE["4x4"]) == 2 * 10 * 24 + 2 * 1 * 30


def test_the_librarys_conditions() -> None:
    half = {(16, 2, 4): "4x8", (15, 2, 4): "2x4", (16, 2, 3): "2x4", (16, 1, 4): "naive", (64, 64, 1): "naive"}
    for (n, k, m), name in half.items():
        assert library_choice(Product(n, k, m, True), half=True) == name
    single = {(32, 4, 4): "4x4", (32, 4, 3): "2x2", (31, 4, 4): "2x4", (15, 4, 9): "1x8", (64, 9, 1): "8x1"}
    for (n, k, m), name in single.items():
        assert library_choice(Product(n, k, m, True), half=False) == name


@given(
    eighth=st.integers(1, 12),
    inner=st.integers(1, 40),
    columns=st.integers(1, 40),
    transposed=st.booleans(),
    numerics=st.sampled_from(["float32", "binary16"]),
    kernel=st.sampled_from(["library", "fastest", "naive"]),
)
def test_more_cores_are_never_slower(
    eighth: int, inner: int, columns: int, transposed: bool, numerics: str, kernel: str
) -> None:
    shape = Product(8 * eighth, inner, columns, transposed)
    taken = []
    for cores in range(1, 9):
        machine = dataclasses.replace(MACHINE, cores=cores, fpus=cores, numerics=numerics, kernel=kernel)
        kernels = HALF if machine.half else SINGLE
        taken.append(machine.product_cycles(shape, kernels[machine.choice(shape)]))
    assert taken == sorted(taken, reverse=True)


MACHINE = target()


@pytest.mark.parametrize("numerics", ["float32", "binary16"])
def test_speed_up_of_eight_cores(numerics: Any) -> None:
    shape = Product(64, 64, 64, True)
    kernels = SINGLE if numerics == "float32" else HALF
    kernel = kernels[library_choice(shape, half=numerics != "float32")]
    one, eight = (
        target(numerics=numerics).product_cycles(shape, kernel, cores=cores) + target().fork for cores in (1, 8)
    )
    assert one / eight >= 7


def test_shared_floating_point_units() -> None:
    """4 units for 8 cores: at most 4 (32 bits) or 8 (16 bits, two a register) multiply-accumulates a cycle."""
    shape = Product(64, 64, 64, True)
    shared = target(**IDEAL, fpus=4)
    assert shape.macs / shared.product_cycles(shape, SINGLE["4x4"]) == 4
    assert shape.macs / shared.product_cycles(shape, HALF["4x8"]) == 8


def test_work_of_the_two_networks() -> None:
    found = fit.networks()
    forward = {name: sum(layer.macs for layer in network) for name, network in found.items()}
    assert forward == {"resnet8": 12_501_632, "ds_cnn": 2_656_768}
    step = {name: target().step_total(network).macs for name, network in found.items()}
    assert step == {"resnet8": 37_062_528, "ds_cnn": 7_650_304}
    every = target(input_gradient_of_first=True)
    assert every.step_total(found["ds_cnn"]).macs == 3 * forward["ds_cnn"]


@pytest.mark.parametrize(
    ("model", "sample"),
    [
        (
            nn.Sequential(nn.Conv2d(6, 12, 3, stride=2, groups=3), nn.ReLU(), nn.Conv2d(12, 12, 3, groups=12)),
            (1, 6, 9, 9),
        ),
        (nn.Sequential(nn.Conv1d(3, 5, 4, stride=2), nn.Flatten(), nn.Linear(20, 7)), (1, 3, 11)),
        (nn.Linear(8, 3), (1, 5, 8)),
    ],
    ids=["groups", "one dimension", "positions"],
)
def test_work_is_torchs_count(model: nn.Module, sample: tuple[int, ...]) -> None:
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(sample))
    assert 2 * sum(layer.macs for layer in layers(model, torch.zeros(sample))) == counter.get_total_flops()


def test_kinds_of_layers() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 8, 1, stride=2),
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.Conv2d(8, 8, 3, groups=8),
    )
    found = layers(model, torch.zeros(1, 4, 8, 8))
    assert [layer.kind for layer in found] == ["pointwise", "convolution", "convolution", "depthwise"]
    assert [layer.padded for layer in found] == [False, False, True, False]


def test_memory_of_a_convolution() -> None:
    """im2row: 2 HoWo CiKhKw bytes; a tile fits L1, and where none does it is told."""
    (layer,) = layers(nn.Conv2d(16, 16, 3, padding=1), torch.zeros(1, 16, 32, 32))
    assert target().im2row_bytes(layer) == 2 * 32 * 32 * 16 * 9
    assert target(numerics="float32").im2row_bytes(layer) == 4 * 32 * 32 * 16 * 9
    untiled = 2 * (16 * 34 * 32 + 32 * 32 * (144 + 16) + 16 * 144)
    whole = target(l1_bytes=10**6).step_costs(layer, first=True)["forward"]
    assert whole.l1_bytes == untiled
    for size in (2**16, 2**17):
        machine = target(l1_bytes=size)
        assert all(cost.l1_bytes <= size for cost in machine.step_costs(layer, first=False).values())
    with pytest.raises(RunFailed, match=r"its smallest tile needs \d+ bytes of L1, there are 4096"):
        target(l1_bytes=4096).step_costs(layer, first=False)
    (depthwise,) = layers(nn.Conv2d(4, 4, 3, groups=4), torch.zeros(1, 4, 64, 64))
    with pytest.raises(RunFailed, match="one channel needs"):
        target(l1_bytes=4096).step_costs(depthwise, first=False)


def test_serial_depthwise_gradients_are_what_slows_the_speech_network_down() -> None:
    """Before any fit, as the card's sketch has it."""
    plain = dict(fit.EXPECTED)
    found = fit.networks()
    serial, parallel = (target(**plain, depthwise=name) for name in ("naive_serial", "naive"))
    assert fit.macs_per_cycle(serial, found["ds_cnn"]) < fit.macs_per_cycle(serial, found["resnet8"]) / 2.5
    assert fit.macs_per_cycle(parallel, found["ds_cnn"]) > 3 * fit.macs_per_cycle(serial, found["ds_cnn"])


def test_the_fit_is_what_the_yaml_says() -> None:
    machine = target()
    found = fit.fitted(machine)
    assert found == pytest.approx({name: getattr(machine, name) for name in found}, rel=0.01)
    for name, network in fit.networks().items():
        tolerance = {"resnet8": 0.25, "ds_cnn": 0.3}[name]
        assert fit.macs_per_cycle(machine, network) == pytest.approx(fit.PUBLISHED[name], rel=tolerance)


def test_a_fit_beyond_a_machines_limits_is_refused() -> None:
    """Without the serial gradients nothing short of an absurd constant explains the speech network."""
    with pytest.raises(RunFailed, match="the fit is refused"):
        fit.fitted(target(depthwise="naive"))
