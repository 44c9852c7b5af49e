"""Graphs published as ``.npz``: CitationFull (Bojchevski & Günnemann 2018), Amazon, Coauthor (Shchur et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from runner.contracts import Dataset, LinkPrediction, NodeClassification
from runner.datasets import sources
from runner.datasets.array_files import read_npz
from runner.datasets.graph_tasks import graph_task, simple_edges
from runner.errors import CorruptData
from runner.types import NonNegativeInt

_CITATION = "https://github.com/abojchevski/graph2gauss/raw/master/data"
_SHCHUR = "https://github.com/shchur/gnn-benchmark/raw/master/data/npz"
_MIRROR_SHA256 = {
    "CitationFull": "74e9c1d9e0d50585f200270710d41040bf84bb26750f87782b98922a5e1ccbd2",
    "Amazon": "812cfe5d066137740a4c994017510dfe61aaace0bb08b566ee70fe1c9000b7b8",
    "Coauthor": "552610368b418a61b02a5e9ac6503e0886bf6c4772956e398bb69db0e1c5d5b8",
}


def _npz(family: str, graph: str, address: str) -> sources.File:
    name = address.rpartition("/")[2]
    return sources.File(
        title=f"{family} {graph}",
        name=f"{family.lower()}/{name}",
        sha256=None,  # the mirror's files hold the originals' arrays without their pickled extras
        mirror=sources.Mirror(
            path=f"graphs/pyg_raw_{family}.tar.xz",
            sha256=_MIRROR_SHA256[family],
            member=f"pyg_raw/{family}/{graph}/raw/{name}",
        ),
        url=sources.Url(address=address),
    )


FILES = {
    "Cora_ML": _npz("CitationFull", "cora_ml", f"{_CITATION}/cora_ml.npz"),
    "CiteSeerFull": _npz("CitationFull", "citeseer", f"{_CITATION}/citeseer.npz"),
    "AmazonPhoto": _npz("Amazon", "Photo", f"{_SHCHUR}/amazon_electronics_photo.npz"),
    "AmazonComputers": _npz("Amazon", "Computers", f"{_SHCHUR}/amazon_electronics_computers.npz"),
    "CoauthorCS": _npz("Coauthor", "CS", f"{_SHCHUR}/ms_academic_cs.npz"),
}


@dataclass(kw_only=True)
class NpzGraph(Dataset):
    """One graph, read as PyTorch Geometric reads it: edges without direction, a positive feature counts as 1.

    The fingerprint is of the content so read, because that is what publications mean by these names.
    """

    name: Literal["Cora_ML", "CiteSeerFull", "AmazonPhoto", "AmazonComputers", "CoauthorCS"]
    split: Literal["kfold", "uniform"]
    fold: NonNegativeInt
    normalize_features: bool

    def files(self) -> list[sources.File]:
        """The raw file."""
        return [FILES[self.name]]

    def load(self, task: str) -> NodeClassification | LinkPrediction:
        """Nodes numbered as published; errors as in :func:`runner.datasets.sources.fetch`."""
        adjacency, x, y = read_graph(sources.fetch(FILES[self.name]))
        return graph_task(
            task,
            name=self.name,
            x=x,
            edge_index=simple_edges(np.stack(adjacency.nonzero()), len(y)),
            y=y,
            published=None,
            split=self.split,
            fold=self.fold,
            normalize_features=self.normalize_features,
        )


def read_graph(path: Path) -> tuple[Any, NDArray[np.float32], NDArray[Any]]:
    """Adjacency (CSR [N, N], as directed as the file has it), features [N, F] in {0, 1}, classes [N].

    Raises:
        CorruptData: the file lacks an array, or they don't fit.
    """
    parts = ("data", "indices", "indptr", "shape")
    try:
        stored = read_npz(path, ["labels", *(f"{matrix}_{part}" for matrix in ("adj", "attr") for part in parts)])
        adjacency, features = (
            csr_matrix(tuple(stored[f"{matrix}_{part}"] for part in parts[:3]), stored[f"{matrix}_shape"])
            for matrix in ("adj", "attr")
        )
        adjacency.check_format()
        features.check_format()
    except (CorruptData, IndexError, TypeError, ValueError) as error:
        raise CorruptData(f"{path}: not the expected arrays ({error}); remove it to fetch it again") from error
    features.data = (features.data > 0).astype(np.float32)
    return adjacency, features.toarray(), stored["labels"]
