"""The sizes of SchNet, as options of the methods that build one."""

from __future__ import annotations

from dataclasses import dataclass

from runner.errors import BadInput
from runner.methods.science.flashschnet.potential import SchNet
from runner.types import PositiveFloat, PositiveInt


@dataclass(kw_only=True, eq=False)
class Sizes:
    """Options; what they mean stands at ``SchNet``."""

    hidden: PositiveInt
    filters: PositiveInt
    num_basis: PositiveInt
    num_blocks: PositiveInt
    cutoff: PositiveFloat
    """A."""
    output_widths: list[PositiveInt]

    def schnet(self, num_types: int) -> SchNet:
        """SchNet of these sizes, with random weights.

        Raises:
            BadInput: fewer than two basis functions, which have no distance between them.
        """
        if self.num_basis == 1:
            raise BadInput("method.num_basis must be 2 or more: the distance of two centres is the Gaussians' width")
        return SchNet(
            num_types=num_types,
            hidden=self.hidden,
            filters=self.filters,
            num_basis=self.num_basis,
            num_blocks=self.num_blocks,
            cutoff=self.cutoff,
            output_widths=self.output_widths,
        )
