"""What a training step asks of the cluster, whatever its rule: its matrix products and convolutions, as they are made.

A step of one sample is watched. A product N x K x M is the pass of a layer that it looks like:

    one row         a linear layer forward; where the other operand is a weight that is trained, stored for a pass in
                    the other direction, its input gradient (the weights are transposed first)
    K = 1           a linear layer's weight gradient
    one column      a linear layer forward
    else            a linear layer at N positions
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from runner.methods.hardware.pulp.cluster import Step
from runner.methods.hardware.pulp.layers import Layer, convolution, linear, size

Work = tuple[Layer, Step]
"""A pass of a layer."""


class Observed(TorchDispatchMode):
    """While it is entered, ``work`` grows by the products that are made."""

    def __init__(self, model: nn.Module) -> None:
        """``model``: whose weights are trained; matrices that are fixed can lie in memory as they are needed."""
        super().__init__()
        self.work: list[Work] = []
        self._trained = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        self._seen: dict[str, Callable[..., None]] = {
            "mm": self._mm,
            "addmm": lambda bias, a, b, **_: self._mm(a, b),
            "bmm": self._bmm,
            "baddbmm": lambda bias, a, b, **_: self._bmm(a, b),
            "mv": lambda a, x: self._mm(a, x[:, None]),
            "addmv": lambda bias, a, x, **_: self._mm(a, x[:, None]),
            "convolution": self._convolution,
            "convolution_backward": self._convolution_backward,
        }

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operation."""
        kwargs = kwargs or {}
        seen = self._seen.get(func._schema.name.removeprefix("aten::").removesuffix("_"))
        if seen is not None:
            seen(*args, **{key: value for key, value in kwargs.items() if key != "out"})
        return func(*args, **kwargs)

    def _mm(self, a: Tensor, b: Tensor) -> None:
        (n, k), m = a.shape, b.shape[1]
        if n == 1 and k > 1:
            across = b.stride(1) == 1 and m > 1 and b.untyped_storage().data_ptr() in self._trained
            self._add(linear("", m, k, 1, 0) if across else linear("", k, m, 1, 0), "input" if across else "forward")
        elif k == 1:
            self._add(linear("", m, n, 1, 0), "weight")
        elif m == 1:
            self._add(linear("", k, n, 1, 0), "forward")
        else:
            self._add(linear("", k, m, n, 0), "forward")

    def _bmm(self, a: Tensor, b: Tensor) -> None:
        for first, second in zip(a, b, strict=True):
            self._mm(first, second)

    def _convolution(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        transposed: bool,
        output_padding: list[int],
        groups: int,
    ) -> None:
        self._add(_layer(x, weight, stride, padding, dilation, groups), "forward")

    def _convolution_backward(
        self,
        upper: Tensor,
        x: Tensor,
        weight: Tensor,
        bias_sizes: list[int] | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        transposed: bool,
        output_padding: list[int],
        groups: int,
        wanted: list[bool],
    ) -> None:
        layer = _layer(x, weight, stride, padding, dilation, groups)
        passes: tuple[Step, Step] = ("input", "weight")
        for step, asked in zip(passes, wanted, strict=False):
            if asked:
                self._add(layer, step)

    def _add(self, layer: Layer, step: Step) -> None:
        self.work.append((layer, step))


def _layer(x: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int) -> Layer:
    """A convolution of one or two dimensions, for x [1, …]."""
    sides = [
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, k, s, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    ]
    flat = len(sides) == 1
    window, steps = tuple(weight.shape[2:]), tuple(stride)
    return convolution(
        name="",
        channels=(x.shape[1], weight.shape[0]),
        groups=groups,
        window=(window[0], 1 if flat else window[1]),
        stride=(steps[0], 1 if flat else steps[1]),
        padded=any(padding),
        size_in=size(x),
        size_out=(sides[0], 1 if flat else sides[1]),
        parameters=0,
    )


def trained_layers(model: nn.Module) -> list[int]:
    """Parameters of each module that has some of its own: what an update goes through, one piece of work each."""
    counts = (sum(weight.numel() for weight in part.parameters(recurse=False)) for part in model.modules())
    return [count for count in counts if count]
