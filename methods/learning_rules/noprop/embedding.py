"""Classes as points: the embedding, and the head that reads a class off a noisy point.

Letters: B images of a batch, K classes, D dimensions of an embedding, u_y row y of the embedding W [K, D].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from runner.contracts import ImageClassification
from runner.errors import BadInput

Kind = Literal["one_hot", "learned", "prototype"]


class LabelEmbedding(nn.Module):
    """W: a fixed identity, or learned from orthogonal rows or from typical images."""

    W: Tensor

    def __init__(self, kind: Kind, dim: int, task: ImageClassification) -> None:
        """``dim``: D of ``learned``; that of the others follows from the task.

        Raises:
            BadInput: a class without a training image has no prototype.
        """
        super().__init__()
        if kind == "one_hot":
            self.register_buffer("W", torch.eye(task.num_classes))
        elif kind == "learned":
            # rows can only be orthogonal where there is room for them
            start = nn.init.orthogonal_ if task.num_classes <= dim else nn.init.normal_
            self.W = nn.Parameter(start(torch.empty(task.num_classes, dim)))
        else:
            if len(task.train_y.unique()) < task.num_classes:
                raise BadInput("method.embedding=prototype needs a training image of every class; take more of them")
            self.W = nn.Parameter(typical_images(task.train_x.flatten(1), task.train_y, task.num_classes))

    @property
    def learned(self) -> bool:
        """Whether W changes in training."""
        return self.W.requires_grad

    def forward(self, y: Tensor) -> Tensor:
        """u_y [B, D] for classes [B]."""
        return self.W[y]

    def nearness(self, z: Tensor) -> Tensor:
        """-||z - u_k||^2, up to a term that is the same for all k: [B, K] for z [B, D]."""
        return 2 * z @ self.W.T - self.W.square().sum(1)

    @torch.no_grad()
    def gap(self) -> float:
        """Of any two classes the smallest ||u_j - u_k||; 0 for a single class."""
        return float(torch.pdist(self.W).min()) if len(self.W) > 1 else 0.0


def noised(u: Tensor, abar: Tensor) -> Tensor:
    """A draw from N(sqrt(abar) u, (1 - abar) I), for u [B, D] and abar a scalar or [B, 1]."""
    return abar.sqrt() * u + (1 - abar).sqrt() * torch.randn_like(u)


def typical_images(x: Tensor, y: Tensor, classes: int) -> Tensor:
    """Of each class the image whose distances to the others of its class have the smallest median.

    Args:
        x: images [n, D].
        y: their classes [n]; every class occurs.
        classes: K.

    Returns:
        [K, D].
    """
    return torch.stack([_typical(x[y == label]) for label in range(classes)])


def _typical(x: Tensor) -> Tensor:
    others = len(x) - 1
    if not others:
        return x[0]
    distances = torch.cdist(x, x).fill_diagonal_(torch.inf).sort(1).values
    medians = (distances[:, (others - 1) // 2] + distances[:, others // 2]) / 2
    return x[medians.argmin()]


class OutHead(nn.Module):
    """Logits of the classes for a point z [B, D].

    ``linear``: f(z). ``posterior``: with ytilde = softmax(f(z)) W, logit k is -||ytilde - u_k||^2 / (2 sigma^2).
    """

    def __init__(
        self,
        kind: Literal["linear", "posterior"],
        start: Literal["embedding", "random"],
        scale: float,
        sigma: float,
        embedding: LabelEmbedding,
    ) -> None:
        """``start`` ``embedding``: f's row k is scale u_k / ||u_k||, its bias 0; ``random``: torch's own."""
        super().__init__()
        classes, dim = embedding.W.shape
        self.kind = kind
        self.sigma = sigma
        self.linear = nn.Linear(dim, classes)
        if start == "embedding":
            with torch.no_grad():
                self.linear.weight.copy_(scale * nn.functional.normalize(embedding.W))
                self.linear.bias.zero_()

    def forward(self, z: Tensor, embedding: LabelEmbedding) -> Tensor:
        """[B, K]."""
        logits: Tensor = self.linear(z)
        if self.kind == "posterior":
            return embedding.nearness(logits.softmax(1) @ embedding.W) / (2 * self.sigma**2)
        return logits
