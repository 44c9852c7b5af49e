"""Directed graphs with classes, as directed as they were published: citations, hyperlinks, a network of channels.

PyTorch Geometric makes citation graphs undirected when it loads them; here the arcs are read from the raw files. An
edge is row 0 -> row 1: who cites -> who is cited, who links -> what is linked to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from runner.contracts import NodeClassification, PairClassification
from runner.datasets import npz_graphs, sources
from runner.datasets.array_files import read_npz
from runner.datasets.directed_tasks import DirectedDataset
from runner.datasets.node_splits import Split
from runner.errors import BadInput, CorruptData

_PYGSD = "https://github.com/SherylHYX/pytorch_geometric_signed_directed/raw/main/datasets"
_GEOM_GCN = "https://raw.githubusercontent.com/graphdml-uiuc-jlu/geom-gcn/master"
_PYGSD_MIRROR_SHA256 = "bda78eccbdd1b2eaeba31de7cef765a21d864c71a595652e23277eb62c458934"
_FAMILY = {"Chameleon": "WikipediaNetwork", "Squirrel": "WikipediaNetwork", "Texas": "WebKB", "Wisconsin": "WebKB"}
_FAMILY_MIRROR_SHA256 = {
    "WikipediaNetwork": "4e4440700b9dd8c9b76b964d2b2b74b3ba5a04a5de28b3c9867c90ba4fdf9504",
    "WebKB": "ec0d72a4df5a36a029f382b88bab2ec9021439c644677f698291ab0673b6881e",
}
_GEOM_GCN_SHA256 = {
    "Chameleon": (
        "45ac593de9207470090230c8fd76beeb2f60b5371a9be088e8bf31e7f0619a4b",
        "5fd29736ff31b43a1bfcf305bc8b4cffc3103fb0957667976b2ea0f78aedcf5b",
        "36605525b69be4e7df5b31fe6a1d044288c6ebf9f9f0514ca151f6a36afc5e8b",
        "d0779d5a1bedf1967d394468a52c0175fb00595d361fba897faf73322386c952",
        "86ad0d827bf4301dff830598fc0b70d0dd8689c5b4d72dab1d87a6c1970c4c6e",
        "37b3e994adf3afc55e16b617ed05af4e3ce308800755839084d77eced0528e9d",
        "f6b1d067b2b330132839d8b6120077bdc6cf759f7ce421f881a02e2953ec4596",
        "e7661834275c826692510cea0457b18b2c1ee38771f178d06e701b97541a1f6d",
        "16648d1197c1d3a2dec385346212c382030b0d5a8c997f4255aa2afa68a6b174",
        "61adcc53846becefecd466a5364dda23b983d387d1ac5d58c6e24d080c0fcba7",
        "7076ad5341a8218b1f5b6eccf9cfd15d28286ea11ef5c06eeee77af24ff2bf63",
        "743c4f813bf6130398a6511eb9ff07d2366c73bd6c7fddaf226a3f9e2917e0e7",
    ),
    "Squirrel": (
        "453d8e96754d68e2ab0a7ebb56f93506b59531d95abaec7a2b46fe1eae7c39cd",
        "ac15ab755983717a187992eef8ce2017aae33ea444fd655b07e4662690dcc03a",
        "f112b88d3354e86d164d4d915b6a1f695c10f0e01e3e6b9893fc7b09bb93191d",
        "2486c687c8befb55930a6237f76f1d86ce2ba345782eda6157f4e752d05f304f",
        "d62ff83862ad96022d3400dfc9b7ca405834ca62767319d97c36b3f02db978c0",
        "af3d90e0b2718ac7417e10e8b5b382443667412e846cabc3cc4e4a592f4cedae",
        "fbe848298bb72b88db0704050cf216e2a93c916540d577906f3e644b679a6a2c",
        "cd04fab46a181151ddd97ce93c65fe79558fb79ffa230b62f488ebfaf5fdcd75",
        "b9189f7903ca7556a025c54dd5be6c00ec5952d4299e71630bc9876157676412",
        "ea7fb3ca5d5aa45b917b99fb7d64d4e87322b2b5303a0156c547aa3f1a6c8941",
        "b43faa190ca6dd4885a39dfc2a93d59f56f5174f3567bdbc49b18dd9cd9b7fb4",
        "529ade4b86fd191908a96011f25c454653083674b6d4f090b3fdd27af2d14f62",
    ),
    "Texas": (
        "0fe85183243a78cbee9b85a684f8240963d04d1020d10e9cd2b8cfb25e33b476",
        "cf5a3ca346cdd1210b8342e22517fcbbdae658065b7a3145f59350e50e6236a3",
        "7ba77bf7a8856fcc0ab15623a611b8cdce994e820f577da914123fb4f45272b0",
        "21cc244a96e3c51ad7993afb4dd227f90e467d82b964bb42d7d9fc500a6ef87f",
        "b9e96a699ccf3a4c31ffbd03e52b25570889833425d20fa44e06c37b327cf61e",
        "1a7deeb1285009789d5e6045d7e39f7d019c9223d9a75a2b7ce5e26d33b51f63",
        "b5419ff3fe31adcae66fdb085d4f47d0b188e9436ab59f438632af969aafc674",
        "68405fd1b9ff6105d99717220ecbd198785e338bf4a73abee722bbc9703d2667",
        "8ad78b973164e70e5ac0d282e79adcbc6006e373909fbdfd72a13131e09040b8",
        "a84bcbf997365bddf5fdf72ed49dc7e435e475f8c6210f8cdee7c8581a2bd6df",
        "65ba65f296f91d40d2d7d3c9369b67415094a7e254c6eee48cd6d6531c586fdf",
        "4306981d654ad8835c000c1f73fb6c1e60dfe99e26c13a6073f3b0f4cc3ce6ee",
    ),
    "Wisconsin": (
        "ebd213511c88fce1eda450c2f920600c4b8cbb38f02384856bcc47c6ec1807ae",
        "a32b0aa38d42f0d36841e8a8cb646d197f0ff33a182ac75a2b4476aeed3c7e4b",
        "f66f641e191d35d491cd3b63d6c2cd93c4b436da398984b44c19a8d4d7e7b1a5",
        "534aeb97266bd5a85a8587adf8eebad3f2e001c1240610f24b62c0ad0c2466ee",
        "047a5b641778ec3a4c76055fd7f18ecb2424c0952f20dfff7e1b17749d8acbdd",
        "706c27b4c51d046c0316f1e915f093e4a1fff48b3436b3e7c421eab596a99e77",
        "7ee813605eec086457aaff022cf3837f2f893fcf8bd37e3a8d2ff0c80e4c4f87",
        "8094ac2bdaf2cbea8f7a48df66a0800c809b2fd5942740e6b0441b660d3a0dd5",
        "c423a8deea9b18f9ecb6cfd703578e2159df167de01fe7e6195b88995010252d",
        "57ad808c8d4dd94dc4404124370bbcebb3dcc597c2bea6457bf05f220adf1527",
        "27d4d62a2a6aea2cdc399302237512ab0d64fb0c84e648112f97c5896274e42f",
        "3c149cd124a19021031609e0d7743a7be59aae4f88c8d38410138e8f06f5daaf",
    ),
}
"""Of edges, features with labels, and the ten splits."""


def _pygsd(title: str, path: str, sha256: str) -> sources.File:
    return sources.File(
        title=title,
        name=f"pygsd/{path}",
        sha256=sha256,
        mirror=sources.Mirror(path="graphs/pygsd.tar.xz", sha256=_PYGSD_MIRROR_SHA256, member=f"pygsd/{path}"),
        url=sources.Url(address=f"{_PYGSD}/{path}"),
    )


def _geom_gcn(name: str) -> list[sources.File]:
    family, lower = _FAMILY[name], name.lower()
    folder = f"pyg_raw/{family}/{lower}/" + ("geom_gcn/raw" if family == "WikipediaNetwork" else "raw")
    splits = [f"{lower}_split_0.6_0.2_{fold}.npz" for fold in range(10)]
    places = {
        "out1_graph_edges.txt": f"new_data/{lower}",
        "out1_node_feature_label.txt": f"new_data/{lower}",
        **dict.fromkeys(splits, "splits"),
    }
    return [
        sources.File(
            title=name,
            name=f"geom_gcn/{lower}/{file}",
            sha256=sha256,
            mirror=sources.Mirror(
                path=f"graphs/pyg_raw_{family}.tar.xz", sha256=_FAMILY_MIRROR_SHA256[family], member=f"{folder}/{file}"
            ),
            url=sources.Url(address=f"{_GEOM_GCN}/{place}/{file}"),
        )
        for (file, place), sha256 in zip(places.items(), _GEOM_GCN_SHA256[name], strict=True)
    ]


_CITATIONS = {
    "Cora_ML": npz_graphs.FILES["Cora_ML"],
    "CiteSeer": _pygsd(
        "CiteSeer (directed)", "citeseer.npz", "280278b21b434c047922e8389518861416fb3ad39389c27865ff0e6bbb0aaab7"
    ),
}


@dataclass(kw_only=True)
class CitationGraph(DirectedDataset):
    """Papers and their citations (Bojchevski & Günnemann 2018, who cites -> who is cited); a positive feature is 1."""

    name: Literal["Cora_ML", "CiteSeer"]

    def files(self) -> list[sources.File]:
        """The raw file."""
        return [_CITATIONS[self.name]]

    def load(self, task: str) -> NodeClassification | PairClassification:
        """Nodes numbered as published; errors as in :func:`runner.datasets.sources.fetch`."""
        adjacency, x, y = npz_graphs.read_graph(sources.fetch(_CITATIONS[self.name]))
        return self.task(task, name=self.name, x=x, edges=np.stack(adjacency.nonzero()), y=y, published=None)


@dataclass(kw_only=True)
class HyperlinkGraph(DirectedDataset):
    """Pages that link to each other: WebKB, and Wikipedia's articles on chameleons and squirrels.

    Files and ten splits of nodes (48/32/20) as in Pei et al., Geom-GCN, ICLR 2020.
    """

    name: Literal["Chameleon", "Squirrel", "Texas", "Wisconsin"]

    def files(self) -> list[sources.File]:
        """The raw files: edges, features with classes, ten splits."""
        return _geom_gcn(self.name)

    def load(self, task: str) -> NodeClassification | PairClassification:
        """Nodes numbered as published; errors as in :func:`runner.datasets.sources.fetch`."""
        edges, content, *splits = self.files()
        x, y = _read_content(sources.fetch(content))
        path = sources.fetch(edges)
        try:
            links = np.loadtxt(path, np.int64, skiprows=1).reshape(-1, 2).T
        except ValueError as error:
            raise CorruptData(f"{path}: not a list of pairs of nodes ({error})") from error
        if links.size == 0 or links.min() < 0 or links.max() >= len(y):
            raise CorruptData(f"{path}: names nodes that are not in {content.name}")
        published = None
        if task == NodeClassification.__name__ and self.split == "public":
            if self.fold >= len(splits):
                raise BadInput(f"dataset.fold={self.fold}: the published splits are 0..{len(splits) - 1}")
            published = _read_split(sources.fetch(splits[self.fold]))
        return self.task(task, name=self.name, x=x, edges=links, y=y, published=published)


_TELEGRAM = [
    _pygsd(
        "Telegram",
        "telegram/telegram_adj.npz",
        "6a2f43521a946c0ef9b89fd1ebfd9f597b1b89e3d5a6c7a14a688160123f2de3",
    ),
    _pygsd(
        "Telegram",
        "telegram/telegram_labels.npy",
        "07d0ae8374c886f2eb6d295a73ed8c2a04e8bdea8979d8a2dc99ec606b0df7f1",
    ),
]


@dataclass(kw_only=True)
class Telegram(DirectedDataset):
    """245 channels that refer to each other, in four kinds (Bovet & Grindrod 2020); weights are left out.

    It has no features: as in MagNet each node has one number, normally distributed; it is drawn once, with seed 0.
    """

    def files(self) -> list[sources.File]:
        """The raw files."""
        return _TELEGRAM

    def load(self, task: str) -> NodeClassification | PairClassification:
        """Nodes numbered as published; errors as in :func:`runner.datasets.sources.fetch`."""
        adjacency, labels = map(sources.fetch, _TELEGRAM)
        try:
            stored = read_npz(adjacency, ["data", "indices", "indptr", "shape"])
            matrix = csr_matrix((stored["data"], stored["indices"], stored["indptr"]), stored["shape"])
            matrix.check_format()
            y = np.load(labels, allow_pickle=False)
        except (EOFError, IndexError, TypeError, ValueError) as error:
            raise CorruptData(f"{adjacency.parent}: not the expected arrays ({error})") from error
        x = np.random.default_rng(0).standard_normal((len(y), 1)).astype(np.float32)
        return self.task(task, name="Telegram", x=x, edges=np.stack(matrix.nonzero()), y=y, published=None)


def _read_content(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Words [N, F] in {0, 1}, and classes [N]: a line is ``node TAB 0,1,… TAB class``, below a heading."""
    lines = [line.split(b"\t") for line in path.read_bytes().splitlines()[1:]]
    try:
        order = np.array([int(node) for node, _, _ in lines])
        y = np.array([int(label) for _, _, label in lines])
        # One digit a word with a comma between: every other byte, without parsing.
        words = np.stack([np.frombuffer(row + b",", np.uint8) for _, row, _ in lines])
    except ValueError as error:
        raise CorruptData(f"{path}: a line is not node, words and class, or lines differ in length") from error
    x = words[:, ::2] - ord("0")
    if x.max() > 1 or (words[:, 1::2] != ord(",")).any() or not np.array_equal(np.sort(order), np.arange(len(y))):
        raise CorruptData(f"{path}: a word is neither 0 nor 1, or nodes are not numbered 0..N-1")
    place = np.argsort(order)
    return x[place].astype(np.float32), y[place]


def _read_split(path: Path) -> Split:
    stored: dict[str, NDArray[Any]] = read_npz(path, [f"{part}_mask" for part in Split._fields])
    return Split(*(np.flatnonzero(stored[f"{part}_mask"]).astype(np.int64) for part in Split._fields))
