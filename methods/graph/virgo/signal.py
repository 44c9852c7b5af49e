"""How strong signal and gradient are in each layer of an untrained network.

Li et al., ICML 2023, arXiv 2312.02622: what Virgo equalises. Letters: N nodes, H hidden width, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from runner.contracts import Method, NodeClassification
from runner.methods.models.stack import Stack
from runner.methods.ops.graph import Graph
from runner.methods.ops.sparse import compact

if TYPE_CHECKING:
    from torch import Tensor

    from runner.run import Run


@dataclass(kw_only=True, eq=False)
class InitialSignal(Method[NodeClassification]):
    """Nothing is trained. For z_l = block_l(ReLU(z_{l-1})), and the training nodes' mean cross-entropy::

    forward/layer<l>  = log10 of the mean of z_l^2 over nodes and units
    backward/layer<l> = log10 of the mean of (d loss / d z_l)^2
    """

    def build(self, task: NodeClassification, run: Run) -> None:
        """The chosen network, from F to C."""
        self.model: Stack = run.model(task.num_features, task.num_classes)

    def fit(self, task: NodeClassification, run: Run) -> None:
        """Nothing: the weights are what is looked at."""

    def evaluate(self, task: NodeClassification, run: Run) -> dict[str, float]:
        """Both for each layer; their change over the hidden layers 1..L-1, in decades; the loss, in nats."""
        graph = Graph(task.edge_index, task.num_nodes, task.x.dtype)
        outputs: list[Tensor] = []
        with torch.enable_grad():
            h = compact(task.x)
            for block in self.model.blocks:
                outputs.append(block(h, graph))
                h = outputs[-1].relu()
            loss = functional.cross_entropy(outputs[-1][task.train], task.y[task.train])
            gradients = torch.autograd.grad(loss, outputs)
        forward = [_decades(z) for z in outputs]
        backward = [_decades(gradient) for gradient in gradients]
        hidden = max(len(outputs) - 1, 1)
        return {
            "initial_loss": float(loss.detach()),
            "forward_change": forward[hidden - 1] - forward[0],
            "backward_change": backward[0] - backward[hidden - 1],
            **{f"forward/layer{place}": value for place, value in enumerate(forward, start=1)},
            **{f"backward/layer{place}": value for place, value in enumerate(backward, start=1)},
        }


def _decades(values: Tensor) -> float:
    """log10 of the mean square, in float64: deep networks leave float32's range."""
    return float(values.detach().double().square().mean().log10())
