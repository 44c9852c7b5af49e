"""The unpickler admits arrays and containers, and runs nothing else."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from runner.datasets import unpickle
from runner.errors import CorruptData


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "pickle"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_refuses_before_running(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "made by the pickle"
    path = write(tmp_path, pickle.dumps([np.ones(3).tolist(), Malicious(target)], protocol))
    with pytest.raises(CorruptData, match=r"posix\.mkdir|nt\.mkdir"):
        unpickle.load(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cbuiltins\neval\n(S'1+1'\ntR.",
        b"c__builtin__\ngetattr\n.",
        b"cnumpy\nload\n.",
        b"ccollections\nabc\n.",
        b"cscipy.sparse.csr\ncsr_matrix.__init__\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
    ],
)
def test_refuses_globals(tmp_path: Path, opcodes: bytes) -> None:
    with pytest.raises(CorruptData, match="not admitted"):
        unpickle.load(write(tmp_path, opcodes))


def test_reads_arrays_and_containers(tmp_path: Path) -> None:
    graph = collections.defaultdict(list, {0: [1], 1: [0]})
    matrix = csr_matrix(np.eye(3, dtype=np.float32))
    array = np.arange(6).reshape(2, 3)
    read = unpickle.load(write(tmp_path, pickle.dumps({"graph": graph, "matrix": matrix, "y": (array, {1})}, 4)))
    assert read["graph"] == graph
    assert (read["matrix"].toarray() == np.eye(3)).all()
    assert (read["y"][0] == array).all()


@pytest.mark.parametrize("length", [0, 1, 20, 60])
def test_damaged_pickle_is_told(tmp_path: Path, length: int) -> None:
    whole = pickle.dumps(np.arange(100), 2).replace(b"numpy._core", b"numpy.core")
    with pytest.raises(CorruptData, match="pickle of arrays"):
        unpickle.load(write(tmp_path, whole[:length]))
