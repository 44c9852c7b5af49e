"""From pixels, as a file gave them, to a task: which images, how they are framed, scaled and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from runner import fingerprint
from runner.contracts import Dataset, ImageClassification
from runner.errors import BadInput
from runner.types import NonNegativeInt, PositiveFloat, PositiveInt

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Pixels [n, C, H, W] and classes [n], as published."""


@dataclass(kw_only=True)
class Images(Dataset):
    """What all sets of labelled images share: how many are taken, and what is done to their pixels.

    x = (pool(pad(pixels)) / largest - mean) / std, mean and std per channel.
    """

    train_size: PositiveInt | None
    """Training images taken, class by class in proportion; None: all that validation leaves."""
    val_size: NonNegativeInt
    """Images of the published training set that are held out for validation, likewise."""
    test_size: PositiveInt | None
    """The first so many of the published test set; None: all."""
    draw: NonNegativeInt
    """Which random choice of training and validation images."""
    pad: NonNegativeInt
    """Black pixels added at each side."""
    pool: PositiveInt
    """Side of the squares of pixels that are averaged; 1: none."""
    mean: list[float]
    std: list[PositiveFloat]
    augmentation: Literal["none", "crop_flip"]

    def task(
        self, name: str, train: Labelled, test: Labelled, largest: int = 255, content: str | None = None
    ) -> ImageClassification:
        """The task; the fingerprint is of all that was published, whatever is taken of it (``content``, if given).

        Raises:
            BadInput: more images are asked for than there are, or ``mean`` and ``std`` don't fit the channels.
        """
        content = content or fingerprint.of_images(train=train, test=test)
        classes = int(train[1].max()) + 1
        chosen, held_out = self._drawn(train[1])
        scale = self._channels(self.mean, train[0], "mean"), self._channels(self.std, train[0], "std")

        def prepared(pixels: NDArray[np.uint8]) -> Tensor:
            x = torch.tensor(pixels, dtype=torch.float32)
            if self.pad:
                x = functional.pad(x, [self.pad] * 4)
            if self.pool > 1:
                x = functional.avg_pool2d(x, self.pool)
            return x.div_(largest).sub_(scale[0]).div_(scale[1])

        count = self._at_most(self.test_size, len(test[1]), "test_size")
        return ImageClassification(
            name=name,
            fingerprint=content,
            train_x=prepared(train[0][chosen]),
            train_y=torch.from_numpy(train[1][chosen]),
            val_x=prepared(train[0][held_out]),
            val_y=torch.from_numpy(train[1][held_out]),
            test_x=prepared(test[0][:count]),
            test_y=torch.from_numpy(test[1][:count]),
            train_index=torch.from_numpy(chosen),
            val_index=torch.from_numpy(held_out),
            num_classes=classes,
            published=(len(train[1]), len(test[1])),
            low=(0 - scale[0]) / scale[1],
            high=(1 - scale[0]) / scale[1],
            augmentation=self.augmentation,
        )

    def _drawn(self, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of the training and of the validation images, sorted; disjoint."""
        wanted = self._at_most(self.train_size, len(labels) - self.val_size, "train_size")
        order = proportional(labels, self.draw)
        return np.sort(order[self.val_size : self.val_size + wanted]), np.sort(order[: self.val_size])

    @staticmethod
    def _at_most(asked: int | None, available: int, key: str) -> int:
        if (asked is not None and asked > available) or available < 1:
            raise BadInput(f"dataset.{key}={asked}: there are {available} images to take from")
        return available if asked is None else asked

    @staticmethod
    def _channels(values: Sequence[float], pixels: NDArray[Any], key: str) -> Tensor:
        channels = pixels.shape[1]
        if len(values) not in (1, channels):
            raise BadInput(f"dataset.{key}: {len(values)} values for {channels} channels; give 1 or {channels}")
        return torch.tensor(values, dtype=torch.float32).expand(channels).reshape(channels, 1, 1).clone()


def proportional(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A random order of all places in which every stretch holds the classes in their proportions, as near as may be."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return by_class[np.argsort((rank + 0.5) / np.repeat(counts, counts), kind="stable")]
