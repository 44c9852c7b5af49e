"""NoProp and CCL on genuine images: blocks in processes, the image path once, saved activations by depth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.measure import Row, interleaved, seconds
from runner import registry
from runner.compose import compose
from runner.contracts import ImageClassification

WORKERS = 2
ROUNDS = 5
IMAGES = ["dataset=mnist", "dataset.train_size=1000", "dataset.val_size=0", "dataset.test_size=500"]


def _built(*overrides: str) -> tuple[Any, ImageClassification]:
    """A method for MNIST, and the task."""
    torch.set_num_threads(1)
    config = compose([*IMAGES, *overrides]).config
    task: ImageClassification = registry.build(config["dataset"]).load("ImageClassification")
    method = registry.build(config["method"])
    torch.manual_seed(0)
    method.build(task, SimpleNamespace(adapt=lambda module: module, device=torch.device("cpu")))
    return method, task


def blocks_in_processes() -> list[Row]:
    """An epoch of NoProp-DT's five blocks and head, in processes against one after the other; and the start."""
    from runner.methods.learning_rules.noprop.workers import Workers

    rows = []
    for block, images in {"fc": 5000, "conv": 640}.items():
        line = ["method=noprop_dt", f"method.block={block}", f"dataset.train_size={images}"]
        method, task = _built(*line)
        alone, beside = method.learners(), _built(*line)[0].learners()
        with Workers(WORKERS, beside, task, method.batch_size) as workers:
            start = seconds(workers.wait)
            seeds = [(place,) for place in range(len(alone))]
            workers.epoch(seeds)  # hands over the task

            def one_by_one(
                alone: Any = alone, task: Any = task, seeds: Any = seeds, size: int = method.batch_size
            ) -> None:
                for learner, seed in zip(alone, seeds, strict=True):
                    learner.epoch(task, size, seed)

            calls = (lambda w=workers, s=seeds: w.epoch(s), one_by_one)
            medians = interleaved([lambda call=call: seconds(call) for call in calls], ROUNDS)  # type: ignore[misc]
        what = f"NoProp-DT, epoch of 5 {block} blocks, {images} images, {WORKERS} processes against one after the other"
        rows.append(Row(what, medians[0], "s", medians[1]))
        rows.append(Row(f"NoProp-DT, {block}: start of {WORKERS} processes", start, "s"))
    return rows


def image_path_once() -> list[Row]:
    """A walk of NoProp-CT over 500 images, their view computed once against in every step."""
    rows = []
    for block in ("fc", "conv"):
        method, task = _built("method=noprop_ct", f"method.block={block}")
        network = method.network.eval()

        def each_step(network: Any = network, method: Any = method, task: Any = task) -> None:
            clean = network.clean
            network.clean = lambda part, z, _, t: clean(part, z, part.image(task.test_x), t)
            try:
                method.predict(task.test_x)
            finally:
                del network.clean

        with torch.no_grad():
            calls = (lambda m=method, t=task: m.predict(t.test_x), each_step)
            medians = interleaved([lambda call=call: seconds(call) for call in calls], ROUNDS)  # type: ignore[misc]
        what = f"NoProp-CT, walk of {method.inference_steps} steps, {block}: image path once against in each"
        rows.append(Row(what, medians[0], "s", medians[1], 1.0))
    return rows


def activations_by_depth() -> list[Row]:
    """Saved-activation bytes of NoProp-DT and of CCL against back-propagation through the same, by depth."""
    from tempfile import TemporaryDirectory

    from runner.execute import make_exist
    from runner.stored import identify_run

    pairs = {
        f"NoProp-DT against BP, {blocks} blocks": [
            [f"method={method}", f"method.blocks={blocks}"] for method in ("noprop_dt", "noprop_backprop")
        ]
        for blocks in (2, 5, 10)
    } | {
        f"CCL against BP, {layers} layers": [
            [f"method={method}", "model=perceptron_elu", f"model.hidden={[256] * (layers - 1)}"]
            for method in ("ccl", "backprop_image")
        ]
        for layers in (2, 4, 6)
    }
    rows = []
    with TemporaryDirectory() as folder:
        for what, lines in pairs.items():
            megabytes = []
            for line in ([*chosen, *IMAGES, "limit=3", f"home={folder}"] for chosen in lines):
                outcome = make_exist(identify_run(compose(line)), line)
                megabytes.append(outcome.metrics["saved_activation_bytes"] / 1e6)
            rows.append(Row(f"activations of {what}", megabytes[0], "MB", megabytes[1]))
    return rows
