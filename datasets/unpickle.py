"""Reads pickles that hold arrays and plain containers, and refuses every other global before it is called."""

from __future__ import annotations

import collections
import pickle
import pickletools
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np
from scipy.sparse import csr_matrix

from runner.errors import CorruptData

_reconstruct = np.empty(0).__reduce__()[0]

_BUILTINS = {kind.__name__: kind for kind in (list, dict, tuple, set, frozenset)}
_ADMITTED: dict[str, dict[str, Any]] = {
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "collections": {"defaultdict": collections.defaultdict, "OrderedDict": collections.OrderedDict},
    "numpy": {"ndarray": np.ndarray, "dtype": np.dtype},
    # Old and new homes of the same thing.
    "numpy.core.multiarray": {"_reconstruct": _reconstruct},
    "numpy._core.multiarray": {"_reconstruct": _reconstruct},
    "scipy.sparse.csr": {"csr_matrix": csr_matrix},
    "scipy.sparse._csr": {"csr_matrix": csr_matrix},
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module][name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not admitted") from None


def load(path: Path) -> Any:
    """The object pickled in ``path``: numpy arrays, CSR matrices and containers; Python 2 strings as Latin-1.

    Raises:
        CorruptData: the pickle asks for anything else, or is damaged.
    """
    damaged = (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
    )
    with path.open("rb") as stream:
        try:
            _demand_small_memo(stream)
            return _ArraysOnly(stream, encoding="latin1").load()
        except damaged as error:
            reason = " ".join(str(error).split())[:200]
            raise CorruptData(f"{path}: not read as a pickle of arrays: {reason}") from error


def _demand_small_memo(stream: IO[bytes]) -> None:
    """A few bytes can ask for a memo of 2^32 places, which Python would make."""
    places = [argument for opcode, argument, _ in pickletools.genops(stream) if opcode.name == "LONG_BINPUT"]
    if places and max(places) > stream.tell():
        raise pickle.UnpicklingError("its memo is larger than itself")
    stream.seek(0)
