"""GitHub's developers who follow each other (Rozemberczki, Allen & Sarkar 2019, "MUSAE")."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np

from runner.contracts import Dataset, LinkPrediction, NodeClassification
from runner.datasets import sources
from runner.datasets.graph_tasks import graph_task, simple_edges
from runner.errors import CorruptData
from runner.types import NonNegativeInt


def _member(name: str, sha256: str) -> sources.File:
    member = f"git_web_ml/{name}"
    return sources.File(
        title="GitHub (MUSAE)",
        name=f"musae/{name}",
        sha256=sha256,
        mirror=sources.Mirror(
            path="graphs/git_web_ml.zip",
            sha256="56c0c1c2c460dc4c7bf89357b1fec020f45e2ecebab81d131d073b10e28ec031",
            member=member,
        ),
        url=sources.Url(address="https://snap.stanford.edu/data/git_web_ml.zip", member=member),
    )


_EDGES = _member("musae_git_edges.csv", "34c57382246949d1b3b7fa641a8532672001ecae8e9558f0b3c113cc035bd781")
_FEATURES = _member("musae_git_features.json", "47761f93f839d84b213e9f2fa43c056761734b295d6b2e838d8bbc335073cee7")
_TARGET = _member("musae_git_target.csv", "3a8582f0c55d6f605df5f45bde28a90561be9517b40226c5e6bbce253679906a")


@dataclass(kw_only=True)
class GitHub(Dataset):
    """37700 developers, 289003 mutual follows, 4005 multi-hot features; web (0) or machine learning (1).

    PyTorch Geometric's ``GitHub`` is the same graph with another encoding of the features, 128 dense columns.
    """

    split: Literal["kfold", "uniform"]
    fold: NonNegativeInt
    normalize_features: bool

    def files(self) -> list[sources.File]:
        """The raw files."""
        return [_EDGES, _FEATURES, _TARGET]

    def load(self, task: str) -> NodeClassification | LinkPrediction:
        """x float32 [37700, 4005], dense: 0.6 GB; errors as in :func:`runner.datasets.sources.fetch`."""
        edges, features, target = map(sources.fetch, self.files())
        try:
            with target.open(encoding="utf-8", newline="") as lines:
                label = {int(row["id"]): int(row["ml_target"]) for row in csv.DictReader(lines)}
            y = np.array([label[node] for node in range(len(label))])
            words = json.loads(features.read_bytes())
            rows = np.repeat(np.arange(len(y)), [len(words[str(node)]) for node in range(len(y))])
            columns = np.concatenate([np.asarray(words[str(node)], np.int64) for node in range(len(y))])
            follows = np.loadtxt(edges, np.int64, delimiter=",", skiprows=1)
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise CorruptData(f"{target.parent}: not MUSAE's files as published ({error!r})") from error
        x = np.zeros((len(y), int(columns.max()) + 1), np.float32)
        x[rows, columns] = 1  # some lists name a feature twice
        return graph_task(
            task,
            name="GitHub",
            x=x,
            edge_index=simple_edges(follows.T, len(y)),
            y=y,
            published=None,
            split=self.split,
            fold=self.fold,
            normalize_features=self.normalize_features,
        )
