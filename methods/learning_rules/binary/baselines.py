"""What binary networks are measured against: the real network, the plain sign, IR-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from runner.methods.learning_rules.binary.layers import binarised
from runner.methods.learning_rules.binary.quantisers import (
    BalancedWeights,
    ClippedActivations,
    ClippedWeights,
    DecayActivations,
)
from runner.methods.learning_rules.binary.rule import StagedRule


@dataclass(kw_only=True, eq=False)
class FullPrecision(StagedRule):
    """The network as it is, by back-propagation, with the same schedule."""


@dataclass(kw_only=True, eq=False)
class SignSTE(StagedRule):
    """Weights and activations by their plain sign, clipped straight-through gradients (BNN; XNOR-Net's scale)."""

    activations: Literal["binary", "real"]
    scale: Literal["learned", "fitted", "shift"]

    def changed(self, network: nn.Module) -> nn.Module:
        """All but the first and last layer binary."""
        activations = ClippedActivations() if self.activations == "binary" else nn.Identity()
        return binarised(network, ClippedWeights(), activations, self.scale)


@dataclass(kw_only=True, eq=False)
class IRNet(StagedRule):
    """Balanced, standardised weights and an estimator that sharpens from the identity to the sign."""

    activations: Literal["binary", "real"]
    scale: Literal["learned", "fitted", "shift"]

    def changed(self, network: nn.Module) -> nn.Module:
        """All but the first and last layer binary."""
        activations = DecayActivations() if self.activations == "binary" else nn.Identity()
        return binarised(network, BalancedWeights(), activations, self.scale)
