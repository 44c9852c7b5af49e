"""Engines by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor

from runner.errors import BadInput
from runner.methods.science.flashschnet.autograd_engines import Csr, Naive
from runner.methods.science.flashschnet.compiled_passes import CompiledPasses
from runner.methods.science.flashschnet.engine import Engine
from runner.methods.science.flashschnet.fused import Fused
from runner.methods.science.flashschnet.potential import SchNet
from runner.methods.science.flashschnet.tiles import TorchTiles

Weights = Literal["float32", "float16", "bfloat16", "int16"]
Scaling = Literal["channel", "tensor", "cast"]


def _untiled(engine: Callable[..., Engine]) -> Callable[..., Engine]:
    return lambda potential, types, *, tile, **options: engine(potential, types, **options)


ENGINES: dict[str, Callable[..., Engine]] = {
    "naive": _untiled(Naive),
    "csr": _untiled(Csr),
    "tiled": partial(Fused, passes=TorchTiles, both=False),
    "tiled_pairs": partial(Fused, passes=TorchTiles, both=True),
    "ext": partial(Fused, passes=CompiledPasses, both=False),
    "ext_pairs": partial(Fused, passes=CompiledPasses, both=True),
}


def make(
    name: str,
    potential: SchNet,
    types: Tensor,
    *,
    tile: int = 512,
    weights: Weights = "float32",
    scaling: Scaling = "channel",
    drop_cutoff_grad: bool = False,
) -> Engine:
    """The engine of that name.

    Args:
        name: a key of ``ENGINES``.
        potential: SchNet, whose weights are not copied.
        types: of the beads of one replica [N], int64.
        tile: edges (or pairs) that the fused engines hold at a time.
        weights: what the filters' and the output network's weights are stored in.
        scaling: 16-bit weights divided by the largest of an output channel, or of the tensor, or cast as they are.
        drop_cutoff_grad: leave out the derivative of the filter's cutoff, as the released kernels do: the forces are
            then not the gradient of the energy.

    Raises:
        BadInput: there is no such engine.
    """
    if name not in ENGINES:
        raise BadInput(f"no engine '{name}'; choose one of {', '.join(ENGINES)}")
    return ENGINES[name](potential, types, tile=tile, drop_cutoff_grad=drop_cutoff_grad)
