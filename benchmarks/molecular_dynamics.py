"""FlashSchNet's engines: energy and forces of a coarse-grained chain, against the naive engine and PyG's SchNet."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch_geometric.nn.models import SchNet as Public

from benchmarks.measure import Row
from runner import registry
from runner.methods.science.flashschnet.cost import kept_bytes, median_seconds
from runner.methods.science.flashschnet.engines import make, missing
from runner.methods.science.flashschnet.neighbours import Neighbours, find
from runner.methods.science.flashschnet.potential import SchNet

ROUNDS = 7
REPLICAS, CUTOFF = 8, 12.0
WIDTH, BASIS, BLOCKS = 128, 50, 3
LIMITS = {"ext_pairs": 1 / 1.5, "tiled_pairs": 1.0, "ext": 1 / 0.9}
"""Most time, as a share of the naive engine's."""
NAMES = ("csr", "compiled", "tiled", "tiled_pairs", "ext", "ext_pairs")


def engines() -> list[Row]:
    """CPU seconds of an evaluation, engines in turn; bytes kept for the gradients, and held for tiles. One thread.

    User time: what the kernel adds for memory that the allocator gave back before differs widely from call to call.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = registry.build(registry.read("dataset", "cg_chain")).load("ForceField")
    positions = task.positions[torch.linspace(0, len(task.positions) - 1, REPLICAS).long()]
    found = find(positions, CUTOFF)
    potential = SchNet(
        num_types=task.num_types,
        hidden=WIDTH,
        filters=WIDTH,
        num_basis=BASIS,
        num_blocks=BLOCKS,
        cutoff=CUTOFF,
        output_widths=(128, 64),
    )
    ways = {name: make(name, potential, task.types) for name in ("naive", *NAMES) if not missing(name)}
    calls: dict[str, Callable[[], object]] = {
        name: lambda engine=engine: engine(positions, found)  # type: ignore[misc]
        for name, engine in ways.items()
    }
    calls |= {"pyg": of_pyg(task.types, positions, found), "list": lambda: find(positions, CUTOFF)}
    seconds = median_seconds(calls, ROUNDS)
    kept = {name: kept_bytes(engine, positions, found) / 1e6 for name, engine in ways.items()}
    what = f"SchNet, {found.edge_index.shape[1]} edges"
    naive, fastest, public = seconds["naive"], seconds["ext_pairs"], seconds["pyg"]
    rows = [Row(f"{what}: the neighbour list", seconds["list"].user, "s")]
    for name in ways:
        if name != "naive":
            title = f"{what}: energy and forces, {name} against naive"
            rows.append(Row(title, seconds[name].user, "s", naive.user, LIMITS.get(name)))
    rows.append(Row(f"{what}: the same with page faults, ext_pairs", fastest.cpu, "s", naive.cpu))
    rows.append(Row(f"{what}: energy and forces, ext_pairs against PyG's SchNet", fastest.user, "s", public.user))
    for name in ways:
        if name.startswith(("tiled", "ext")):
            rows.append(Row(f"{what}: kept and held by {name}", kept[name], "MB", kept["naive"], 0.2))
    return rows


def of_pyg(types: Tensor, positions: Tensor, found: Neighbours) -> Callable[[], object]:
    """PyTorch Geometric's SchNet with the same sizes and the same list: energy and forces by autograd.

    It is another model of about the same cost: softplus, no cutoff in the basis, an output network of half the width.
    """
    replicas, beads, _ = positions.shape
    place = positions.flatten(0, 1).clone().requires_grad_()

    def graph(pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        source, destination = found.edge_index
        return found.edge_index, (pos[destination] - pos[source]).norm(dim=1)

    model = Public(WIDTH, WIDTH, BLOCKS, BASIS, CUTOFF, interaction_graph=graph).requires_grad_(False)
    z, batch = types.repeat(replicas), torch.arange(replicas).repeat_interleave(beads)

    def evaluate() -> Tensor:
        energy = model(z, place, batch)
        (gradient,) = torch.autograd.grad(energy.sum(), place)
        return gradient

    return evaluate
