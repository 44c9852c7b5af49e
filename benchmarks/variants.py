"""ForwardGNN's variants on Cora: a training epoch against a direct implementation, and activations by depth."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.measure import Row, interleaved, seconds
from benchmarks.training import task_of
from runner import registry
from runner.compose import compose
from runner.contracts import NodeClassification

LAYERS = 2
ROUNDS = 5


def _method(task: NodeClassification, name: str, *overrides: str) -> tuple[Any, Any]:
    """A built method of this name, and what it saw of a run."""
    config = compose([f"method={name}", "dataset=cora", f"model.num_layers={LAYERS}", *overrides]).config
    backbone = registry.build(config["model"])
    run = SimpleNamespace(
        backbone=backbone,
        block=backbone.block,
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
    )
    method = registry.build(config["method"])
    method.build(task, run)
    return method, run


def _pair(what: str, ours: Callable[[], object], direct: Callable[[], object]) -> Row:
    medians = interleaved([lambda: 1e3 * seconds(ours), lambda: 1e3 * seconds(direct)], ROUNDS)
    return Row(what, medians[0], "ms", medians[1], 1.0)


def epochs_against_direct() -> list[Row]:
    """An epoch of each variant against the same algorithm pass by pass with PyTorch Geometric's ``GCNConv``."""
    torch.set_num_threads(1)
    task = task_of("cora")
    return [*_forward_forward(task), *_top_down(task)]


def _forward_forward(task: NodeClassification) -> list[Row]:
    from runner.methods.graph.forwardgnn.forward_forward import wrong_labels
    from runner.methods.graph.forwardgnn.layer import FixedInputLayer
    from tests.methods.reference_forwardgnn import ForwardForwardReference, gcn_layers

    rows = []
    for variant in ("vn", "la"):
        method, _ = _method(task, "forwardgnn_ff", f"method.variant={variant}")
        wrong = wrong_labels(task.y[task.train], task.num_classes, torch.Generator().manual_seed(0))
        labels = torch.cat([task.y[task.train].unsqueeze(0), wrong])
        blocks = method.model.layers
        virtual = method.model.virtual_features
        direct = ForwardForwardReference(task, gcn_layers(blocks), labels, variant=variant, virtual=virtual)
        passes = method._passes(task, [], task.train, labels)
        for number, block in enumerate(blocks):
            layer = FixedInputLayer(block, passes.x, passes.graph)
            optimizer = torch.optim.Adam(block.parameters(), lr=0.01, weight_decay=5e-4, fused=True)
            z = layer.at(passes.rows)

            def step(z: Any = z, optimizer: Any = optimizer, passes: Any = passes, method: Any = method) -> None:
                optimizer.zero_grad()
                method.loss(passes.goodness(z())).backward()
                optimizer.step()

            name = f"FF-{variant.upper()} epoch, layer {number + 1}, all passes at once against one by one"
            rows.append(_pair(name, step, lambda d=direct, n=number: d.epoch(n)))  # type: ignore[misc]
            with torch.no_grad():
                passes = passes.onward(method._next_training_input(layer, passes))
            direct.freeze(number)
    return rows


def _top_down(task: NodeClassification) -> list[Row]:
    from tests.methods.reference_forwardgnn import TopToInputReference, TopToLossReference, gcn_layers

    rows = []
    for variant, reference in (("to_input", TopToInputReference), ("to_loss", TopToLossReference)):
        method, run = _method(task, "forwardgnn_topdown", f"method.variant={variant}")
        direct = reference(task, gcn_layers(method.model.layers), virtual=method.model.virtual_features)
        layers = method._layers(task, run)
        layers.start()
        optimizers = [
            torch.optim.Adam(block.parameters(), lr=0.01, weight_decay=5e-4, fused=True)
            for block in method.model.layers
        ]
        rows.append(_pair(f"top-down {variant}, epoch", lambda: layers.step(optimizers), direct.epoch))  # noqa: B023
        predict = f"top-down {variant}, validation"
        rows.append(_pair(predict, lambda: layers.predict(task.val), lambda: direct.probabilities(task.val)))  # noqa: B023
    return rows


def activations_by_depth() -> list[Row]:
    """Saved-activation bytes of SF and BP on Cora, by depth, as runs record them."""
    from tempfile import TemporaryDirectory

    from runner.execute import make_exist
    from runner.stored import identify_run

    rows = []
    with TemporaryDirectory() as folder:
        for depth in (1, 2, 3, 4):
            megabytes = []
            for method in ("forwardgnn", "backprop"):
                line = [f"method={method}", "dataset=cora", f"model.num_layers={depth}", "limit=4", f"home={folder}"]
                outcome = make_exist(identify_run(compose(line)), line)
                megabytes.append(outcome.metrics["saved_activation_bytes"] / 1e6)
            rows.append(Row(f"activations of SF against BP, {depth} layers", megabytes[0], "MB", megabytes[1]))
    return rows
