"""From a directed graph's arrays to a task: classes of nodes, or of ordered pairs of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from runner import fingerprint
from runner.contracts import Dataset, NodeClassification, PairClassification
from runner.datasets.graph_tasks import normalize_rows_, simple_edges
from runner.datasets.node_splits import Split, per_class, random_nodes
from runner.datasets.pair_splits import CLASSES, directed_pairs
from runner.errors import BadInput
from runner.types import NonNegativeInt, Probability


@dataclass(kw_only=True)
class DirectedDataset(Dataset):
    """What all directed graphs have to choose."""

    direction: Literal["keep", "drop"]
    """``drop``: every edge and its reverse."""
    split: Literal["random", "per_class", "public"]
    fold: NonNegativeInt
    node_train_share: Probability
    """Of the nodes, for ``split="random"``; likewise ``node_val_share``, and the rest is for the test."""
    node_val_share: Probability
    question: Literal["direction", "existence", "three_class"]
    """What is asked of pairs."""
    pair_absent: Literal["unlinked", "unlinked_or_reversed"]
    """What class 1 of ``question="existence"`` is; see :func:`runner.datasets.pair_splits.directed_pairs`."""
    pair_val_share: Probability
    """Of the edges; likewise ``pair_test_share``."""
    pair_test_share: Probability
    pair_features: Literal["degrees", "total_degree", "own"]
    """Where pairs are asked for: in- and out-degree, log(1 + both together), each of the observed graph; or x."""
    normalize_features: bool

    def task(
        self, kind: str, *, name: str, x: NDArray[Any], edges: NDArray[Any], y: NDArray[Any], published: Split | None
    ) -> NodeClassification | PairClassification:
        """The task; its fingerprint is of the edges as they are directed, whatever ``direction`` says.

        Args:
            kind: ``"NodeClassification"`` or ``"PairClassification"``.
            name: the dataset's own name.
            x: features [N, F].
            edges: [2, any]; self-loops stay for classes of nodes, and are left out for pairs.
            y: classes [N].
            published: the split that comes with the data; it is not part of the fingerprint.

        Raises:
            BadInput: there is no such split of this graph.
        """
        num_nodes = len(y)
        x, y = np.ascontiguousarray(x, dtype=np.float32), y.astype(np.int64)
        edge_index = simple_edges(edges, num_nodes, undirected=False, loops=True)
        content = fingerprint.of_graph(edge_index, x, y)
        if self.direction == "drop":
            edge_index = simple_edges(edge_index, num_nodes, loops=True)
        features = torch.from_numpy(x)
        if self.normalize_features:
            normalize_rows_(features)
        if kind == PairClassification.__name__:
            return self._pairs(name, content, features, edge_index)
        chosen = self._nodes(y, published)
        return NodeClassification(
            name=name,
            fingerprint=content,
            x=features,
            edge_index=torch.from_numpy(edge_index),
            y=torch.from_numpy(y),
            num_classes=int(y.max()) + 1,
            train=torch.from_numpy(chosen.train),
            val=torch.from_numpy(chosen.val),
            test=torch.from_numpy(chosen.test),
        )

    def _nodes(self, y: NDArray[np.int64], published: Split | None) -> Split:
        if self.split == "random":
            return random_nodes(len(y), self.fold, train_share=self.node_train_share, val_share=self.node_val_share)
        if self.split == "per_class":
            return per_class(y, self.fold)
        if published is None:
            raise BadInput("dataset.split=public: this graph has no published split; choose random or per_class")
        return published

    def _pairs(self, name: str, content: str, x: torch.Tensor, edge_index: NDArray[np.int64]) -> PairClassification:
        num_nodes = x.shape[0]
        pairs = directed_pairs(
            edge_index[:, edge_index[0] != edge_index[1]],
            num_nodes,
            self.question,
            val_share=self.pair_val_share,
            test_share=self.pair_test_share,
            split=self.fold,
            absent=self.pair_absent,
        )
        observed = torch.from_numpy(pairs.observed)
        if self.pair_features != "own":
            out_in = torch.stack([end.bincount(minlength=num_nodes) for end in observed], dim=1).float()
            x = out_in.flip(1) if self.pair_features == "degrees" else out_in.sum(1, keepdim=True).log1p()
        parts = {
            f"{split}_{part}": torch.from_numpy(np.ascontiguousarray(array))
            for split in ("train", "val", "test")
            for part, array in zip(("pairs", "y"), getattr(pairs, split), strict=True)
        }
        return PairClassification(
            name=name,
            fingerprint=content,
            x=x,
            edge_index=observed,
            num_classes=CLASSES[self.question],
            published_edges=edge_index.shape[1],
            **parts,
        )
