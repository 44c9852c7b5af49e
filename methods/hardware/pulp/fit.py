"""The four fitted constants of ``conf/hardware/pulp_8core.yaml``: ``python -m runner.methods.hardware.pulp.fit``.

Two published averages can't decide four constants. Of all that meet the figures the values nearest to what the
sources and the manuals let expect are taken, each counted by the factor between the two:

    min over c:  sum_i (log predicted_i(c) - log published_i)^2 + PRIOR^2 sum_j ((log c_j - log expected_j) / width_j)^2

A fit that needs a constant beyond what a machine could have is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from runner.errors import RunFailed
from runner.methods.hardware.pulp.cluster import Cluster
from runner.methods.hardware.pulp.layers import Layer, layers
from runner.methods.models.ds_cnn import DsCnn
from runner.methods.models.resnet8 import ResNet8

PUBLISHED = {"resnet8": 3.11, "ds_cnn": 0.81}
"""MAC/cycle of a step in 16 bits (abstract of arXiv 2305.19167)."""
EXPECTED = {"copy_padded": 8.0, "fork": 200.0, "dma_bytes_per_cycle": 8.0, "stall": 1.0}
WIDTH = {"copy_padded": 0.25, "fork": 0.6, "dma_bytes_per_cycle": 1.2, "stall": 0.2}
"""Of the logarithm: 6 to 10 and 100 to 300 cycles were counted; where the networks' data lie is not known."""
LEAST = {"copy_padded": 1.0, "fork": 10.0, "dma_bytes_per_cycle": 0.1, "stall": 1.0}
MOST = {"copy_padded": 15.0, "fork": 2000.0, "dma_bytes_per_cycle": 16.0, "stall": 2.0}
PRIOR = 0.05


def networks() -> dict[str, list[Layer]]:
    """Layers of the two networks of MLPerf Tiny."""
    with torch.random.fork_rng():
        resnet = ResNet8(channels=[16, 32, 64]).network(3, 10)
        speech = DsCnn(hidden_channels=64, num_layers=4).network(1, 12)
    return {
        "resnet8": layers(resnet, torch.zeros(1, 3, 32, 32)),
        "ds_cnn": layers(speech, torch.zeros(1, 1, 49, 10)),
    }


def macs_per_cycle(cluster: Cluster, found: Sequence[Layer]) -> float:
    """Of a whole step."""
    return cluster.step_total(found).macs / cluster.step_total(found).cycles


def fitted(cluster: Cluster) -> dict[str, float]:
    """The four constants.

    Raises:
        RunFailed: one of them lies at its limit, or a figure is missed by a quarter.
    """
    from scipy.optimize import least_squares

    found = networks()
    expected = np.log(list(EXPECTED.values()))

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        machine = dataclasses.replace(cluster, **dict(zip(EXPECTED, np.exp(logs).tolist(), strict=True)))
        missed = [np.log(macs_per_cycle(machine, found[name]) / figure) for name, figure in PUBLISHED.items()]
        return np.concatenate([missed, PRIOR * (logs - expected) / np.array(list(WIDTH.values()))])

    limits = np.log(list(LEAST.values())), np.log(list(MOST.values()))
    logs = least_squares(residuals, expected, bounds=limits, diff_step=1e-3).x
    constants = dict(zip(EXPECTED, np.exp(logs).round(3).tolist(), strict=True))
    refused = [name for name, value in constants.items() if value > 0.99 * MOST[name]]
    if refused or np.abs(residuals(logs)[: len(PUBLISHED)]).max() > np.log(1.25):
        raise RunFailed(f"the fit is refused: {constants}, at its limit: {', '.join(refused) or 'none'}")
    return constants


if __name__ == "__main__":
    from runner import registry, schema
    from runner.compose import compose

    line = ["method=hardware_cost", "dataset=workload_image", "hardware=pulp_8core"]
    target = registry.build(schema.validate(compose(line).config)["hardware"])
    constants = fitted(target)
    print(constants)
    target = dataclasses.replace(target, **constants)
    print({name: round(macs_per_cycle(target, found), 3) for name, found in networks().items()})
