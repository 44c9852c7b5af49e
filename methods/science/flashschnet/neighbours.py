"""Which beads see which: pairs below the cutoff, sorted by destination, of replicas as disjoint graphs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from runner.errors import Diverged

BRUTE_FORCE_UP_TO = 256
"""Beads in a replica, from which on a k-d tree finds the pairs."""


@dataclass(frozen=True)
class Neighbours:
    """All ordered pairs of beads of one replica with d < r_cut, E of them; bead n of replica r is number r N + n.

    Both directions of a pair are there and edges stand in the order of (destination, source): so edge ``reverse[e]``
    runs from e's destination to its source, and ``reverse`` also is the permutation that sorts by source, whose
    pointers are those by destination.

    Attributes:
        edge_index: [2, E] int64, row 0 the source j, row 1 the destination i.
        pointers: [R N + 1] int64: edges pointers[i] to pointers[i + 1] end in bead i (and, permuted, begin there).
        reverse: [E] int64.
        pairs: [2, E / 2] int64, row 0 < row 1, in the order of row 0, then of row 1.
    """

    edge_index: Tensor
    pointers: Tensor
    reverse: Tensor
    pairs: Tensor

    @classmethod
    def of(cls, destination: Tensor, source: Tensor, beads: int) -> Neighbours:
        """From edges in the order of (destination, source), both directions of each."""
        counts = torch.bincount(destination, minlength=beads)
        pointers = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        # stable: within a source the destinations stay ascending
        reverse = source.argsort(stable=True)
        upper = source > destination
        pairs = torch.stack([destination[upper], source[upper]])
        return cls(torch.stack([source, destination]), pointers, reverse, pairs)


def find(positions: Tensor, cutoff: float) -> Neighbours:
    """Neighbours of beads at ``positions`` [R, N, 3], in the unit of ``cutoff``.

    Raises:
        Diverged: a position is no number.
    """
    replicas, beads, _ = positions.shape
    positions = positions.detach()
    if not positions.isfinite().all():
        raise Diverged("a bead's position is no number any more; try a smaller time step")
    if beads > BRUTE_FORCE_UP_TO:
        destination, source = _by_tree(positions, cutoff)
    else:
        distances = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")
        distances.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        replica, i, j = (distances < cutoff).nonzero(as_tuple=True)
        destination, source = replica * beads + i, replica * beads + j
    return Neighbours.of(destination, source, replicas * beads)


def _by_tree(positions: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """One tree for all replicas, which a fourth coordinate keeps two cutoffs apart."""
    from scipy.spatial import cKDTree

    replicas, beads, _ = positions.shape
    points = positions.double().cpu().flatten(0, 1).numpy()
    apart = np.repeat(np.arange(replicas) * 2.0 * cutoff, beads)
    found = cKDTree(np.column_stack([points, apart])).query_pairs(cutoff, output_type="ndarray")
    pairs = torch.from_numpy(found.astype(np.int64)).T.to(positions.device)
    flat = positions.flatten(0, 1)
    pairs = pairs[:, (flat[pairs[0]] - flat[pairs[1]]).norm(dim=1) < cutoff]
    edges = torch.cat([pairs, pairs.flip(0)], dim=1)
    order = (edges[0] * (replicas * beads) + edges[1]).argsort()
    return edges[0, order], edges[1, order]
