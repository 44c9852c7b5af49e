"""What NoProp's variants and its baselines share: embedding, blocks, head, and the test by random walks.

Letters: B images of a batch, K classes, D dimensions of an embedding.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from runner.contracts import ImageClassification, ImageSplit
from runner.errors import BadInput
from runner.methods.learning_rules.noprop.blocks import Block, BlockShape
from runner.methods.learning_rules.noprop.embedding import LabelEmbedding, OutHead
from runner.methods.learning_rules.rule import EVALUATED_AT_ONCE, Classifier
from runner.types import NonNegativeInt, PositiveFloat, PositiveInt, Probability

if TYPE_CHECKING:
    from runner.run import Run


class Network(nn.Module):
    """Embedding, head and blocks: all that a prediction needs; CT adds its ``schedule``, back-propagation ``gates``."""

    def __init__(self, embedding: LabelEmbedding, head: OutHead, blocks: list[Block]) -> None:
        super().__init__()
        self.embedding = embedding
        self.head = head
        self.blocks = nn.ModuleList(blocks)

    def clean(self, block: nn.Module, z: Tensor, seen: Tensor, t: Tensor | None = None) -> Tensor:
        """uhat [B, D]: the mean of the embeddings by the block's class probabilities."""
        uhat: Tensor = block(z, seen, t).softmax(1) @ self.embedding.W
        return uhat

    def classify(self, z: Tensor) -> Tensor:
        """The head's logits [B, K] for z [B, D]."""
        logits: Tensor = self.head(z, self.embedding)
        return logits


