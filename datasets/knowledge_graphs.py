"""Knowledge graphs as lines of head, relation and tail: FB15k-237, WN18RR, GraIL's inductive splits, the small ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from runner import fingerprint
from runner.contracts import Dataset, KnowledgeGraphCompletion
from runner.datasets import sources
from runner.errors import BadInput, CorruptData

_GITHUB = "https://raw.githubusercontent.com"
_PARTS = ("train", "valid", "test")


class _Origin(NamedTuple):
    """Where a graph's three files lie in the mirror, and at their original address."""

    archive: str
    sha256: str
    folder: str
    address: str


_ORIGINS = {
    "FB15k-237": _Origin(
        "kg/pyg_raw_FB15k_237.tar.xz",
        "c05411802d7d27e3374004800c2efff362d3eda0f5d64b14b650955481a8612e",
        "pyg_raw/FB15k_237/raw",
        f"{_GITHUB}/villmow/datasets_knowledge_embedding/master/FB15k-237",
    ),
    "WN18RR": _Origin(
        "kg/pyg_raw_WordNet18RR.tar.xz",
        "543ad2c733d2f42a856db3b7c1038b86ed0a68462be19b5b3c415e4c701dfa83",
        "pyg_raw/WordNet18RR/raw",
        f"{_GITHUB}/villmow/datasets_knowledge_embedding/master/WN18RR/original",
    ),
}
_GRAIL = ("kg/kg_grail.tar.xz", "c1ce5f76b3df76573cb9f0a87603de4bc6cb2d264794a51ccc2314b18eaca4af")


def _file(title: str, part: str, origin: _Origin) -> sources.File:
    return sources.File(
        title=title,
        name=f"kg/{title}/{part}.txt",
        sha256=None,  # copies differ in line ends; the content is fingerprinted
        mirror=sources.Mirror(path=origin.archive, sha256=origin.sha256, member=f"{origin.folder}/{part}.txt"),
        url=sources.Url(address=f"{origin.address}/{part}.txt"),
    )


def _of_grail(name: str) -> _Origin:
    return _Origin(*_GRAIL, f"kg_grail/{name}", f"{_GITHUB}/kkteru/grail/master/data/{name}")


@dataclass(kw_only=True)
class Benchmark(Dataset):
    """FB15k-237 (Toutanova & Chen 2015) or WN18RR (Dettmers et al. 2018): the test is about the training graph."""

    name: Literal["FB15k-237", "WN18RR"]

    def files(self) -> list[sources.File]:
        """Training, validation and test triples."""
        return [_file(self.name, part, _ORIGINS[self.name]) for part in _PARTS]

    def load(self, task: str) -> KnowledgeGraphCompletion:
        """Entities and relations are numbered by the order of their names."""
        return completion(self.name, *(read(sources.fetch(file)) for file in self.files()))


@dataclass(kw_only=True)
class Small(Dataset):
    """Nations, UMLS or Kinships, in the split that PyKEEN ships in its wheel."""

    name: Literal["nations", "umls", "kinships"]

    def files(self) -> list[sources.File]:
        """Training, validation and test triples."""
        return [
            sources.File(
                title=f"{self.name} (PyKEEN)",
                name=f"kg/{self.name}/{part}.txt",
                sha256=None,
                package=sources.PipArchive(
                    requirement="pykeen==1.11.1",
                    sha256="b6cc0ab012fc6ba4f37b58fb7081a409a5c1f04cbbb0e0e9c2256e911757d4ba",
                    size=730_295,
                    member=f"pykeen/datasets/{self.name}/{part}.txt",
                ),
            )
            for part in _PARTS
        ]

    def load(self, task: str) -> KnowledgeGraphCompletion:
        """As :meth:`Benchmark.load`."""
        return completion(self.name, *(read(sources.fetch(file)) for file in self.files()))


@dataclass(kw_only=True)
class Grail(Dataset):
    """An inductive split (Teru, Denis & Hamilton 2020): the test is about a graph of other entities.

    Read are ``train`` and ``valid`` of one graph, ``train`` (facts) and ``test`` (questions) of the other.
    """

    name: Literal["WN18RR_v1", "WN18RR_v2", "WN18RR_v3", "WN18RR_v4", "fb237_v1", "fb237_v2", "fb237_v3", "fb237_v4"]

    def files(self) -> list[sources.File]:
        """Two files of each graph."""
        other = f"{self.name}_ind"
        return [
            _file(graph, part, _of_grail(graph))
            for graph, part in ((self.name, "train"), (self.name, "valid"), (other, "train"), (other, "test"))
        ]

    def load(self, task: str) -> KnowledgeGraphCompletion:
        """Entities and relations are numbered by the order of their names, those of each graph by themselves."""
        train, val, facts, test = (read(sources.fetch(file)) for file in self.files())
        return completion(self.name, train, val, test, facts)


