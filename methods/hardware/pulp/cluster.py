"""Cycles and memory of a training step on a cluster of cores that share an L1 memory.

One sample, one step: forward pass (FW), weight gradient (WG), input gradient (IG, not of the first layer), loss, SGD.
Each pass of a layer is a matrix product N x K x M whose operands are copied into shape first, tile by tile:

    convolution   FW  Co   x CiKhKw x HoWo     im2row(x)         (CHW; in HWC N and M change places)
                  WG  Co   x HoWo   x CiKhKw   im2row(x) again; HWC: dY transposed too, im2col
                  IG  Ci   x CoKhKw x HW       weights block-transposed, im2row(dY) with full padding
    pointwise     the same without im2row; B lies transposed or not as the layout has it
    linear        FW  out x in x 1,  WG  out x 1 x in,  IG  in x out x 1, weights transposed
    depthwise     channel by channel
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Literal, NamedTuple

from runner.errors import RunFailed
from runner.methods.hardware.pulp.kernels import HALF, NAIVE, SINGLE, Kernel, Product, admits, library_choice
from runner.methods.hardware.pulp.layers import Layer
from runner.types import NonNegativeFloat, PositiveFloat, PositiveInt

Step = Literal["forward", "weight", "input"]
STEPS: tuple[Step, ...] = ("forward", "weight", "input")


class Cost(NamedTuple):
    """Of one pass of one layer."""

    macs: int
    cycles: float
    l1_bytes: int
    """The largest tile."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one pass of a layer asks for, untiled. Elements are numbers of the format in use."""

    macs: int
    product: Callable[[int, int], Product]
    """The matrix product of a tile of so many positions and channels."""
    rows: int
    """Rows of positions that tiles cut; 1: none are cut."""
    row: int
    """Positions of a row."""
    channels: int
    """Channels out that tiles cut."""
    buffer: int
    """Elements of the im2row buffer a position."""
    copy: float
    """Cycles to put one of them there."""
    copy_share: Callable[[int], float]
    """Part of the buffer that the busiest core fills, for so many rows."""
    given: int
    """Elements read a row of positions; ``halo`` more a tile."""
    halo: int
    held: int
    """Elements of the weights a channel."""
    reshaped: Sequence[float] = field(default=())
    """Cycles of each transposition before the tiles."""


