"""A user's own graph: a file, or any class of ``torch_geometric.datasets``. Nothing is pinned."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from runner.contracts import Dataset, LinkPrediction, NodeClassification
from runner.datasets import sources
from runner.datasets.array_files import read_npz, read_pt
from runner.datasets.graph_tasks import graph_task, simple_edges
from runner.datasets.node_splits import DRAWN, Split
from runner.errors import BadInput, CorruptData, DataUnavailable, nearest
from runner.places import cache_dir
from runner.types import NonNegativeInt


@dataclass(kw_only=True)
class File(Dataset):
    """A graph in one file: ``x`` [N, F], ``y`` [N] and ``edge_index`` [2, E], and perhaps a split.

    The file is an ``.npz`` of these arrays, or a ``.pt`` of a dict of tensors (``torch.save(data.to_dict(), path)``);
    neither is allowed to hold pickled objects. A split is ``train_index``, ``val_index`` and ``test_index``, or
    ``train_mask`` [N] or [N, folds], and so on.
    """

    path: str
    split: Literal["kfold", "uniform", "given"]
    fold: NonNegativeInt
    undirected: bool
    normalize_features: bool

    def files(self) -> list[sources.File]:
        """Empty: nothing to fetch."""
        return []

    def load(self, task: str) -> NodeClassification | LinkPrediction:
        """The task; no self-loops, and with ``undirected`` the reverse of every edge.

        Raises:
            BadInput: the file is missing, unreadable, or its arrays don't make a graph.
        """
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise BadInput(f"dataset.path: no file {path}")
        if path.suffix not in (".npz", ".pt"):
            raise BadInput(f"dataset.path: {path} is neither .npz nor .pt")
        return _task(
            task,
            _read(path),
            place=str(path),
            name=path.stem,
            split=self.split,
            fold=self.fold,
            undirected=self.undirected,
            normalize_features=self.normalize_features,
        )


@dataclass(kw_only=True)
class PyG(Dataset):
    """The first graph of ``torch_geometric.datasets.<class_name>(root=…, name=…, **arguments)``.

    Without ``root`` PyTorch Geometric downloads into the data cache. ``name`` is passed on where it is given.
    """

    class_name: str
    root: str | None
    name: str | None
    arguments: dict[str, Any]
    split: Literal["kfold", "uniform", "public"]
    fold: NonNegativeInt
    undirected: bool
    normalize_features: bool

    def files(self) -> list[sources.File]:
        """Empty: PyTorch Geometric fetches its own files."""
        return []

    def load(self, task: str) -> NodeClassification | LinkPrediction:
        """The task; no self-loops, and with ``undirected`` the reverse of every edge.

        Raises:
            BadInput: no such class, wrong arguments, or not one graph with node classes.
            DataUnavailable: PyTorch Geometric could not read or download its files.
        """
        from torch_geometric import datasets

        if self.class_name not in datasets.__all__:
            close = nearest(self.class_name, datasets.__all__)
            raise BadInput(f"dataset.class_name: torch_geometric.datasets has no '{self.class_name}'{close}")
        maker = getattr(datasets, self.class_name)
        root = Path(self.root).expanduser() if self.root else cache_dir() / "pyg" / self.class_name
        arguments = dict(self.arguments)
        if "root" in inspect.signature(maker).parameters:  # built-in graphs have none
            arguments["root"] = str(root)
        if self.name is not None:
            arguments["name"] = self.name
        place = f"torch_geometric.datasets.{self.class_name}"
        try:
            graph = maker(**arguments)[0]
        except OSError as error:
            raise DataUnavailable(f"{place}: {error}; put its raw files under {root}, or be online") from error
        except (AssertionError, AttributeError, ImportError, LookupError, TypeError, ValueError) as error:
            raise BadInput(f"{place} with {arguments}: {type(error).__name__}: {error}") from error
        return _task(
            task,
            graph.to_dict(),
            place=place,
            name=self.name or self.class_name,
            split=self.split,
            fold=self.fold,
            undirected=self.undirected,
            normalize_features=self.normalize_features,
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = read_npz(path) if path.suffix == ".npz" else read_pt(path)
    except CorruptData as error:
        how = "numpy.savez(path, x=…)" if path.suffix == ".npz" else "torch.save(data.to_dict(), path)"
        raise BadInput(f"{error}; `{how}` gives such a file") from error
    if not isinstance(stored, dict):
        raise BadInput(f"{path}: holds a {type(stored).__name__}, not a dict of tensors")
    return stored


def _task(
    kind: str,
    stored: Mapping[str, Any],
    *,
    place: str,
    name: str,
    split: str,
    fold: int,
    undirected: bool,
    normalize_features: bool,
) -> NodeClassification | LinkPrediction:
    """Check what was stored, then hand it over; ``place`` begins each error."""
    x, y, edge_index = (_array(stored, key, place) for key in ("x", "y", "edge_index"))
    if x.ndim != 2 or 0 in x.shape:
        raise BadInput(f"{place}: x must be [nodes, features]; its shape is {list(x.shape)}")
    num_nodes = len(x)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != (num_nodes,):
        raise BadInput(f"{place}: y must be [{num_nodes}], a class for each row of x; its shape is {list(y.shape)}")
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise BadInput(f"{place}: edge_index must be [2, edges]; its shape is {list(edge_index.shape)}")
    if x.dtype.kind not in "fiub" or not np.isfinite(x).all():
        raise BadInput(f"{place}: x must hold finite numbers")
    _demand_numbers(y, "y", num_nodes, place)  # classes are numbered without gaps
    _demand_numbers(edge_index, "edge_index", num_nodes, place)
    published = None if split in DRAWN else _published(stored, num_nodes, fold, place)
    return graph_task(
        kind,
        name=name,
        x=np.array(x, np.float32),
        edge_index=simple_edges(edge_index, num_nodes, undirected=undirected),
        y=y,
        published=published,
        split=split,
        fold=fold,
        normalize_features=normalize_features,
    )


def _array(stored: Mapping[str, Any], key: str, place: str) -> NDArray[Any]:
    value = stored.get(key)
    if value is None:
        raise BadInput(f"{place}: has no '{key}'; it needs x, y and edge_index, and has {sorted(map(str, stored))}")
    try:
        if isinstance(value, torch.Tensor):
            # Copied: a view may claim more numbers than its file holds, and memory should fail here.
            return np.array((value if value.layout == torch.strided else value.to_dense()).detach().numpy())
        return np.asarray(value)
    except (MemoryError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BadInput(f"{place}: {key} can't be read as an array ({reason})") from error


def _demand_numbers(array: NDArray[Any], key: str, below: int, place: str) -> None:
    """Integers from 0, below ``below``."""
    if array.dtype.kind not in "iu":
        raise BadInput(f"{place}: {key} must be integers, not {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= below):
        raise BadInput(f"{place}: {key} must be 0..{below - 1}; it holds {array.min()}..{array.max()}")


def _published(stored: Mapping[str, Any], num_nodes: int, fold: int, place: str) -> Split:
    """The split that comes with the data."""
    parts = {}
    for part in Split._fields:
        if stored.get(f"{part}_index") is not None:
            index = _array(stored, f"{part}_index", place)
        elif stored.get(f"{part}_mask") is not None:
            mask = _array(stored, f"{part}_mask", place)
            if mask.ndim == 2 and fold >= mask.shape[1]:
                raise BadInput(f"{place}: {part}_mask has {mask.shape[1]} splits; dataset.fold is {fold}")
            mask = mask[:, fold] if mask.ndim == 2 else mask
            if mask.shape != (num_nodes,) or mask.dtype != bool:
                raise BadInput(f"{place}: {part}_mask must be {num_nodes} truth values")
            index = np.flatnonzero(mask)
        else:
            raise BadInput(f"{place}: has neither {part}_index nor {part}_mask; use dataset.split=kfold")
        if index.ndim != 1 or not index.size:
            raise BadInput(f"{place}: the {part} split is empty or not a list of nodes")
        _demand_numbers(index, f"{part}_index", num_nodes, place)
        parts[part] = np.sort(index).astype(np.int64)
    if len(np.unique(np.concatenate(list(parts.values())))) != sum(map(len, parts.values())):
        raise BadInput(f"{place}: a node is twice in train, val and test")
    return Split(**parts)
