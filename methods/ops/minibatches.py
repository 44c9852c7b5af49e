"""Batches of training images in random order, augmented on the device that they lie on.

Letters: B images of a batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from runner.contracts import ImageClassification

CROP = 4
"""Black pixels around an image before it is cropped back to its size (He et al., CVPR 2016, section 4.2)."""


def minibatches(
    task: ImageClassification, size: int, generator: torch.Generator, *, drop_last: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: images [B, C, H, W] and classes [B], every training image once.

    Args:
        task: gives images, classes and the augmentation.
        size: B; the last batch may be smaller.
        generator: a CPU generator that draws order and augmentation.
        drop_last: leave out a smaller last batch.
    """
    x, y = task.train_x, task.train_y
    for index in torch.randperm(len(y), generator=generator).to(x.device).split(size):
        if len(index) < size and drop_last:
            return
        yield _augmented(task, x[index], generator), y[index]


def stream(
    task: ImageClassification, size: int, first: int, stop: int, seed: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches ``first``, …, ``stop`` - 1 of an endless row, all of them full.

    The row is one random order of all training images after the other; a batch may reach from one into the next. Which
    images a batch holds is a function of ``seed`` and its number alone, so that nothing has to be kept to go on.

    Args:
        task: gives images, classes and the augmentation.
        size: B.
        first: number of the first batch, from 0.
        stop: number of the batch at which to stop.
        seed: decides the orders.
        generator: a CPU generator that draws the augmentation.
    """
    count = len(task.train_y)
    begin, end = first * size, stop * size
    passes = range(begin // count, -(-end // count))
    orders = [torch.randperm(count, generator=torch.Generator().manual_seed(seed + number)) for number in passes]
    start = passes.start * count
    for index in torch.cat(orders)[begin - start : end - start].to(task.train_x.device).split(size):
        yield _augmented(task, task.train_x[index], generator), task.train_y[index]


def _augmented(task: ImageClassification, batch: Tensor, generator: torch.Generator) -> Tensor:
    return cropped_and_flipped(batch, task.low, generator) if task.augmentation == "crop_flip" else batch


def cropped_and_flipped(x: Tensor, black: Tensor, generator: torch.Generator) -> Tensor:
    """Each image padded by ``CROP`` black pixels, cropped at random to its size, mirrored with probability 1/2.

    Args:
        x: [B, C, H, W].
        black: [C, 1, 1], what a black pixel is.
        generator: a CPU generator.
    """
    count, _, height, width = x.shape
    padded = functional.pad(x - black, [CROP] * 4)
    corner = torch.randint(2 * CROP + 1, (2, count), generator=generator).to(x.device)
    flip = torch.rand(count, generator=generator).to(x.device) < 0.5
    across = torch.arange(width, device=x.device)
    row = corner[0, :, None] + torch.arange(height, device=x.device)
    column = corner[1, :, None] + torch.where(flip[:, None], across.flip(0), across)
    image = torch.arange(count, device=x.device)
    picked = padded.permute(0, 2, 3, 1)[image[:, None, None], row[:, :, None], column[:, None, :]]
    return picked.permute(0, 3, 1, 2) + black
