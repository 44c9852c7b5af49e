"""What an evaluation of energy and forces costs by each engine, and how far it is from the naive one."""

from __future__ import annotations

import copy
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from runner.contracts import ForceField, Method
from runner.errors import BadInput
from runner.methods.science.flashschnet.engine import Engine
from runner.methods.science.flashschnet.engines import make, missing
from runner.methods.science.flashschnet.neighbours import Neighbours, find
from runner.methods.science.flashschnet.potential import SchNet
from runner.methods.science.flashschnet.sixteen_bit import Scaling, Weights, round_weights, sixteen_bit_layers
from runner.methods.science.flashschnet.sizes import Sizes
from runner.types import PositiveInt

if TYPE_CHECKING:
    from runner.run import Run

SIXTEEN_BIT: tuple[tuple[Weights, Scaling], ...] = (
    ("float16", "channel"),
    ("float16", "tensor"),
    ("float16", "cast"),
    ("bfloat16", "channel"),
    ("bfloat16", "cast"),
    ("int16", "channel"),
)


@dataclass(kw_only=True, eq=False)
class SchNetCost(Sizes, Method[ForceField]):
    """Nothing is trained: random weights, frames of the data as replicas, all engines in one run."""

    engines: list[Literal["naive", "csr", "compiled", "tiled", "tiled_pairs", "ext", "ext_pairs", "triton"]]
    """Measured in turn; naive has to be one."""
    replicas: PositiveInt
    rounds: PositiveInt
    """Times that each is measured."""
    tile: PositiveInt

    def build(self, task: ForceField, run: Run) -> None:
        """A potential with random weights.

        Raises:
            BadInput: settings that don't go together, or an engine that can't run here.
        """
        if "naive" not in self.engines:
            raise BadInput("method.engines must hold naive: all others are compared with it")
        for name in self.engines:
            if reason := missing(name):
                raise BadInput(f"method.engines: {name}: {reason}")
        if self.replicas > len(task.positions):
            raise BadInput(f"method.replicas={self.replicas}: the data have {len(task.positions)} frames")
        self.model = run.adapt(self.schnet(task.num_types))

    def fit(self, task: ForceField, run: Run) -> None:
        """Nothing to learn."""

    def evaluate(self, task: ForceField, run: Run) -> dict[str, float]:
        """For each engine, one evaluation of energy and forces of the same weights, positions and neighbour list::

        engine_seconds/<engine>  CPU time (on a GPU until it is done), the median over rounds of all engines in turn
        speed/<engine>           naive's seconds / its own
        user_speed/<engine>      the same without the kernel's time, most of which are page faults
        memory/<engine>          bytes saved and held for the gradients and the tiles / naive's
        peak/<engine>            most bytes at once / naive's (not of ``compiled``: its buffers aren't seen)
        energy64/<engine>        largest difference of an energy to naive in float64, relative to it
        force64/<engine>         largest difference of a force's component, relative to the largest
        energy32/<engine>        in float32, to naive in float64: per bead, in the energy's unit
        force32/<engine>         in float32, to naive in float64, relative to the largest

        ``force_rms/<weights>_<scaling>``: RMS of the change of the forces by 16-bit weights over their own RMS, of
        naive; ``force_rms/drop_cutoff_grad``: likewise without the derivative of the filter's cutoff;
        ``weight_bytes/<weights>_<scaling>``: of the layers that are stored so, over float32's; ``edges``, directed;
        ``neighbours_per_bead``; ``engine_seconds/neighbours``: of finding them.
        """
        frames = torch.linspace(0, len(task.positions) - 1, self.replicas, device=task.positions.device).long()
        positions = task.positions[frames]
        found = find(positions, self.cutoff)
        single, double = copy.deepcopy(self.model).float(), copy.deepcopy(self.model).double()
        metrics = {
            "edges": float(found.edge_index.shape[1]),
            "neighbours_per_bead": found.edge_index.shape[1] / (self.replicas * positions.shape[1]),
        }
        metrics |= self._differences(double, single, task.types, positions, found)
        metrics |= _changed_forces(single, task.types, positions, found, self.tile)

        by_name = {name: make(name, single, task.types, tile=self.tile) for name in self.engines}
        calls: dict[str, Callable[[], object]] = {
            name: (lambda engine=engine: engine(positions, found))  # type: ignore[misc]
            for name, engine in by_name.items()
        }
        seconds = median_seconds({**calls, "neighbours": lambda: find(positions, self.cutoff)}, self.rounds)
        kept = {name: kept_bytes(engine, positions, found) for name, engine in by_name.items()}
        peaks = {name: run.step_bytes(call, single) for name, call in calls.items() if name != "compiled"}
        metrics |= {f"engine_seconds/{name}": value.cpu for name, value in seconds.items()}
        metrics |= {f"speed/{name}": seconds["naive"].cpu / seconds[name].cpu for name in by_name}
        metrics |= {f"user_speed/{name}": seconds["naive"].user / seconds[name].user for name in by_name}
        metrics |= {f"memory/{name}": value / kept["naive"] for name, value in kept.items()}
        metrics |= {f"peak/{name}": value / peaks["naive"] for name, value in peaks.items()}
        return metrics | {"naive_bytes": float(kept["naive"])}

    def _differences(
        self, double: SchNet, single: SchNet, types: Tensor, positions: Tensor, found: Neighbours
    ) -> dict[str, float]:
        energy, forces = make("naive", double, types)(positions, found)
        largest, metrics = forces.abs().max(), {}
        for name in self.engines:
            of_double, of_single = (make(name, model, types, tile=self.tile) for model in (double, single))
            if name != "compiled":  # it would be compiled once more
                ours, our_forces = of_double(positions, found)
                metrics[f"energy64/{name}"] = float(((ours - energy).abs() / energy.abs()).max())
                metrics[f"force64/{name}"] = float((our_forces - forces).abs().max() / largest)
            ours, our_forces = of_single(positions, found)
            metrics[f"energy32/{name}"] = float((ours.double() - energy).abs().max()) / positions.shape[1]
            metrics[f"force32/{name}"] = float((our_forces.double() - forces).abs().max() / largest)
        return metrics