@dataclass(kw_only=True)
class Triples(Dataset):
    """A user's own: a folder with ``train.txt``, ``valid.txt`` and ``test.txt``, a triple a line, tabs between.

    With ``test_path`` the test is about another graph: facts and questions are ``train.txt`` and ``test.txt`` there.
    """

    path: str
    test_path: str | None

    def files(self) -> list[sources.File]:
        """Empty: nothing to fetch."""
        return []

    def load(self, task: str) -> KnowledgeGraphCompletion:
        """As :meth:`Benchmark.load` or :meth:`Grail.load`.

        Raises:
            BadInput: a file is missing, or not of triples.
        """
        folder = Path(self.path).expanduser()
        try:
            if self.test_path is None:
                return completion(folder.name, *(read(folder / f"{part}.txt") for part in _PARTS))
            train, val = (read(folder / f"{part}.txt") for part in ("train", "valid"))
            facts, test = (read(Path(self.test_path).expanduser() / f"{part}.txt") for part in ("train", "test"))
            return completion(folder.name, train, val, test, facts)
        except OSError as error:
            raise BadInput(f"dataset.path: {error.filename}: {error.strerror}; `head TAB relation TAB tail`") from error
        except CorruptData as error:
            raise BadInput(f"dataset.path: {error}") from error


Names = NDArray[np.str_]


def read(path: Path) -> Names:
    """Triples [T, 3] of names.

    Raises:
        CorruptData: the file has none, or a line is not three names with tabs between.
    """
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise CorruptData(f"{path}: not a text ({error})") from error
    if not rows or any(len(row) != 3 for row in rows):
        raise CorruptData(f"{path}: not lines of head, relation and tail with tabs between; remove it to fetch it anew")
    return np.array([[name.strip() for name in row] for row in rows])


def completion(
    name: str, train: Names, val: Names, test: Names, facts: Names | None = None
) -> KnowledgeGraphCompletion:
    """The task; the fingerprint is of the numbered, sorted triples.

    Args:
        name: the dataset's own name.
        train: names [T, 3]; likewise ``val`` and ``test``.
        facts: of the graph that the test is about, where it is another one.

    Raises:
        CorruptData: the test's graph has a relation that training has not.
    """
    same = (train, val, test) if facts is None else (train, val)
    relations = np.unique(np.concatenate([triples[:, 1] for triples in same]))
    entities = _entities(*same)
    theirs = entities if facts is None else _entities(facts, test)
    asked = test if facts is None else np.concatenate([test, facts])
    if unknown := set(asked[:, 1]) - set(relations):
        raise CorruptData(f"{name}: the test has relations that training has not, e.g. {min(unknown)}")
    sets = {"train": _numbered(train, entities, relations), "val": _numbered(val, entities, relations)}
    sets["test"] = _numbered(test, theirs, relations)
    content: Mapping[str, NDArray[np.int64]] = sets
    if facts is not None:
        content = {**sets, "test_facts": _numbered(facts, theirs, relations)}
    tensors = {part: torch.from_numpy(triples) for part, triples in content.items()}
    return KnowledgeGraphCompletion(
        name=name,
        fingerprint=fingerprint.of_arrays(**content),
        entities=tuple(entities.tolist()),
        relations=tuple(relations.tolist()),
        inductive=facts is not None,
        test_entities=tuple(theirs.tolist()),
        **{"test_facts": tensors["train"], **tensors},
    )


def _entities(*sets: Names) -> Names:
    """Their names, sorted."""
    return np.unique(np.concatenate([triples[:, ::2].ravel() for triples in sets]))


def _numbered(triples: Names, entities: Names, relations: Names) -> NDArray[np.int64]:
    """[T, 3], sorted."""
    columns = [np.searchsorted(names, triples[:, place]) for place, names in enumerate((entities, relations, entities))]
    numbers = np.stack(columns, axis=1).astype(np.int64)
    return numbers[np.lexsort(numbers.T[::-1])]
