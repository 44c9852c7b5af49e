"""Pruning of single weights: the smallest of all, or a fixed number in each block of neighbours.

The network keeps its shape; a mask says which of a layer's weights are left.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from runner.errors import BadInput


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Weights of convolutions and linear layers, by name."""
    return {
        f"{name}.weight": module.weight
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }


@torch.no_grad()
def unstructured(network: nn.Module, sparsity: float) -> dict[str, Tensor]:
    """Masks by name: of all weights together, the largest |w| are left, one in ``sparsity`` (rounded, at least one)."""
    weights = weights_of(network)
    sizes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    left = torch.zeros(len(sizes), dtype=torch.bool, device=sizes.device)
    left[sizes.topk(max(1, round(len(sizes) / sparsity))).indices] = True
    parts = left.split([weight.numel() for weight in weights.values()])
    return {name: part.view(weight.shape) for (name, weight), part in zip(weights.items(), parts, strict=True)}


@torch.no_grad()
def blockwise(network: nn.Module, sparsity: float, block: int) -> dict[str, Tensor]:
    """Masks by name: of each ``block`` weights in a row of [out, in k^2], the largest block / ``sparsity`` are left.

    A shorter block at the end of a row keeps as many. Layers whose rows are shorter than a block stay whole.

    Raises:
        BadInput: block / sparsity is no whole number.
    """
    left = round(block / sparsity)
    if left < 1 or abs(left - block / sparsity) > 1e-6:
        raise BadInput(f"method.block={block} can't be divided by a speed-up of {sparsity:g}; 4 and 2 make 2:4")
    masks = {}
    for name, weight in weights_of(network).items():
        rows = weight.abs().flatten(1)
        if rows.shape[1] < block:
            masks[name] = torch.ones_like(weight, dtype=torch.bool)
            continue
        padded = torch.nn.functional.pad(rows, [0, -rows.shape[1] % block], value=-1.0)
        blocks = padded.view(len(rows), -1, block)
        mask = torch.zeros_like(blocks, dtype=torch.bool).scatter(2, blocks.topk(left, dim=2).indices, True)
        masks[name] = mask.flatten(1)[:, : rows.shape[1]].view(weight.shape)
    return masks


@torch.no_grad()
def apply(network: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set what is masked out to 0, in place."""
    parameters = dict(network.named_parameters())
    for name, mask in masks.items():
        parameters[name].mul_(mask)
