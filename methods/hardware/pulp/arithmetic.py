"""All that PyTorch computes, in 16 bits: forward and backward passes, learning rules, optimisers.

Numbers are held in float64 tensors. Each operation's result is rounded once to the format; matrix products and
convolutions go through the emulated kernels, with one rounding a multiply-accumulate. Tensors of other types
are left alone: they are the host's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from runner.errors import RunFailed
from runner.methods.hardware.pulp.formats import Array, Format
from runner.methods.hardware.pulp.kernels import Product
from runner.methods.hardware.pulp.products import product

Choice = Callable[[Product], str]
"""Name of the kernel that takes a product."""


class Arithmetic(TorchDispatchMode):
    """While it is entered, float64 means numbers of ``number``.

    Args:
        number: the format.
        choice: which kernel takes a product.
        transpose: whether B is always brought to B^T first, as the library does with layout HWC.
    """

    def __init__(self, number: Format, choice: Choice, *, transpose: bool) -> None:
        super().__init__()
        self.number = number
        self.choice = choice
        self.transpose = transpose
        self._pausing = False
        self._emulated: dict[str, Callable[..., Any]] = {
            "mm": self._mm,
            "addmm": self._addmm,
            "bmm": self._mm,
            "baddbmm": self._addmm,
            "mv": self._mv,
            "addmv": self._addmv,
            "dot": self._dot,
            "convolution": self._convolution,
            "convolution_backward": self._convolution_backward,
        }

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Plain float64 for a while."""
        self._pausing = True
        try:
            yield
        finally:
            self._pausing = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operation."""
        if self._pausing or func._schema.name.startswith(("aten::empty", "aten::new_empty")):
            return func(*args, **(kwargs or {}))
        with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN are numbers of the format
            return self._operation(func, args, kwargs or {})

    def _operation(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if func is torch.ops.aten._fused_sgd_.default and all(map(_ours, args[0])):
            return self._sgd(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        emulated = self._emulated.get(name.removesuffix("_"))
        if emulated is not None and all(_ours(arg) for arg in args if isinstance(arg, Tensor)):
            out = kwargs.pop("out", args[0] if name.endswith("_") else None)
            result = emulated(*args, **kwargs)
            return result if out is None else out.copy_(result)
        if "alpha" in kwargs:
            kwargs = kwargs | {"alpha": self._constant(kwargs["alpha"])}
        result = func(*args, **kwargs)
        written, fresh = _results(func)
        given = dict(enumerate(args)) | kwargs
        for place in written:
            self._round(given.get(place))
        for value, new in zip(result if isinstance(result, tuple) else (result,), fresh, strict=False):
            if new:
                self._round(value)
        return result

    def _constant(self, value: Any) -> Any:
        """A factor that the program holds, in the format."""
        return float(self.number.round(np.float64(value))) if isinstance(value, float) else value

    def _round(self, value: Any) -> None:
        """Round in place a tensor, or all tensors of a list."""
        if isinstance(value, Tensor):
            if _ours(value):
                array = _array(value)
                array[...] = self.number.round(array)
        elif isinstance(value, list | tuple):
            for item in value:
                self._round(item)

    def _numbers(self, tensor: Tensor) -> Array:
        """Of an operand; what comes from the host, a task's images for one, is rounded on the way."""
        return self.number.round(_array(tensor))

    def _product(self, a: Array, b: Array, *, transposed: bool) -> Array:
        shape = Product(a.shape[-2], a.shape[-1], b.shape[-1], transposed)
        return product(a, b, self.number, kernel=self.choice(shape), transposed=transposed)

    def _mm(self, a: Tensor, b: Tensor) -> Tensor:
        """[..., n, k] and [..., k, m].

        A batch lies in the columns of the kernels' products: x W^T is computed as W x^T, with rows of W on the
        cores and x read as the transposed operand. An A that is a transposed view (dY^T x) is taken as it stands.
        """
        first, second = self._numbers(a), self._numbers(b)
        if a.stride(-1) == 1 or a.shape[-1] == 1:
            swapped = self._product(np.swapaxes(second, -1, -2), np.swapaxes(first, -1, -2), transposed=True)
            return _tensor(np.swapaxes(swapped, -1, -2))
        return _tensor(self._product(first, second, transposed=self.transpose or b.stride(-2) == 1))

    def _addmm(self, bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """The bias is added to the finished product."""
        return self._sum(bias, self._mm(a, b), beta, alpha)

    def _mv(self, a: Tensor, x: Tensor) -> Tensor:
        return _tensor(self._product(self._numbers(a), self._numbers(x)[:, None], transposed=True)[:, 0])

    def _addmv(self, bias: Tensor, a: Tensor, x: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        return self._sum(bias, self._mv(a, x), beta, alpha)

    def _dot(self, x: Tensor, y: Tensor) -> Tensor:
        return self._mv(x[None], y)[0]

    def _sum(self, bias: Tensor, value: Tensor, beta: float, alpha: float) -> Tensor:
        """beta bias + alpha value."""
        added = self._numbers(bias)
        if beta != 1:
            added = self.number.round(self._constant(float(beta)) * added)
        return _tensor(self.number.fma(np.float64(self._constant(float(alpha))), value.numpy(), added))

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
    ) -> Tensor:
        """im2row and a product an image and group; the bias is added to it."""
        _planar(x, transposed)
        columns = _im2row(self._exact(x), weight, stride, padding, dilation, groups)
        size = [
            (side + 2 * p - d * (k - 1) - 1) // s + 1
            for side, k, s, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
        ]
        kernels = self._numbers(weight).reshape(1, groups, weight.shape[0] // groups, -1)
        if self.transpose and groups < weight.shape[0]:  # HWC: positions are the rows
            found = np.swapaxes(
                self._product(np.swapaxes(columns, -1, -2), np.swapaxes(kernels, -1, -2), transposed=True), -1, -2
            )
        else:
            found = self._product(np.broadcast_to(kernels, (len(x), *kernels.shape[1:])), columns, transposed=True)
        result = _tensor(found.reshape(len(x), weight.shape[0], *size))
        if bias is None:
            return result
        return self._sum(result, bias.detach().reshape(-1, *[1] * len(size)).expand_as(result), 1, 1)

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
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of input, weights and bias; in that of the weights a batch's images follow one another in k."""
        _planar(x, transposed)
        upper = self._exact(upper)
        of_x = self._input_gradient(upper, x, weight, stride, padding, dilation, groups) if wanted[0] else None
        of_weight = None
        if wanted[1]:
            columns = _im2row(self._exact(x), weight, stride, padding, dilation, groups)
            channels = weight.shape[0] // groups
            above = _array(upper).reshape(len(x), groups, channels, -1)
            above = np.moveaxis(above, 0, 2).reshape(groups, channels, -1)
            below = np.moveaxis(columns, 0, 2).reshape(groups, columns.shape[2], -1)
            found = self._product(above, np.swapaxes(below, -1, -2), transposed=self.transpose)
            of_weight = _tensor(found.reshape(weight.shape))
        of_bias = None
        if wanted[2]:
            of_bias = upper.sum([0, *range(2, upper.dim())])
            self._round(of_bias)
        return of_x, of_weight, of_bias

    def _input_gradient(
        self,
        upper: Tensor,
        x: Tensor,
        weight: Tensor,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
    ) -> Tensor:
        """im2row of dY with full padding, weights block-transposed and turned by 180 degrees, one product."""
        sides = [(side - 1) * s + 1 for side, s in zip(upper.shape[2:], stride, strict=True)]
        spread = upper.new_zeros(*upper.shape[:2], *sides)
        spread[(..., *[slice(None, None, s) for s in stride])] = upper
        pad: list[int] = []
        for side, spread_side, k, p, d in zip(x.shape[2:], sides, weight.shape[2:], padding, dilation, strict=True):
            before = d * (k - 1) - p
            pad = [before, side - spread_side + p, *pad]
        spread = functional.pad(spread, pad)
        turned = weight.detach().flip(list(range(2, weight.dim())))
        turned = turned.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1).transpose(1, 2)
        ones, none = [1] * len(stride), [0] * len(stride)
        columns = _im2row(spread, weight, ones, none, dilation, groups)
        kernels = self._numbers(turned).reshape(1, groups, weight.shape[1], -1)
        if self.transpose and weight.shape[1] > 1:
            found = np.swapaxes(
                self._product(np.swapaxes(columns, -1, -2), np.swapaxes(kernels, -1, -2), transposed=True), -1, -2
            )
        else:
            found = self._product(np.broadcast_to(kernels, (len(x), *kernels.shape[1:])), columns, transposed=True)
        return _tensor(found.reshape(x.shape))

    def _exact(self, tensor: Tensor) -> Tensor:
        return _tensor(self._numbers(tensor))

    def _sgd(
        self,
        weights: list[Tensor],
        gradients: list[Tensor],
        buffers: list[Tensor],
        *,
        weight_decay: float,
        momentum: float,
        lr: float | Tensor,
        dampening: float,
        nesterov: bool,
        maximize: bool,
        is_first_step: bool,
        **_: Any,
    ) -> None:
        """g <- fma(decay, w, g), w <- fma(-lr, g, w), lr in the format; momentum as in torch, each step rounded."""
        step, decay, keep = (np.float64(self._constant(float(value))) for value in (lr, weight_decay, momentum))
        for place, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            w, g = _array(weight), self._numbers(gradient) * (-1 if maximize else 1)
            if decay:
                g = self.number.fma(decay, w, g)
            if keep:
                buffer = _array(buffers[place])
                fresh = self.number.round((1 - dampening) * g)
                buffer[...] = g if is_first_step else self.number.fma(keep, buffer, fresh)
                g = self.number.fma(keep, buffer, g) if nesterov else buffer
            w[...] = self.number.fma(-step, g, w)


def _ours(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.dtype is torch.float64
        and value.layout is torch.strided
        and value.device.type == "cpu"
    )


def _array(tensor: Tensor) -> Array:
    """The tensor's own memory."""
    return tensor.detach().numpy()  # type: ignore[no-any-return]


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _planar(x: Tensor, transposed: bool) -> None:
    if transposed or x.dim() > 4:
        raise RunFailed("hardware.numerics: only ordinary convolutions of one or two dimensions are emulated")


def _im2row(
    x: Tensor, weight: Tensor, stride: Iterable[int], padding: Iterable[int], dilation: Iterable[int], groups: int
) -> Array:
    """[images, groups, inputs of an output, positions]; rows as columns, which is how B^T is told."""
    sizes = [tuple(weight.shape[2:]), tuple(dilation), tuple(padding), tuple(stride)]
    if x.dim() == 3:
        x, sizes = x[..., None], [(*size, one) for size, one in zip(sizes, (1, 1, 0, 1), strict=True)]
    columns = functional.unfold(x, *sizes)
    return columns.numpy().reshape(len(x), groups, columns.shape[1] // groups, -1)


@cache
def _results(func: Any) -> tuple[list[int | str], list[bool]]:
    """Arguments that an operation writes, by place or name, and which of its results are new tensors."""
    written: list[int | str] = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(argument.name if argument.kwarg_only else place)
    return written, [returned.alias_info is None for returned in func._schema.returns]
