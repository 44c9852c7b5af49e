"""One step of several optimisers at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def step_together(
    optimizers: Sequence[torch.optim.Adam], parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]
) -> None:
    """The step of ``torch.optim.Adam(…, fused=True)``, in one call for all of them: the same numbers.

    Args:
        optimizers: with one group each, all of the same options, and each has stepped before.
        parameters: theirs, in any order.
        gradients: of the parameters, contiguous.
    """
    (options,) = optimizers[0].param_groups
    states = {parameter: state for optimizer in optimizers for parameter, state in optimizer.state.items()}
    found = [states[parameter] for parameter in parameters]
    steps = [state["step"] for state in found]
    torch._foreach_add_(steps, 1)
    torch._fused_adam_(
        list(parameters),
        list(gradients),
        [state["exp_avg"] for state in found],
        [state["exp_avg_sq"] for state in found],
        [],
        steps,
        lr=options["lr"],
        beta1=options["betas"][0],
        beta2=options["betas"][1],
        weight_decay=options["weight_decay"],
        eps=options["eps"],
        amsgrad=False,
        maximize=False,
        grad_scale=None,
        found_inf=None,
    )