@dataclass(kw_only=True)
class Cluster:
    """The machine. Cycles are those of one core that issues one instruction a cycle."""

    numerics: Literal["float32", "binary16", "bfloat16"]
    """Decides the kernels, and what a training run computes in."""
    layout: Literal["CHW", "HWC"]
    kernel: Literal["naive", "2x1", "2x2", "1x8", "2x4", "4x4", "4x8", "library", "fastest"]
    """One for all products; ``library``: by the library's conditions; ``fastest``: tuned a layer and pass."""
    depthwise: Literal["im2col", "naive", "naive_serial"]
    """Backend; ``naive_serial``: both gradients run over all channels on every core, as the current sources do."""
    input_gradient_of_first: bool
    """Count it for the first layer too: it is one layer of many."""
    cores: PositiveInt
    fpus: PositiveInt
    """Floating-point units that the cores share."""
    clock_mhz: PositiveFloat
    l1_bytes: PositiveInt
    dma_bytes_per_cycle: PositiveFloat
    dma_setup: NonNegativeFloat
    """Cycles a transfer."""
    transfers: Literal["serial", "overlapped", "none"]
    """Whether operands are moved before they are used, behind computation, or lie in L1 already."""
    stall: PositiveFloat
    """Factor on the cycles of all inner loops: bank conflicts, FPU latency."""
    fork: NonNegativeFloat
    """Cycles to start all cores on a piece of work and to join them."""
    loop_setup: NonNegativeFloat
    """Cycles a block of outputs before its inner loop."""
    store: NonNegativeFloat
    """Cycles an output of a 32-bit or one-wide kernel; ``store_pair``: of two outputs of a two-wide one."""
    store_pair: NonNegativeFloat
    join_lanes: NonNegativeFloat
    """Cycles an output of a two-wide kernel with B^T: take out the second lane, add; half a packing."""
    copy_single: NonNegativeFloat
    """Cycles an element copied or transposed; ``copy_pair``: of 16 bits, two at once, without padding."""
    copy_pair: NonNegativeFloat
    copy_padded: NonNegativeFloat
    """The same with a border test an element."""
    depthwise_mac: NonNegativeFloat
    """Cycles a multiply-accumulate of the naive backend in FW and WG; ``depthwise_mac_input`` in IG."""
    depthwise_mac_input: NonNegativeFloat
    sgd: NonNegativeFloat
    """Cycles a parameter."""
    loss: NonNegativeFloat
    """Cycles an output of the network, on one core."""

    @property
    def half(self) -> bool:
        """Whether numbers have 16 bits."""
        return self.numerics != "float32"

    @property
    def item(self) -> int:
        """Bytes of a number."""
        return 2 if self.half else 4

    def choice(self, product: Product) -> str:
        """Name of the kernel that takes a product; one of the other width stands for the naive one."""
        kernels = HALF if self.half else SINGLE
        if self.kernel == "library":
            return library_choice(product, half=self.half)
        if self.kernel == "fastest":
            fitting = [name for name, kernel in kernels.items() if admits(kernel, product)]
            return min(fitting, key=lambda name: self.product_cycles(product, kernels[name]))
        return self.kernel if self.kernel in kernels and admits(kernels[self.kernel], product) else "naive"

    def product_cycles(self, product: Product, kernel: Kernel, cores: int | None = None) -> float:
        """Cycles of the busiest core, without the fork."""
        cores = self.cores if cores is None else cores
        if kernel.width == 2:
            return self._two_wide(product, kernel, cores)
        n, k, m = product.rows, product.inner, product.columns
        scalar = self.loop_setup + k * self._inner(NAIVE, True, 1, cores) + self.store
        whole = n - n % kernel.rows
        rows = ceil(whole / cores)
        outputs = kernel.rows * kernel.columns
        block = self.loop_setup + k * self._inner(kernel, True, kernel.rows, cores) + outputs * self.store
        # blocks are not cut short at a core's last row, so that neighbours' rows are computed again
        blocks = ceil(rows / kernel.rows) * (m // kernel.columns)
        return blocks * block + (rows * (m % kernel.columns) + (n - whole) * ceil(m / cores)) * scalar

    def _two_wide(self, product: Product, kernel: Kernel, cores: int) -> float:
        k, m, transposed = product.inner, product.columns, product.transposed
        scalar = self._inner(NAIVE, True, 1, cores)

        def block(rows: int) -> float:
            outputs = rows * kernel.columns
            steps = k // 2 * self._inner(kernel, transposed, rows, cores) + k % 2 * outputs * scalar
            end = outputs * (self.store_pair / 2 + (self.join_lanes if transposed else 0))
            return self.loop_setup + steps + end

        rows = ceil(product.rows / cores)
        column = rows // kernel.rows * block(kernel.rows) + (block(1) if rows % kernel.rows else 0)
        left = rows * (m % kernel.columns) * (self.loop_setup + k * scalar + self.store)
        return m // kernel.columns * column + left

    def _inner(self, kernel: Kernel, transposed: bool, rows: int, cores: int) -> float:
        """Cycles of one step of the inner loop; shared units can't take more than one operation a cycle each."""
        other, multiply = kernel.instructions(transposed=transposed, rows=rows)
        return max(other + multiply, multiply * cores / min(self.fpus, cores)) * self.stall

    def step_costs(self, layer: Layer, *, first: bool) -> dict[Step, Cost]:
        """All passes of a layer; the first layer has no IG unless it is asked for.

        Raises:
            RunFailed: not even the smallest tile fits L1.
        """
        steps = STEPS if self.input_gradient_of_first or not first else STEPS[:2]
        return {step: self.pass_cost(layer, step) for step in steps}

    def pass_cost(self, layer: Layer, step: Step) -> Cost:
        """One pass of a layer.

        Raises:
            RunFailed: not even the smallest tile fits L1.
        """
        return (self._depthwise if layer.kind == "depthwise" else self._dense)(layer, step)

    def im2row_bytes(self, layer: Layer) -> int:
        """The whole buffer of FW: HoWo CiKhKw numbers."""
        return self.item * layer.positions * layer.fan_in if layer.kind in ("convolution", "depthwise") else 0

    def _copy(self, *, padded: bool) -> float:
        """Cycles an element of an im2row buffer."""
        if padded:
            return self.copy_padded
        return self.copy_pair if self.half else self.copy_single

    def _dense(self, layer: Layer, step: Step) -> Cost:
        """A linear, pointwise or convolutional layer, its groups one after another."""
        cost = self._tiled(layer.name, self._pass(layer, step))
        return Cost(cost.macs * layer.groups, cost.cycles * layer.groups, cost.l1_bytes)

    def _pass(self, layer: Layer, step: Step) -> Pass:
        window = layer.kind == "convolution"
        chw = self.layout == "CHW"
        transpositions: list[float] = []
        if step == "input":
            near, far = layer.outputs, layer.inputs
            rows, row = layer.size_in
            # of a strided layer only the places of dY that are not filled in are multiplied
            fan = ceil(near * layer.taps / (layer.stride[0] * layer.stride[1]))
            given = ceil(near * layer.positions / rows)
            halo = (layer.window[0] - 1) * near * layer.size_out[1]
            transpositions.append(layer.inputs * layer.outputs * layer.taps)
        else:
            near, far = layer.inputs, layer.outputs
            rows, row = layer.size_out
            fan = layer.fan_in
            given = near * layer.stride[0] * layer.size_in[1]
            halo = max(layer.window[0] - layer.stride[0], 0) * near * layer.size_in[1]
        if step == "weight" and not chw and layer.kind != "linear":
            transpositions.append(layer.outputs * layer.positions)
            if layer.kind == "pointwise":
                transpositions.append(layer.inputs * layer.positions)

        def product(positions: int, channels: int) -> Product:
            if step == "weight":
                return Product(channels, positions, fan, not chw or layer.kind == "pointwise")
            transposed = not chw or layer.kind != "pointwise"
            if chw or layer.kind == "linear":
                return Product(channels, fan, positions, transposed)
            return Product(positions, fan, channels, transposed)

        return Pass(
            macs=layer.macs // layer.groups,
            product=product,
            rows=rows,
            row=row,
            channels=far,
            buffer=fan if window else 0,
            copy=self._copy(padded=layer.padded or step == "input"),
            copy_share=(lambda _: ceil(near / self.cores) / near) if chw else (lambda r: ceil(r / self.cores) / r),
            given=given,
            halo=halo,
            held=fan,
            reshaped=[self.copy_single * elements / self.cores for elements in transpositions],
        )

    def _tiled(self, name: str, work: Pass) -> Cost:
        """The fewest tiles that fit L1; operands are moved in, results out, by DMA."""
        rows, channels = self._tile(name, work)
        down, across = _parts(work.rows, rows), _parts(work.channels, channels)
        cycles = sum(work.reshaped) + self.fork * len(work.reshaped)
        for tile_rows, count in down:
            positions = tile_rows * work.row
            if work.buffer:
                copied = positions * work.buffer * work.copy * work.copy_share(tile_rows)
                cycles += count * (copied + self.fork)
            for tile_channels, times in across:
                product = work.product(positions, tile_channels)
                kernel = (HALF if self.half else SINGLE)[self.choice(product)]
                cycles += count * times * (self.product_cycles(product, kernel) + self.fork)
        tiles = sum(count for _, count in down), sum(times for _, times in across)
        weights = work.held * work.channels * (tiles[0] if tiles[1] > 1 else 1)
        moved = work.rows * work.given + work.halo * tiles[0] + work.rows * work.row * work.channels + weights
        return Cost(
            work.macs, self._with_dma(cycles, moved, 3 * tiles[0] * tiles[1]), self._bytes(work, rows, channels)
        )

    def _with_dma(self, cycles: float, moved: float, transfers: int) -> float:
        dma = self.item * moved / self.dma_bytes_per_cycle + self.dma_setup * transfers
        return {"serial": cycles + dma, "overlapped": max(cycles, dma), "none": cycles}[self.transfers]

    def _bytes(self, work: Pass, rows: int, channels: int) -> int:
        positions = rows * work.row
        elements = rows * work.given + work.halo + positions * (work.buffer + channels)
        return self.item * (elements + work.held * channels)

    def _tile(self, name: str, work: Pass) -> tuple[int, int]:
        """Rows and channels of a tile: the fewest tiles that fit."""
        best: tuple[int, int] | None = None
        fewest = 0
        channels = work.channels
        while True:
            fixed = self._bytes(work, 0, channels)
            each = self._bytes(work, 1, channels) - fixed
            rows = min(work.rows, int((self.l1_bytes - fixed) // each))
            if rows >= 1:
                tiles = ceil(work.rows / rows) * ceil(work.channels / channels)
                if best is None or tiles < fewest:
                    best, fewest = (rows, channels), tiles
            if channels == 1:
                break
            channels = ceil(channels / 2)
        if best is None:
            needed = self._bytes(work, 1, 1)
            raise RunFailed(
                f"layer '{name}': its smallest tile needs {needed} bytes of L1, there are {self.l1_bytes}; "
                f"hardware.l1_bytes=… gives more"
            )
        return best

    def _depthwise(self, layer: Layer, step: Step) -> Cost:
        """Whole channels on each core."""
        channels, taps = layer.inputs, layer.taps
        places_in, places_out = layer.size_in[0] * layer.size_in[1], layer.positions
        spatial = places_in if step == "input" else places_out
        macs = layer.macs
        buffer = spatial * taps if self.depthwise == "im2col" else 0
        channel = places_in + places_out + taps
        fitting = int((self.l1_bytes // self.item - self.cores * buffer) // channel)
        if fitting < 1:
            needed = self.item * (self.cores * buffer + channel)
            raise RunFailed(
                f"layer '{layer.name}': one channel needs {needed} bytes of L1, there are {self.l1_bytes}; "
                f"hardware.depthwise=naive needs no buffer, hardware.l1_bytes=… gives more"
            )
        tile = min(channels, fitting)
        each = macs / channels
        if self.depthwise == "im2col":
            padded = layer.padded or step == "input"
            per_channel = spatial * taps * self._copy(padded=padded)
            shape = (1, places_out, taps) if step == "weight" else (1, ceil(each / spatial), spatial)
            product = Product(*shape, step != "weight" or self.layout == "HWC")
            kernel = (HALF if self.half else SINGLE)[self.choice(product)]
            per_channel += self.product_cycles(product, kernel, cores=1)
        else:
            per_channel = each * (self.depthwise_mac_input if step == "input" else self.depthwise_mac) * self.stall
        serial = self.depthwise == "naive_serial" and step != "forward"
        cycles = 0.0
        parts = _parts(channels, tile)
        for size, count in parts:
            cycles += count * (per_channel * (size if serial else ceil(size / self.cores)) + self.fork)
        transfers = 3 * sum(count for _, count in parts)
        size = self.item * (tile * channel + self.cores * buffer)
        return Cost(macs, self._with_dma(cycles, channels * channel, transfers), size)

    def costs(self, found: Sequence[Layer]) -> list[dict[Step, Cost]]:
        """``step_costs`` of all layers of a network, in the order of use."""
        return [self.step_costs(layer, first=place == 0) for place, layer in enumerate(found)]

    def step_total(self, found: Sequence[Layer]) -> Cost:
        """Of a whole step, loss and update included."""
        parts = [cost for steps in self.costs(found) for cost in steps.values()]
        cycles = sum(cost.cycles for cost in parts) + self.update_cycles(found) + self.loss_cycles(found[-1])
        return Cost(sum(cost.macs for cost in parts), cycles, max(cost.l1_bytes for cost in parts))

    def update_cycles(self, found: Sequence[Layer]) -> float:
        """SGD over all parameters of the layers, one piece of work a layer."""
        return sum(self.update(layer.parameters) for layer in found)

    def update(self, parameters: int) -> float:
        """Cycles of SGD over so many parameters."""
        return self.sgd * parameters / self.cores + self.fork

    def loss_cycles(self, last: Layer) -> float:
        """Of the network's outputs."""
        return self.loss * last.outputs * last.positions


def _parts(whole: int, size: int) -> list[tuple[int, int]]:
    """Sizes of the tiles with how many there are: all of ``size``, and perhaps a smaller last one."""
    count, rest = divmod(whole, size)
    return [(part, times) for part, times in ((size, count), (rest, 1)) if part and times]
