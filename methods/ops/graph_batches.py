"""Some of many graphs as one graph of parts without edges between them.

Letters: G graphs, N nodes and E edges in all; g, n and e of those that are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from runner.contracts import GraphClassification
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import SparseMatrix


@dataclass(frozen=True, eq=False)
class Batch:
    """The chosen graphs, in the order in which they were chosen."""

    nodes: Tensor
    """Their nodes [n] in the whole."""
    graph: Graph
    """Their edges, between 0..n-1."""
    mean: SparseMatrix
    """[g, n]: the mean over each graph's nodes."""


class GraphBatches:
    """Gives batches of a task's graphs, without a loop over them."""

    def __init__(self, task: GraphClassification) -> None:
        number = torch.arange(len(task.y) + 1, device=task.y.device)
        self._node_starts = torch.searchsorted(task.graph_of, number)
        self._edge_starts = torch.searchsorted(task.graph_of[task.edge_index[0]], number)
        self._edge_index = task.edge_index
        self._dtype = task.x.dtype

    def __call__(self, graphs: Tensor) -> Batch:
        """The graphs of these numbers [g]."""
        nodes, starts = _ranges(self._node_starts, graphs)
        edges, edge_starts = _ranges(self._edge_starts, graphs)
        shift = (starts[:-1] - self._node_starts[graphs]).repeat_interleave(edge_starts.diff())
        count = starts.diff()
        share = count.to(self._dtype).reciprocal().repeat_interleave(count)
        place = torch.arange(len(nodes), device=nodes.device)
        return Batch(
            nodes,
            Graph(self._edge_index[:, edges] + shift, len(nodes), self._dtype),
            SparseMatrix(starts, place, share, len(nodes)),
        )


def _ranges(starts: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """starts[c], …, starts[c + 1] - 1 for each c, one after the other; and where each range begins there [g + 1]."""
    counts = starts.diff()[chosen]
    begins = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    within = torch.arange(int(begins[-1]), device=starts.device) - begins[:-1].repeat_interleave(counts)
    return starts[chosen].repeat_interleave(counts) + within, begins
