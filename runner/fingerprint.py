"""Content fingerprints: SHA-256 over canonical arrays, whatever file they came from."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def of_arrays(**arrays: NDArray[np.generic]) -> str:
    """SHA-256 (hex) of named arrays: names in alphabetical order, shapes, then values.

    Values are widened to little-endian int64 or float64 first, so that the width a file happened to
    use does not matter; booleans count as integers.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        kind = "<f8" if array.dtype.kind == "f" else "<i8"
        digest.update(f"{name}{array.shape}{kind}".encode())
        digest.update(np.ascontiguousarray(array.astype(kind)).tobytes())
    return digest.hexdigest()


def of_graph(
    edge_index: NDArray[np.integer], x: NDArray[np.generic], y: NDArray[np.integer], **splits: NDArray[np.integer]
) -> str:
    """Fingerprint of a graph: sorted edges, the non-zero features with their places, classes, published splits.

    Args:
        edge_index: [2, E], each directed edge once, in any order.
        x: [N, F] dense features as published.
        y: [N] classes.
        splits: published index sets, in any order.
    """
    order = np.lexsort((edge_index[1], edge_index[0]))
    row, column = np.nonzero(x)
    return of_arrays(
        edge_index=edge_index[:, order],
        x_index=np.stack([row, column]),
        x_shape=np.asarray(x.shape),
        x_value=x[row, column],
        y=y,
        **{f"split_{name}": np.sort(index) for name, index in splits.items()},
    )


def of_images(**sets: tuple[NDArray[np.uint8], NDArray[np.integer]]) -> str:
    """Fingerprint of sets of images by name: raw bytes of pixels uint8 [n, C, H, W] and of classes as int64 [n].

    The pixels are as published, in published order, before any scaling.
    """
    digest = hashlib.sha256()
    for name in sorted(sets):
        pixels, labels = sets[name]
        digest.update(f"{name}{pixels.shape}".encode())
        digest.update(np.ascontiguousarray(pixels, dtype=np.uint8).tobytes())
        digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    return digest.hexdigest()
