"""The block: from an image and a noisy embedding to logits of the classes (the paper's figure 6).

Letters: B images of a batch, C channels, H x W pixels, K classes, D dimensions of an embedding, M width of a path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """What a block is made of."""

    kind: Literal["fc", "conv"]
    """How it looks at images."""
    image_widths: tuple[int, ...]
    """Hidden layers of the image path ``fc``."""
    channels: tuple[int, ...]
    """Convolutions of the image path ``conv``."""
    padding: int
    dropout: float
    width: int
    """M."""
    fuse_widths: tuple[int, ...]
    """Hidden layers after the paths are joined."""
    image: tuple[int, int, int]
    """(C, H, W)."""
    dim: int
    """D."""
    z_is_image: bool
    """The embedding is an image, and has a path like the image's."""
    classes: int
    time_dim: int | None
    """Length of the embedding of t: a block with a time path has no batch norm. None: a block of one step."""


def affine(widths: tuple[int, ...], norm: bool) -> list[nn.Module]:
    """Affine map, batch norm (if any) and ReLU from each width to the next."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), *([nn.BatchNorm1d(outputs)] if norm else []), nn.ReLU()]
    return layers


def image_path(shape: BlockShape, norm: bool) -> nn.Sequential:
    """From [B, C, H, W] to [B, M]; the last layer has batch norm and no ReLU, or ReLU and no batch norm."""
    layers: list[nn.Module] = []
    if shape.kind == "conv":
        inputs, last = shape.image[0], len(shape.channels) - 1
        for place, channels in enumerate(shape.channels):
            layers += [nn.Conv2d(inputs, channels, 3, padding=shape.padding), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if place in (0, last) else []
            layers += [nn.Dropout(shape.dropout)]
            inputs = channels
        layers += [nn.Flatten()]
        with torch.no_grad():
            features = nn.Sequential(*layers).eval()(torch.zeros(1, *shape.image)).shape[1]
    else:
        features = math.prod(shape.image)
        layers += [nn.Flatten(), *affine((features, *shape.image_widths), norm=False)]
        features = (features, *shape.image_widths)[-1]
    layers += [nn.Linear(features, shape.width), nn.BatchNorm1d(shape.width) if norm else nn.ReLU()]
    return nn.Sequential(*layers).train()


class Residual(nn.Module):
    """h + f(h)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*layers)

    def forward(self, h: Tensor) -> Tensor:
        """Of h's shape."""
        out: Tensor = h + self.inner(h)
        return out


class Block(nn.Module):
    """Paths for the image, the noisy embedding and perhaps the time, joined and fused to logits."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        timed, width = shape.time_dim is not None, shape.width
        self.time_dim = shape.time_dim
        self.image = image_path(shape, norm=not timed)
        if shape.z_is_image:
            self.z = nn.Sequential(nn.Unflatten(1, shape.image), image_path(shape, norm=not timed))
        elif timed:
            self.z = nn.Sequential(*affine((shape.dim, width), norm=False))
        else:
            inner = [*affine((width, width), norm=True), nn.Linear(width, width), nn.BatchNorm1d(width)]
            self.z = nn.Sequential(*affine((shape.dim, width), norm=True), Residual(*inner))
        self.time = nn.Sequential(*affine((shape.time_dim, width), norm=False)) if shape.time_dim else None
        fused = (width * (3 if timed else 2), *shape.fuse_widths)
        self.fuse = nn.Sequential(*affine(fused, norm=not timed), nn.Linear(fused[-1], shape.classes))

    def forward(self, z: Tensor, seen: Tensor, t: Tensor | None = None) -> Tensor:
        """Logits [B, K].

        Args:
            z: noisy embeddings [B, D].
            seen: what ``image`` made of the images, [B, M]: it depends on neither z nor t.
            t: times in [0, 1], [B] or [1] for all alike.
        """
        parts = [seen, self.z(z)]
        if self.time is not None and t is not None:
            parts.append(self.time(positions(t, self.time[0].in_features)).expand(len(z), -1))
        logits: Tensor = self.fuse(torch.cat(parts, dim=1))
        return logits


def positions(t: Tensor, dim: int) -> Tensor:
    """Sines and cosines of 1000 t / 10000^(2 i / dim), i < dim / 2: [n, dim] for t [n] in [0, 1]."""
    rate = torch.exp(torch.arange(dim // 2, device=t.device, dtype=t.dtype) * (-2 * math.log(10000) / dim))
    angle = 1000 * t.unsqueeze(1) * rate
    return torch.cat([angle.sin(), angle.cos()], dim=1)
