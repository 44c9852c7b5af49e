"""Which channels a network has and how layers join them: what its graph is built on.

A network is followed by ``torch.fx``, from its input on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from torch import fx, nn

from runner.errors import BadInput

MULTIPLIES = (nn.Conv2d, nn.Linear)
PASSES = (nn.ReLU, nn.Hardtanh, nn.SiLU, nn.GELU, nn.Tanh, nn.Identity, nn.Dropout, nn.Flatten)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
ADDS = ("add", "iadd")
ALONG = ("relu", "flatten", "mean", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "tanh", "view", "reshape")


@dataclass
class Channels:
    """The nodes of one layer: the sum of what reaches them, each with its own batch norm."""

    count: int
    norms: list[str | None] = field(default_factory=list)
    """Name of the batch norm behind each of the multiplying layers whose outputs are added here."""
    layers: list[str] = field(default_factory=list)
    """Names of these layers."""


@dataclass(frozen=True)
class Way:
    """The edges from one layer's nodes to another's; ``layer`` is None for a shortcut that changes nothing."""

    target: int
    source: int
    layer: str | None


@dataclass(frozen=True, eq=False)
class Wiring:
    """Which nodes there are and which edges, without their features."""

    layers: list[Channels]
    ways: list[Way]

    @property
    def starts(self) -> list[int]:
        """The first node of each layer, and N."""
        return [0, *accumulate(layer.count for layer in self.layers)]


def wiring_of(network: nn.Module) -> Wiring:
    """Follow the channels through a network.

    Raises:
        BadInput: it holds something that is neither a chain nor a sum of two branches.
    """
    try:
        traced = fx.symbolic_trace(network)
    except Exception as error:  # whatever the network's own code raises on a stand-in for a tensor
        raise BadInput(f"the network can't be read as a graph of channels: {error}") from error
    return _Follower(dict(traced.named_modules())).followed(traced.graph)


class _Follower:
    """Walks the operations of a traced network; a value is the number of the layer whose channels it carries."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.modules = modules
        self.layers: list[Channels] = []
        self.ways: list[Way] = []
        self.open: set[fx.Node] = set()
        """Values that came straight from a multiplying layer, perhaps with batch norm: a sum may still join them."""
        self.carries: dict[fx.Node, int] = {}

    def followed(self, graph: fx.Graph) -> Wiring:
        for node in graph.nodes:
            if node.op == "placeholder":
                self.layers.append(Channels(-1))
                self.carries[node] = 0
            elif node.op == "call_module":
                self._module(node, self.modules[str(node.target)])
            elif node.op in ("call_function", "call_method"):
                self._function(node)
            elif node.op == "get_attr":
                raise unknown(f"a parameter of its own, {node.target}")
        kept = sorted({way.target for way in self.ways} | {way.source for way in self.ways})
        place = {old: new for new, old in enumerate(kept)}
        ways = [Way(place[way.target], place[way.source], way.layer) for way in self.ways]
        return Wiring([self.layers[old] for old in kept], ways)

    def _module(self, node: fx.Node, module: nn.Module) -> None:
        below = node.args[0]
        assert isinstance(below, fx.Node)
        source = self.carries[below]
        if isinstance(module, MULTIPLIES):
            inputs, outputs = _widths(module)
            if self.layers[source].count < 0:
                self.layers[source].count = inputs
            if self.layers[source].count != inputs:
                raise unknown(f"{node.target}, which sees {inputs} numbers of {self.layers[source].count} channels")
            self.carries[node] = len(self.layers)
            self.ways.append(Way(len(self.layers), source, str(node.target)))
            self.layers.append(Channels(outputs, norms=[None], layers=[str(node.target)]))
            self.open.add(node)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            if below not in self.open or self.layers[source].norms != [None]:
                raise unknown(f"{node.target}, a batch norm that no layer with weights stands before")
            self.layers[source].norms = [str(node.target)]
            self.carries[node] = source
            self.open.add(node)
        elif isinstance(module, (*PASSES, *POOLS)):
            self.carries[node] = source
            if isinstance(module, nn.Identity) and below in self.open:
                self.open.add(node)
        else:
            raise unknown(f"{node.target}, a {type(module).__name__}")

    def _function(self, node: fx.Node) -> None:
        name = str(node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target))
        values = [value for value in node.args if isinstance(value, fx.Node)]
        if name in ADDS and len(values) == 2:
            self._sum(node, *values)
        elif name in ALONG and values:
            self.carries[node] = self.carries[values[0]]
        else:
            raise unknown(f"the operation {name}")

    def _sum(self, node: fx.Node, left: fx.Node, right: fx.Node) -> None:
        """Both branches end in the same nodes; one that changed nothing comes by edges of its own."""
        if left not in self.open:
            left, right = right, left
        if left not in self.open:
            raise unknown("a sum of two values neither of which comes straight from a layer with weights")
        target, other = self.carries[left], self.carries[right]
        if right in self.open:
            kept, joined = self.layers[target], self.layers[other]
            kept.norms, kept.layers = kept.norms + joined.norms, kept.layers + joined.layers
            self.ways = [Way(target, way.source, way.layer) if way.target == other else way for way in self.ways]
        else:
            self.ways.append(Way(target, other, None))
        self.carries[node] = target


def unknown(what: str) -> BadInput:
    """The error that a network has something which no graph of channels has."""
    return BadInput(
        f"the network can't be read as a graph of channels: it has {what}; convolutions, linear layers, batch norm, "
        "pooling and sums of two branches can be"
    )


def _widths(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, nn.Conv2d):
        return module.in_channels, module.out_channels
    assert isinstance(module, nn.Linear)
    return module.in_features, module.out_features
