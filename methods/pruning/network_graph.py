"""A trained network as a graph, and back (section 3.1 of arXiv 2506.12041).

A node is a channel: of the input, of each convolution, or a logit. An edge is the weight between two channels of
consecutive layers; a shortcut that changes nothing is made of edges too. The map has an exact inverse.

Letters: N nodes, E edges, F and G features of a node and of an edge, O and I channels out and in, k side of a kernel.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.methods.pruning.wiring import Way, unknown, wiring_of

NORM = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
"""The features of a node from batch norm, in their order, and what stands for a missing one."""


def _side(name: str, module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return 1
    assert isinstance(module, nn.Conv2d)
    side, other = module.kernel_size
    if side != other or side % 2 == 0:
        raise unknown(f"{name}, whose kernel is not square with a middle")
    return side


class NetworkGraph:
    """The graph of a network: features read from its weights, and new weights written from features.

    F = 4 times the branches that a node sums at most: weight, bias, running mean and running variance of each branch's
    batch norm. A convolution's bias before it takes one more a branch; without batch norm it stands in its bias' place.
    G = k^2, the largest kernel's; smaller ones lie in its centre.
    """

    def __init__(self, network: nn.Module) -> None:
        """Read a network; it may change later, as long as its shapes don't."""
        self.network = network
        wiring = wiring_of(network)
        self.layers, self.ways = wiring.layers, wiring.ways
        self.starts = wiring.starts
        modules = dict(network.named_modules())
        self.multiplying = {way.layer: modules[way.layer] for way in self.ways if way.layer is not None}
        self.side = max(_side(name, module) for name, module in self.multiplying.items())
        self.slots = max(1, *(len(layer.norms) for layer in self.layers))
        self.own_biases = any(
            norm is not None and self.multiplying[name].bias is not None
            for layer in self.layers
            for norm, name in zip(layer.norms, layer.layers, strict=True)
        )
        self._like = next(network.parameters()).detach()
        pairs = torch.cat([self._pairs(way) for way in self.ways], dim=1).to(self._like.device)
        self.order = torch.argsort(pairs[1], stable=True)
        """Of the edges, by the node that they come from; before it they stand way by way, row-major."""
        self.index = pairs[:, self.order]
        """[2, E]: row 0 the channel out, row 1 the channel in; sorted by row 1."""

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.starts[-1]

    @property
    def node_features(self) -> int:
        """F."""
        return (len(NORM) + self.own_biases) * self.slots

    @property
    def edge_features(self) -> int:
        """G."""
        return self.side**2

    def _pairs(self, way: Way) -> Tensor:
        """[2, …] of the nodes that a way's edges join, row-major in (out, in), in each group of a convolution."""
        outputs, inputs = self.layers[way.target].count, self.layers[way.source].count
        groups = getattr(self.multiplying.get(way.layer or ""), "groups", 1)
        out = torch.arange(outputs).view(groups, -1, 1).expand(-1, -1, inputs // groups)
        into = torch.arange(inputs).view(groups, 1, -1).expand(-1, outputs // groups, -1)
        return torch.stack([out.reshape(-1) + self.starts[way.target], into.reshape(-1) + self.starts[way.source]])

    def _padded(self, weight: Tensor) -> Tensor:
        """[edges, k^2] of weights [O, I, k', k'] or [O, I], row-major, in the middle of k x k."""
        kernel = weight if weight.dim() == 4 else weight[:, :, None, None]
        return functional.pad(kernel, [(self.side - kernel.shape[-1]) // 2] * 4).reshape(-1, self.side**2)

    @torch.no_grad()
    def features(self) -> tuple[Tensor, Tensor]:
        """The network's weights as they are now: nodes [N, F] and edges [E, G]."""
        modules = dict(self.network.named_modules())
        edges = []
        for way in self.ways:
            if way.layer is None:
                edges.append(self._padded(torch.eye(self.layers[way.target].count).to(self._like)))
            else:
                edges.append(self._padded(modules[way.layer].weight.detach()))
        template = self._like.new_tensor([*NORM.values()] * self.slots + [0.0] * (self.own_biases * self.slots))
        nodes = template.repeat(self.num_nodes, 1)
        for start, layer in zip(self.starts, self.layers, strict=False):
            rows = nodes[start : start + layer.count]
            for slot, (norm, name) in enumerate(zip(layer.norms, layer.layers, strict=True)):
                for place, key in enumerate(NORM):
                    if norm is not None:
                        rows[:, len(NORM) * slot + place] = getattr(modules[norm], key)
                bias = modules[name].bias
                if bias is not None:
                    rows[:, self._bias_column(slot, norm)] = bias
        return nodes, torch.cat(edges)[self.order]

    def _bias_column(self, slot: int, norm: str | None) -> int:
        """Where a multiplying layer's bias stands."""
        return len(NORM) * slot + list(NORM).index("bias") if norm is None else len(NORM) * self.slots + slot

    def weights(
        self, nodes: Tensor, edges: Tensor, classifier: Literal["exact", "transposed"] = "exact"
    ) -> dict[str, Tensor]:
        """The inverse: parameters by name, shaped as the network's, differentiable in both arguments.

        Running statistics and shortcuts that change nothing are not written.

        Args:
            nodes: [N, F].
            edges: [E, G].
            classifier: ``transposed`` reads the edges of linear layers as the released code does, as if they stood
                (in, out): a wrong order of the right values.
        """
        found: dict[str, Tensor] = {}
        parts = (
            torch.zeros_like(edges).index_copy(0, self.order, edges).split([self._pairs_of(way) for way in self.ways])
        )
        for way, part in zip(self.ways, parts, strict=True):
            if way.layer is None:
                continue
            shape = self.multiplying[way.layer].weight.shape
            if len(shape) == 2:
                flat = part[:, self.side**2 // 2]
                straight = flat.view(shape) if classifier == "exact" else flat.view(shape[::-1]).T
                found[f"{way.layer}.weight"] = straight
            else:
                margin = (self.side - shape[-1]) // 2
                middle = slice(margin, self.side - margin)
                found[f"{way.layer}.weight"] = part.view(*shape[:2], self.side, self.side)[:, :, middle, middle]
        for start, layer in zip(self.starts, self.layers, strict=False):
            rows = nodes[start : start + layer.count]
            for slot, (norm, name) in enumerate(zip(layer.norms, layer.layers, strict=True)):
                if norm is not None:
                    found[f"{norm}.weight"] = rows[:, len(NORM) * slot]
                    found[f"{norm}.bias"] = rows[:, len(NORM) * slot + 1]
                if self.multiplying[name].bias is not None:
                    found[f"{name}.bias"] = rows[:, self._bias_column(slot, norm)]
        # Laid out as the network's own, so that the same kernels give the same bits.
        return {name: value.contiguous() for name, value in found.items()}

    def _pairs_of(self, way: Way) -> int:
        """How many edges a way has."""
        groups = getattr(self.multiplying.get(way.layer or ""), "groups", 1)
        return self.layers[way.target].count * self.layers[way.source].count // groups
