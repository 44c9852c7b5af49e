"""Engines by name."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from runner.errors import BadInput
from runner.methods.science.flashschnet.autograd_engines import Compiled, Csr, Naive
from runner.methods.science.flashschnet.compiled_passes import CompiledPasses
from runner.methods.science.flashschnet.engine import Engine
from runner.methods.science.flashschnet.fused import EdgePasses, Fused
from runner.methods.science.flashschnet.potential import SchNet
from runner.methods.science.flashschnet.sixteen_bit import Scaling, Weights, round_weights
from runner.methods.science.flashschnet.tiles import TorchTiles
from runner.methods.science.flashschnet.triton_passes import TritonPasses

ENGINES: dict[str, str] = {
    "naive": "autograd, edge tensors gathered and scattered",
    "csr": "autograd, sums over sorted edges",
    "compiled": "the naive one through torch.compile",
    "tiled": "fused passes in plain torch, over directed edges",
    "tiled_pairs": "fused passes in plain torch, over pairs",
    "ext": "fused passes compiled by numba, over directed edges",
    "ext_pairs": "fused passes compiled by numba, over pairs",
    "triton": "fused passes as Triton kernels on a GPU, over directed edges",
}
"""What each one is."""

_AUTOGRAD: dict[str, type[Engine]] = {"naive": Naive, "csr": Csr, "compiled": Compiled}
_log = logging.getLogger(__name__)


def make(
    name: str,
    potential: SchNet,
    types: Tensor,
    *,
    tile: int = 1024,
    weights: Weights = "float32",
    scaling: Scaling = "channel",
    drop_cutoff_grad: bool = False,
) -> Engine:
    """The engine of that name; ``ext`` without numba, or on a GPU, is ``tiled``.

    Args:
        name: a key of ``ENGINES``.
        potential: SchNet. Its weights are shared, but for those in 16 bits, which are taken as they are now.
        types: of the beads of one replica [N], int64.
        tile: edges (or pairs) that the fused engines hold at a time.
        weights: what the filters' and the output network's weights are stored in; they compute in float32.
        scaling: 16-bit weights divided by the largest of an output channel, or of the tensor, or cast as they are.
        drop_cutoff_grad: leave out the derivative of the filter's cutoff, as the released kernels do: the forces are
            then not the gradient of the energy.

    Raises:
        BadInput: there is no such engine, or it can't run here.
    """
    if name not in ENGINES:
        raise BadInput(f"no engine '{name}'; choose one of {', '.join(ENGINES)}")
    reason = missing(name)
    if reason:
        raise BadInput(f"engine '{name}': {reason}")
    engine: Engine
    if name in _AUTOGRAD:
        engine = _AUTOGRAD[name](potential, types, drop_cutoff_grad=drop_cutoff_grad)
    else:
        both = name.endswith("_pairs")
        passes = _passes(name, potential.embedding.weight.device)
        engine = Fused(potential, types, passes, both=both, tile=tile, drop_cutoff_grad=drop_cutoff_grad)
    if weights != "float32":
        round_weights(engine.potential, weights, scaling)
    return engine


def missing(name: str) -> str | None:
    """Why the engine can't run here, if so."""
    if name == "compiled" and not any(map(shutil.which, ("g++", "clang++"))):
        return "torch.compile needs a C++ compiler (g++ or clang++)"
    if name == "triton":
        if not find_spec("triton"):
            return "triton is not installed; it comes with PyTorch for CUDA"
        if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
            return "it needs a CUDA GPU (or TRITON_INTERPRET=1, slow, to test it)"
    return None


def _passes(name: str, device: torch.device) -> Callable[..., EdgePasses]:
    if name == "triton":
        return TritonPasses
    if name.startswith("tiled"):
        return TorchTiles
    if device.type != "cpu":
        _log.warning("%s: compiled loops run on the CPU alone; plain torch stands in", name)
        return TorchTiles
    if find_spec("numba"):
        return CompiledPasses
    _log.warning("numba is not installed: %s runs in plain torch (pip install 'forward-runner[packed]')", name)
    return TorchTiles
