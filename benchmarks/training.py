"""Training on genuine Cora: the runner against a bare script, ours against PyTorch Geometric's, cached against not."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn import functional

from benchmarks.measure import Row, interleaved, seconds
from runner import registry
from runner.compose import compose
from runner.contracts import NodeClassification
from runner.execute import make_exist
from runner.hardware.torch_device import TorchDevice
from runner.stored import identify_run

EPOCHS = 200
ROUNDS = 9
THREADS = 2


def task_of(dataset: str) -> NodeClassification:
    """A dataset's node classification, split 0."""
    config = compose([f"dataset={dataset}", "method=backprop"]).config
    task: NodeClassification = registry.build(config["dataset"]).load("NodeClassification")
    return task


def runner_against_bare_script() -> list[Row]:
    """200 epochs of a 2-layer GCN on Cora: seconds of training as the runner records them, against a bare loop."""
    from runner.methods.models.gcn import GCN
    from runner.methods.ops.graph import Graph
    from runner.methods.ops.sparse import compact

    task = task_of("cora")
    hardware: TorchDevice = registry.build(compose(["dataset=cora", "method=backprop"]).config["hardware"])
    hardware.threads = THREADS
    rerun = iter(range(10**6))

    def ours() -> float:
        line = ["method=backprop", "dataset=cora", f"method.epochs={EPOCHS}", "method.patience=1000"]
        line += [f"home={folder}", f"seed={0}", "rerun=true", f"tracking.experiment=bench{next(rerun)}"]
        outcome = make_exist(identify_run(compose([*line, f"hardware.threads={THREADS}"])), line)
        assert outcome.status == "finished"
        return outcome.metrics["fit_seconds"]

    def bare() -> float:
        torch.manual_seed(0)
        backbone = GCN(hidden_channels=128, num_layers=2, init="default", init_operator="own", init_signal="mean")
        model = backbone.network(task.num_features, task.num_classes)

        def train() -> None:
            x, graph = compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype)
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4, fused=True)
            best, kept = -1.0, {}
            for epoch in range(1, EPOCHS + 1):
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(x, graph)[task.train], task.y[task.train])
                loss.backward()
                optimizer.step()
                loss.item()
                if epoch % 2 == 0:
                    with torch.no_grad():
                        score = float((model(x, graph)[task.val].argmax(1) == task.y[task.val]).float().mean())
                    if score > best:
                        best, kept = score, {name: value.clone() for name, value in model.state_dict().items()}
            model.load_state_dict(kept)

        with hardware.entered():  # the same training: as many threads, and as deterministic
            return seconds(train)

    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with TemporaryDirectory() as folder:
            medians = interleaved([ours, bare], ROUNDS)
    finally:
        torch.set_num_threads(threads)
    return [Row(f"{EPOCHS} epochs of GCN on Cora, the runner against a bare script", *_pair(medians, "s"), 1.05)]


def _pair(medians: list[float], unit: str) -> tuple[float, str, float]:
    return medians[0], unit, medians[1]


def epoch_against_pyg() -> list[Row]:
    """One epoch of back-propagation, ours against the loop of PyTorch Geometric's own GCN example."""
    from torch_geometric.nn import GATConv, GCNConv, SAGEConv

    from runner.methods.ops.graph import Graph
    from runner.methods.ops.sparse import compact

    convolutions: dict[str, Any] = {
        "gcn": lambda i, o, last: GCNConv(i, o, cached=True),
        "sage": lambda i, o, last: SAGEConv(i, o),
        "gat": lambda i, o, last: GATConv(i, o if last else o // 4, heads=4, concat=not last),
    }
    task = task_of("cora")
    rows = []
    torch.set_num_threads(THREADS)
    for name, convolution in convolutions.items():
        backbone = registry.build(registry.read("model", name))
        ours_model = backbone.network(task.num_features, task.num_classes)
        x, graph = compact(task.x), Graph(task.edge_index, task.num_nodes, task.x.dtype)
        first, last = convolution(task.num_features, 128, False), convolution(128, task.num_classes, True)

        def ours(model: Any = ours_model, x: Any = x, graph: Any = graph) -> torch.Tensor:
            out: torch.Tensor = model(x, graph)
            return out

        def theirs(first: Any = first, last: Any = last) -> torch.Tensor:
            out: torch.Tensor = last(first(task.x, task.edge_index).relu(), task.edge_index)
            return out

        parameters = [ours_model.parameters(), [*first.parameters(), *last.parameters()]]
        steps = [
            _step(forward, torch.optim.Adam(params, lr=0.01, weight_decay=5e-4), task)
            for forward, params in zip((ours, theirs), parameters, strict=True)
        ]
        medians = interleaved([lambda s=s: 1e3 * seconds(s) for s in steps], 40)  # type: ignore[misc]
        rows.append(Row(f"epoch of {name} on Cora against PyTorch Geometric's", *_pair(medians, "ms"), 1.05))
    return rows


def _step(forward: Any, optimizer: torch.optim.Optimizer, task: NodeClassification) -> Any:
    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(forward()[task.train], task.y[task.train]).backward()
        optimizer.step()

    return step


def cached_against_uncached() -> list[Row]:
    """One training epoch of SF's layers on Cora: aggregate kept and rows selected, against all of it each time."""
    from runner.methods.graph.forwardgnn.layer import FixedInputLayer, unit_rows
    from runner.methods.graph.forwardgnn.virtual_nodes import augmented_graph, with_virtual
    from runner.methods.ops.sparse import compact, stack

    task = task_of("cora")
    torch.set_num_threads(THREADS)
    graph = augmented_graph(task, "bidirection")
    virtual = torch.randn(task.num_classes, task.num_features)
    rows = []
    for name in ("gcn", "sage"):
        backbone = registry.build(registry.read("model", name))
        hidden = unit_rows(torch.rand(graph.num_nodes, 128))
        inputs = {
            1: (stack(unit_rows(compact(task.x)), unit_rows(virtual)), unit_rows(torch.cat([task.x, virtual]))),
            2: (hidden, hidden),
        }
        for number, (x, dense) in inputs.items():
            block = backbone.block(dense.shape[1], 128)
            optimizer = torch.optim.Adam(block.parameters(), lr=0.01)
            index = with_virtual(task.train, task)
            cached = FixedInputLayer(block, x, graph).at(index)

            def uncached(block: Any = block, dense: Any = dense, index: Any = index) -> torch.Tensor:
                out: torch.Tensor = block(dense, graph).relu()[index]
                return out

            def step(forward: Any, optimizer: Any = optimizer) -> None:
                optimizer.zero_grad()
                z = forward()
                logits = z[: -task.num_classes] @ z[-task.num_classes :].T
                functional.cross_entropy(logits, task.y[task.train]).backward()
                optimizer.step()

            medians = interleaved(
                [lambda f=f, step=step: 1e3 * seconds(lambda: step(f)) for f in (cached, uncached)],
                40,  # type: ignore[misc]
            )
            rows.append(Row(f"SF epoch of {name}, layer {number}, cached against uncached", *_pair(medians, "ms")))
    return rows
