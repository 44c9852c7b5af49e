"""16-bit emulation: a product against the plain triple loop, a training step against float32, the cost of a network."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.measure import Row, interleaved, seconds
from runner import registry, schema
from runner.compose import compose

SHAPE = (32, 98, 20)
STEPS = 5
IN_A_ROW = 20
"""Products one after the other, as a training step makes them."""
ROUNDS = 5


def emulation() -> list[Row]:
    """Milliseconds; the triple loop rounds by NumPy after each multiply-accumulate, as the emulation does."""
    return [_product(), _step(), _cost()]


def _product() -> Row:
    from runner.methods.hardware.pulp.formats import FORMATS
    from runner.methods.hardware.pulp.products import product

    n, k, m = SHAPE
    number, draw = FORMATS["binary16"], np.random.default_rng(0)
    a, b = number.round(draw.standard_normal((n, k))), number.round(draw.standard_normal((k, m)))
    rows, columns = a.tolist(), b.T.tolist()

    def loops() -> list[list[float]]:
        found = []
        for row in rows:
            line = []
            for column in columns:
                lanes = [0.0, 0.0]
                for place, (x, y) in enumerate(zip(row, column, strict=True)):
                    lanes[place % 2] = float(np.float16(x * y + lanes[place % 2]))
                line.append(float(np.float16(lanes[0] + lanes[1])))
            found.append(line)
        return found

    def ours() -> np.ndarray:
        return product(a, b, number, kernel="4x8", transposed=True)

    assert np.array_equal(ours(), loops())

    def in_a_row() -> None:
        for _ in range(IN_A_ROW):
            ours()

    medians = interleaved([lambda: 1e3 * seconds(in_a_row) / IN_A_ROW, lambda: 1e3 * seconds(loops)], ROUNDS)
    shape = " x ".join(map(str, SHAPE))
    return Row(f"16-bit product of {shape} against a triple loop", medians[0], "ms", medians[1], 1 / 50)


def _target(numerics: str):  # type: ignore[no-untyped-def]
    line = ["method=hardware_cost", "dataset=workload_image", "hardware=pulp_8core", f"hardware.numerics={numerics}"]
    return registry.build(schema.validate(compose(line).config)["hardware"])


def _step() -> Row:
    """A training step of 784-32-10 with 20 images."""

    def steps(numerics: str) -> float:
        target = _target(numerics)
        with target.entered():
            model = target.adapt(nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10)))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
            x, y = torch.rand(20, 784), torch.randint(10, (20,))

            def train() -> None:
                for _ in range(STEPS):
                    optimizer.zero_grad()
                    functional.cross_entropy(model(x), y).backward()
                    optimizer.step()

            return 1e3 * seconds(train) / STEPS

    medians = interleaved([lambda: steps("binary16"), lambda: steps("float32")], ROUNDS)
    return Row("a step of 784-32-10 in binary16 against float32", medians[0], "ms", medians[1])


def _cost() -> Row:
    from runner.methods.hardware.pulp.fit import networks

    target, found = _target("binary16"), networks()
    taken = min(seconds(lambda: [target.step_total(network) for network in found.values()]) for _ in range(ROUNDS))
    return Row("modelled cycles of ResNet8 and DS-CNN", 1e3 * taken, "ms", limit=100)
