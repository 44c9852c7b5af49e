"""What is added to the features of the chosen nodes.

Letters: N nodes, F features, C classes, J features that are changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.contracts import NodeClassification
from runner.errors import BadInput
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import Features


@dataclass(frozen=True, eq=False)
class Shifted:
    """X + s d^T, not multiplied out: sparse features stay sparse, and the gradient of d is that of all rows' sum."""

    features: Features
    """X [N, F]."""
    rows: Tensor
    """s [N]: 1 or -1 where a node is attacked, else 0."""
    shift: Tensor
    """d [F]."""

    @property
    def shape(self) -> tuple[int, int]:
        """[N, F]."""
        return self.features.shape[0], self.features.shape[1]

    def __matmul__(self, weight: Tensor) -> Tensor:
        return self.features @ weight + self.rows.unsqueeze(1) * (self.shift @ weight)


def loss_gradient(victim: nn.Module, x: Features, graph: Graph, task: NodeClassification) -> Tensor:
    """g_j = sum_i dL/dX_ij [F], i over all nodes, L the mean loss of the training nodes on the features as they are.

    Args:
        victim: logits [N, C] of features and graph; it is put into evaluation mode.
        x: the task's features.
        graph: its edges.
        task: gives the true classes of the training nodes.
    """
    victim.eval()
    shift = torch.zeros(task.num_features, dtype=task.x.dtype, device=task.x.device, requires_grad=True)
    logits = victim(Shifted(x, torch.ones_like(task.x[:, 0]), shift), graph)
    (gradient,) = torch.autograd.grad(functional.cross_entropy(logits[task.train], task.y[task.train]), shift)
    return gradient


def signs_of_largest(gradient: Tensor, count: int) -> Tensor:
    """d [F]: the sign of the J = ``count`` largest of |g|, 0 elsewhere: up the loss."""
    chosen = gradient.abs().topk(count).indices
    direction = torch.zeros_like(gradient)
    direction[chosen] = gradient[chosen].sign()
    return direction


NUM_INFORMATIVE = 4


def informative_direction(task: NodeClassification) -> Tensor:
    """d = (1, -1, 0, …) [F], for features of which the first four decide the class by x0 - x1 + x2 - x3.

    Raises:
        BadInput: there are fewer.
    """
    if task.num_features < NUM_INFORMATIVE:
        raise BadInput(
            "method.perturbation=informative needs the features of dataset=barabasi_albert, whose first four decide "
            f"the class; this dataset has {task.num_features}"
        )
    direction = torch.zeros_like(task.x[0])
    direction[0], direction[1] = 1, -1
    return direction


def informative_signs(x: Tensor) -> Tensor:
    """s [N]: -1 where x0 + x2 > x1 + x3, else 1: away from the class that the features [N, F] speak for."""
    return torch.where(x[:, 0] + x[:, 2] > x[:, 1] + x[:, 3], -1.0, 1.0).to(x.dtype)
