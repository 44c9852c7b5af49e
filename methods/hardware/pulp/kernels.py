"""Inner loops of PULP-TrainLib's matrix products, and which one the library takes for a product.

A product is C [N, M] = A [N, K] B [K, M], rows of A and C being split over the cores. "Transposed" means that B
lies in memory as B^T [M, K], so that both operands are read along k.
"""

from __future__ import annotations

from dataclasses import dataclass

CORES_OF_CHOICE = 8
"""The library compares rows a core with the number of cores it is compiled for; kept where fewer are modelled,
so that a speed-up compares one kernel with itself."""


@dataclass(frozen=True)
class Product:
    """The shape of one product."""

    rows: int
    """N."""
    inner: int
    """K."""
    columns: int
    """M."""
    transposed: bool

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.rows * self.inner * self.columns


@dataclass(frozen=True)
class Kernel:
    """A block of U x V outputs, ``width`` places of k at a time."""

    rows: int
    """U."""
    columns: int
    """V."""
    width: int = 1
    """2: a register holds two numbers of 16 bits, and an instruction takes both."""

    def instructions(self, *, transposed: bool, rows: int | None = None) -> tuple[int, int]:
        """Loads and shuffles, and multiply-accumulates, of one step of the inner loop.

        A step loads U + V operands and multiplies U V pairs. Where B lies as it is, two-wide kernels spread each
        of the two numbers of a row of A over a register of its own: 2 U shuffles.
        """
        u = self.rows if rows is None else rows
        shuffles = 0 if transposed or self.width == 1 else 2 * u
        return u + self.columns + shuffles, u * self.columns

    def cycles_per_mac(self, *, transposed: bool) -> float:
        """One instruction a cycle, hardware loops, loads that move their pointer."""
        return sum(self.instructions(transposed=transposed)) / (self.rows * self.columns * self.width)


NAIVE = Kernel(1, 1)
SINGLE = {
    "naive": NAIVE,
    "2x1": Kernel(2, 1),
    "4x1": Kernel(4, 1),
    "8x1": Kernel(8, 1),
    "1x8": Kernel(1, 8),
    "2x2": Kernel(2, 2),
    "2x4": Kernel(2, 4),
    "4x4": Kernel(4, 4),
}
"""32-bit kernels."""
HALF = {"naive": NAIVE, "2x4": Kernel(1, 2, 2), "4x8": Kernel(2, 4, 2)}
"""16-bit kernels; their names count scalars: 4x8 is four numbers of A, two rows of two, by eight of B."""


def library_choice(product: Product, *, half: bool) -> str:
    """The kernel that the library's conditions choose, once for all cores."""
    n, k, m = product.rows, product.inner, product.columns
    if half:
        if m >= 4 and k >= 2 and (n & ~1) // CORES_OF_CHOICE >= 2:
            return "4x8"
        return "2x4" if m >= 2 and k >= 2 else "naive"
    if m == 1:
        per_core = n // CORES_OF_CHOICE
        return next((f"{u}x1" for u in (8, 4, 2) if per_core >= u), "naive")
    per_core = (n & ~3) // CORES_OF_CHOICE
    if per_core < 2:
        return "1x8"
    if per_core < 4:
        return "2x4"
    return "2x2" if m < 4 else "4x4"


def admits(kernel: Kernel, product: Product) -> bool:
    """Whether a product has at least one whole block of this kernel."""
    return product.rows >= kernel.rows and product.columns >= kernel.columns and product.inner >= kernel.width
