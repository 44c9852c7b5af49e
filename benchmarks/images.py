"""What images cost: an epoch through the pipeline against the bare tensor operations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.measure import Row, interleaved, seconds
from runner import registry
from runner.compose import compose
from runner.contracts import ImageClassification
from runner.methods.ops.minibatches import minibatches

BATCH, ROUNDS = 128, 7


def pipeline() -> list[Row]:
    """An epoch of 28 x 28 images with one affine layer's forward pass on each batch, and the augmentation alone."""
    section = compose(["method=backprop_image", "dataset=fashion_mnist", "dataset.val_size=0"]).config["dataset"]
    task: ImageClassification = registry.build(section).load("ImageClassification")
    weight = torch.randn(10, 784)
    generator = torch.Generator().manual_seed(0)

    def step(x: Tensor, y: Tensor) -> None:
        functional.cross_entropy(x.flatten(1) @ weight.T, y)

    def ours() -> None:
        for x, y in minibatches(task, BATCH, generator):
            step(x, y)

    def bare() -> None:
        order = torch.randperm(len(task.train_y), generator=generator)
        for start in range(0, len(order), BATCH):
            index = order[start : start + BATCH]
            step(task.train_x[index], task.train_y[index])

    times = interleaved([lambda: seconds(ours), lambda: seconds(bare)], ROUNDS)
    return [Row("images: epoch of Fashion-MNIST against bare tensor operations", times[0], "s", times[1], limit=1.1)]