@dataclass(kw_only=True, eq=False)
class NoProp(Classifier):
    """A classifier that walks from noise to a class's embedding, each step seeing the image."""

    embedding: Literal["one_hot", "learned", "prototype"]
    embedding_dim: PositiveInt
    """D of ``learned``."""
    head: Literal["linear", "posterior"]
    head_start: Literal["embedding", "random"]
    head_scale: PositiveFloat
    head_sigma: PositiveFloat
    """Of ``posterior``."""
    block: Literal["fc", "conv"]
    image_widths: list[PositiveInt]
    channels: list[PositiveInt]
    padding: NonNegativeInt
    dropout: Probability
    width: PositiveInt
    fuse_widths: list[PositiveInt]
    inference_runs: PositiveInt
    """Walks from different noise whose accuracies are averaged."""
    inference_seed: NonNegativeInt

    drop_last: ClassVar[bool] = True  # batch norm knows no batch of one image

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int | None]:
        """How many blocks there are, and the length of their embedding of t (None: blocks of one step)."""

    def build(self, task: ImageClassification, run: Run) -> None:
        """Embedding, head, blocks, and what a variant adds.

        Raises:
            BadInput: the batch is larger than the training set, or of one image; the embedding of t has odd length.
        """
        if not 2 <= self.batch_size <= len(task.train_y):
            raise BadInput(
                f"method.batch_size={self.batch_size}: must be 2 to {len(task.train_y)}, the number of training images "
                "(an incomplete last batch is left out)"
            )
        count, time_dim = self.shape
        if time_dim is not None and time_dim % 2:
            raise BadInput(f"method.time_embedding={time_dim}: must be even, sines and cosines")
        embedding = LabelEmbedding(self.embedding, self.embedding_dim, task)
        head = OutHead(self.head, self.head_start, self.head_scale, self.head_sigma, embedding)
        shape = BlockShape(
            kind=self.block,
            image_widths=tuple(self.image_widths),
            channels=tuple(self.channels),
            padding=self.padding,
            dropout=self.dropout,
            width=self.width,
            fuse_widths=tuple(self.fuse_widths),
            image=task.shape,
            dim=embedding.W.shape[1],
            z_is_image=self.embedding == "prototype",
            classes=task.num_classes,
            time_dim=time_dim,
        )
        network = Network(embedding, head, [Block(shape) for _ in range(count)])
        self.extend(network)
        self.network = network
        self.model = run.adapt(network)

    def extend(self, network: Network) -> None:
        """Add a variant's own parameters to the network, if it has any."""
        return

    @abstractmethod
    def walk(self, z: Tensor, seen: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """From noise z_0 [B, D] to the embeddings after each block, or to the last one alone.

        Args:
            z: z_0.
            seen: each block's view of the images, [B, M].
            generator: draws further noise, on the CPU.
        """

    @abstractmethod
    def set_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """Leave the gradients of a training step in all that learns, for a batch [B, …] with classes [B]; the loss."""

    def scored(self, z: Tensor) -> Tensor:
        """Scores [B, K] of the end of a walk, the highest at the predicted class."""
        scores: Tensor = self.network.classify(z)
        return scores

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        """z_0 ~ N(0, I) for so many images."""
        return self.noise((count, self.network.embedding.W.shape[1]), generator)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """N(0, I), the same on every device."""
        matrix: Tensor = self.network.embedding.W
        return torch.randn(shape, generator=generator, dtype=matrix.dtype).to(matrix.device)

    def see(self, x: Tensor) -> list[Tensor]:
        """Each block's view of images [B, …]: computed once, whatever the number of steps and walks."""
        return [block.image(x) for block in self.network.blocks]

    def predict(self, x: Tensor) -> Tensor:
        """Scores [B, K] of one walk."""
        generator = torch.Generator().manual_seed(self.inference_seed)
        return self.scored(self.walk(self.start(len(x), generator), self.see(x), generator)[-1])

    def evaluate(self, task: ImageClassification, run: Run) -> dict[str, float]:
        """``test_acc``, and likewise for the other splits, as means over the walks.

        Beside the head's, ``test_acc_nearest`` is the accuracy of the nearest embedding, where walks have steps of
        their own ``test_acc_nearest/block1``, …; ``test_acc_walks_std`` is the deviation between walks;
        ``embedding_gap`` the distance of the two classes whose embeddings are nearest. And what a step costs.
        """
        metrics = self._tested(task, "test", run) | {"train_acc": self._tested(task, "train")["train_acc"]}
        if len(task.val_y):
            metrics["val_acc"] = self._tested(task, "val")["val_acc"]
        metrics["embedding_gap"] = self.network.embedding.gap()
        return metrics | self.step_costs(self.set_gradients, task, run)

    @torch.no_grad()
    def _tested(self, task: ImageClassification, split: ImageSplit, run: Run | None = None) -> dict[str, float]:
        self.model.eval()
        x, y = task.part(split)
        generator = torch.Generator().manual_seed(self.inference_seed)
        probability, hits, nearest = [], [], []
        for images, labels in zip(x.split(EVALUATED_AT_ONCE), y.split(EVALUATED_AT_ONCE), strict=True):
            seen = self.see(images)
            walks = [self.walk(self.start(len(labels), generator), seen, generator) for _ in range(self.inference_runs)]
            scores = torch.stack([self.scored(walk[-1]) for walk in walks])
            probability.append(scores.softmax(2).mean(0))
            hits.append((scores.argmax(2) == labels).sum(1))
            steps = torch.stack([torch.stack([self.network.embedding.nearness(z) for z in walk]) for walk in walks])
            nearest.append((steps.argmax(3) == labels).sum((0, 2)))
        # from counts, in Python: a share is no number of an emulated format
        accuracies = [right / len(y) for right in torch.stack(hits).sum(0).tolist()]
        by_step = [right / (len(y) * self.inference_runs) for right in torch.stack(nearest).sum(0).tolist()]
        name = f"{split}_acc"
        metrics = {name: fmean(accuracies), f"{name}_nearest": by_step[-1], f"{name}_walks_std": pstdev(accuracies)}
        if len(by_step) > 1:
            metrics |= {f"{name}_nearest/block{number}": value for number, value in enumerate(by_step, 1)}
        if run is not None:
            run.save("predictions", {"label": y, "probability": torch.cat(probability)})
        return metrics
