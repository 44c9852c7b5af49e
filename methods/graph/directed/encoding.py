"""What directed networks have in common: an encoder of nodes, then an affine map to classes.

Letters: N nodes, F input width, W width of an encoding, C classes.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from runner.contracts import Backbone
from runner.errors import BadInput
from runner.methods.ops.dropout import dropout
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features
from runner.types import Probability


class Encoder(nn.Module):
    """``forward(x, graph)``: [N, F] -> [N, width]."""

    width: int

    @abstractmethod
    def forward(self, x: Features, graph: Graph) -> Tensor:
        """Encodings [N, W]."""


class Classifier(nn.Module):
    """softmax's argument: Linear(dropout(encoder(x)))."""

    def __init__(self, encoder: Encoder, num_classes: int, dropout_share: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = dropout_share
        self.head = nn.Linear(encoder.width, num_classes)

    def forward(self, x: Features, graph: Graph) -> Tensor:
        """[N, C]."""
        logits: Tensor = self.head(dropout(self.encoder(x, graph), self.dropout, self.training))
        return logits


class EncodingBackbone(Backbone):
    """A backbone that can give encodings of nodes alone, for whoever asks of pairs."""

    dropout: Probability

    @abstractmethod
    def encoder(self, in_channels: int) -> Encoder:
        """The network without its last map and the dropout before that."""

    def network(self, in_channels: int, out_channels: int) -> nn.Module:
        """Encoder, dropout, affine map."""
        return Classifier(self.encoder(in_channels), out_channels, self.dropout)

    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Module:
        """Refuse: its layers pass on more than one matrix, or look at all of each other.

        Raises:
            BadInput: always.
        """
        raise BadInput("this model can't be trained block by block; choose model=gcn, sage or gat")