def _changed_forces(
    potential: SchNet, types: Tensor, positions: Tensor, found: Neighbours, tile: int
) -> dict[str, float]:
    """By 16 bits, and by what the released kernels leave out."""
    forces = make("naive", potential, types)(positions, found)[1].double()

    def change(engine: Engine) -> float:
        changed = engine(positions, found)[1].double()
        return float((changed - forces).square().mean().sqrt() / forces.square().mean().sqrt())

    full = sum(layer.weight.nbytes for layer in sixteen_bit_layers(potential))
    metrics = {
        "force_rms/drop_cutoff_grad": change(make("tiled_pairs", potential, types, tile=tile, drop_cutoff_grad=True))
    }
    for weights, scaling in SIXTEEN_BIT:
        engine = make("naive", potential, types, weights=weights, scaling=scaling)
        metrics[f"force_rms/{weights}_{scaling}"] = change(engine)
        metrics[f"weight_bytes/{weights}_{scaling}"] = round_weights(copy.deepcopy(potential), weights, scaling) / full
    return metrics


class Seconds(NamedTuple):
    """CPU time of this process, all threads; on a GPU both are wall-clock time until it is done."""

    cpu: float
    user: float
    """Without the kernel's share: mostly page faults, of memory that the allocator gave back after the call before."""


def median_seconds(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Seconds]:
    """Each call's medians over the rounds, in which they take turns; one round before is not counted."""
    taken: dict[str, list[Seconds]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            begun = _clock()
            call()
            if number:
                taken[name].append(Seconds(*(end - begin for begin, end in zip(begun, _clock(), strict=True))))
    return {name: Seconds(*map(statistics.median, zip(*found, strict=True))) for name, found in taken.items()}


def _clock() -> Seconds:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        return Seconds(time.perf_counter(), time.perf_counter())
    return Seconds(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_utime)


def kept_bytes(engine: Engine, positions: Tensor, found: Neighbours) -> int:
    """What an evaluation saves for autograd, each storage once and weights left out, and holds by itself."""
    weights = {weight.untyped_storage().data_ptr() for weight in engine.potential.parameters()}
    saved: dict[int, int] = {}
    alive = []  # so that no storage is freed, and its place taken by another

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        engine(positions, found)
    return sum(saved.values()) + engine.held_bytes
