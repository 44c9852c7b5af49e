"""Sets of graphs with classes, from the TU collection (Morris et al. 2020, arXiv 2007.08663)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from runner import fingerprint
from runner.contracts import Dataset, GraphClassification
from runner.datasets import sources
from runner.datasets.graph_tasks import simple_edges
from runner.errors import BadInput, CorruptData
from runner.types import NonNegativeInt

FOLDS = 10
_MIRROR_SHA256 = "c3eef6f66e18ff5ca4b581cd18eace421b25ca69d23ece58fb1c66293c192aae"
_SHA256 = {
    "MUTAG": {
        "A": "d9656ca7493f3445d737c711710bb36fd432dddd1c0ea32e1d4713c86ebd28e2",
        "graph_indicator": "7d520a4d6c7961c0cdeabe076d8fe27e795b6d373485c9a2b744987e560a2056",
        "graph_labels": "a1518ea39ba3426bd42f57396b9c4baffe68e9adc718caeeab0119c6591a5f2c",
        "node_labels": "678f429965490e84dd27713017538c995fc05d1621beac910848b600015ee863",
    },
    "PROTEINS": {
        "A": "4c4b33e272fc95cac6d27ed6d5d12b9a852c8610e91fff59f8f0dbdd5a20df67",
        "graph_indicator": "8d4ff1e852a5c28561e9bffb44cf9490bc552b13a3b6156dd12dc7f44e9afc4a",
        "graph_labels": "c0ef9810c440775252872318d0c8adc385588e14bc4c47a2c34aa96ee3c7cdcd",
        "node_labels": "f758e8ad3d6e3c026b50833d75f6f90735b94eb3345e4243707f495ca8afea8d",
    },
    "IMDB-BINARY": {
        "A": "28846bc9e57f46248765211df251c11b8665d8fcfb246a174860e81095f45389",
        "graph_indicator": "415cc3ba25b8c647dcf34d3de034f675ee070616f3b803be939cb26773489f26",
        "graph_labels": "63a44411fd6342b9c4429828c16e144a2a11ef5244e25bb60f0ffa8b3ee2ffce",
    },
}


def _file(name: str, part: str, sha256: str) -> sources.File:
    raw = f"{name}_{part}.txt"
    return sources.File(
        title=name,
        name=f"tu/{raw}",
        sha256=sha256,
        mirror=sources.Mirror(
            path="graphs/pyg_raw_TUDataset.tar.xz",
            sha256=_MIRROR_SHA256,
            member=f"pyg_raw/TUDataset/{name}/raw/{raw}",
        ),
        url=sources.Url(address=f"https://www.chrsmrrs.com/graphkerneldatasets/{name}.zip", member=f"{name}/{raw}"),
    )


@dataclass(kw_only=True)
class TUGraphs(Dataset):
    """One of the collection's sets, its graphs without direction; edge labels and node attributes are not read.

    Features: a node's label, one-hot; where the set has none, its degree, one-hot from 0 to the largest of all graphs.
    """

    name: Literal["MUTAG", "PROTEINS", "IMDB-BINARY"]
    fold: NonNegativeInt

    def files(self) -> list[sources.File]:
        """The raw files."""
        return [_file(self.name, part, sha256) for part, sha256 in _SHA256[self.name].items()]

    def load(self, task: str) -> GraphClassification:
        """Fold ``fold`` of ten to test, the rest to train, none to validate.

        The folds are stratified by class and shuffled with random state 0, those of GIN's protocol.

        Raises:
            BadInput: no such fold.
        """
        if self.fold >= FOLDS:
            raise BadInput(
                f"fold must be 0..{FOLDS - 1} (ten folds); got {self.fold} (dataset.fold, by default the seed)"
            )
        paths = dict(zip(_SHA256[self.name], map(sources.fetch, self.files()), strict=True))
        raw = {part: _numbers(path) for part, path in paths.items()}
        graph_of = raw["graph_indicator"] - 1
        y = np.unique(raw["graph_labels"], return_inverse=True)[1]
        if (np.diff(graph_of) < 0).any() or len(np.unique(graph_of)) != len(y):
            raise CorruptData(f"{paths['graph_indicator']}: graphs aren't {len(y)} runs of nodes")
        edge_index = simple_edges(raw["A"].reshape(-1, 2).T - 1, len(graph_of))
        labels = raw.get("node_labels", np.zeros(0, np.int64))
        kind = (
            np.unique(labels, return_inverse=True)[1]
            if len(labels)
            else np.bincount(edge_index[1], minlength=len(graph_of))
        )
        train, test = _fold(y, self.fold)
        return GraphClassification(
            name=self.name,
            fingerprint=fingerprint.of_arrays(edge_index=edge_index, graph_of=graph_of, node_labels=labels, y=y),
            x=torch.nn.functional.one_hot(torch.from_numpy(kind)).float(),
            edge_index=torch.from_numpy(edge_index),
            graph_of=torch.from_numpy(graph_of),
            y=torch.from_numpy(y),
            num_classes=int(y.max()) + 1,
            train=torch.from_numpy(train),
            val=torch.zeros(0, dtype=torch.int64),
            test=torch.from_numpy(test),
        )


def _numbers(path: Path) -> NDArray[np.int64]:
    try:
        return np.array(path.read_text(encoding="ascii").replace(",", " ").split(), np.int64)
    except ValueError as error:
        raise CorruptData(f"{path}: not a list of whole numbers ({error})") from error


def _fold(y: NDArray[Any], fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from sklearn.model_selection import StratifiedKFold  # a second of imports, needed by `load` only

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(np.zeros(len(y)), y)
    train, test = next(pair for number, pair in enumerate(folds) if number == fold)
    return train.astype(np.int64), test.astype(np.int64)
