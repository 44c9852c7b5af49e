"""The kernels in C, for a RISC-V core with scalar half precision (Zfh), run under QEMU.

What it is for: another arithmetic than ours computes the same orders of operations, bit for bit, and counts its
instructions. It has no Xpulp (hardware loops, packed 16-bit operations), so its counts are those of a plain core.

    python -m runner.methods.hardware.pulp.emit 16 33 18
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from itertools import product as pairs
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from runner.errors import RunFailed
from runner.methods.hardware.pulp.formats import FORMATS, Array
from runner.methods.hardware.pulp.kernels import HALF, Kernel
from runner.methods.hardware.pulp.products import product

CLANG, LINKER, QEMU = "clang-16", "ld.lld-16", "qemu-system-riscv32"
TOOLS = {CLANG: "clang-16", LINKER: "lld-16", QEMU: "qemu-system-misc"}
"""Programs, with the Debian packages that hold them."""
FLAGS = [
    *("--target=riscv32", "-march=rv32imafc_zfh", "-mabi=ilp32f", "-O2", "-ffp-contract=fast"),
    *("-fno-strict-aliasing", "-nostdlib", "-static", "-fuse-ld=lld-16"),
]
# without it each operation is widened to float and narrowed: other numbers, and 11 instead of 7 instructions a MAC
NARROW = ["-Xclang", "-ffloat16-excess-precision=none"]
MACHINE = ["-M", "virt", "-cpu", "rv32,Zfh=true", "-bios", "none", "-nographic", "-icount", "shift=0"]
LIMIT = 120.0
"""Seconds: a program that traps never ends."""

LINKER_SCRIPT = """ENTRY(_start)
SECTIONS {
  . = 0x80000000;
  .text : { *(.text.start) *(.text*) }
  .data : { *(.data*) *(.sdata*) *(.rodata*) *(.srodata*) }
  .bss : { *(.bss*) *(.sbss*) }
  . = ALIGN(16); . += 0x10000; stack = .;
}
"""
PROGRAM = """#include <stdint.h>
typedef _Float16 half;
/* contracted to one fmadd.h */
#define FMA(a, b, c) ((a) * (b) + (c))
#define A(i, k) a[(i) * K + (k)]
#define B(k, j) b[{b_place}]

__attribute__((noinline)) void matmul(const half *a, const half *b, half *c, int N, int K, int M)
{{
{body}}}

static uint16_t a[] = {{{a}}};
static uint16_t b[] = {{{b}}};
static uint16_t c[{n} * {m}];

static void put(char byte) {{ *(volatile uint8_t *)0x10000000 = byte; }}
static void hex(uint32_t value, int digits)
{{
    while (digits--) put("0123456789abcdef"[value >> 4 * digits & 15]);
    put('\\n');
}}
static uint32_t retired(void)
{{
    uint32_t high, low, again;
    do {{
        __asm__ volatile("csrr %0, minstreth\\n csrr %1, minstret\\n csrr %2, minstreth"
                         : "=r"(high), "=r"(low), "=r"(again));
    }} while (high != again);
    return low;
}}
void run(void)
{{
    uint32_t before = retired();
    matmul((half *)a, (half *)b, (half *)c, {n}, {k}, {m});
    uint32_t after = retired();
    hex(after - before, 8);
    for (int i = 0; i < {n} * {m}; i++) hex(c[i], 4);
    *(volatile uint32_t *)0x100000 = 0x5555;
}}
__attribute__((naked, section(".text.start"))) void _start(void)
{{
    __asm__ volatile("la sp, stack\\n li t0, 0x6000\\n csrs mstatus, t0\\n call run\\n 1: j 1b");
}}
"""


class Emulated(NamedTuple):
    """What the emulated core made of a product."""

    result: Array
    """C [N, M], numbers of binary16."""
    instructions: int
    """Retired from the call to the return."""


def scalar_instructions(n: int, k: int, m: int) -> float:
    """The naive kernel on a plain core: 7 a MAC (two loads, fmadd, three additions, a branch), 12.5 an output."""
    return 7.0 * n * k * m + 12.5 * n * m


def body(kernel: Kernel, *, transposed: bool) -> str:
    """Statements of ``matmul`` for one core: whole blocks, rows left over, columns left over."""
    if kernel.width == 1:
        return _chains("0")
    text = f"    int i = 0, whole = M - M % {kernel.columns};\n"
    for rows in dict.fromkeys((kernel.rows, 1)):
        text += f"    for (; i + {rows} <= N; i += {rows})\n"
        text += f"    for (int j = 0; j < whole; j += {kernel.columns}) {{\n"
        text += _block(rows, kernel, transposed) + "    }\n"
    return text + _chains("whole")


def _chains(first: str) -> str:
    """One chain an output, for the columns from ``first`` on."""
    return (
        "    for (int i = 0; i < N; i++)\n"
        f"    for (int j = {first}; j < M; j++) {{\n"
        "        half acc = 0;\n"
        "        for (int k = 0; k < K; k++) acc = FMA(A(i, k), B(k, j), acc);\n"
        "        c[i * M + j] = acc;\n"
        "    }\n"
    )


def _block(rows: int, kernel: Kernel, transposed: bool) -> str:
    """One block of outputs: with B^T an even and an odd chain each, else one."""
    places = list(pairs(range(rows), range(kernel.columns)))
    text = "".join(f"        half even{r}{v} = 0, odd{r}{v} = 0;\n" for r, v in places)
    text += "        int k = 0;\n        for (; k + 2 <= K; k += 2) {\n"
    for r, v in places:
        second = "odd" if transposed else "even"
        text += f"            even{r}{v} = FMA(A(i + {r}, k), B(k, j + {v}), even{r}{v});\n"
        text += f"            {second}{r}{v} = FMA(A(i + {r}, k + 1), B(k + 1, j + {v}), {second}{r}{v});\n"
    text += "        }\n"
    apart = transposed and kernel == HALF["2x4"]
    for r, v in places:
        place = f"c[(i + {r}) * M + j + {v}]"
        last = f"A(i + {r}, k), B(k, j + {v})"
        if apart:
            text += f"        half left{r}{v} = k < K ? FMA({last}, (half)0) : (half)0;\n"
            text += f'        __asm__("" : "+f"(left{r}{v})); /* rounded by itself */\n'
            text += f"        {place} = left{r}{v} + (even{r}{v} + odd{r}{v});\n"
        else:
            text += f"        if (k < K) even{r}{v} = FMA({last}, even{r}{v});\n"
            text += f"        {place} = even{r}{v}{f' + odd{r}{v}' if transposed else ''};\n"
    return text


def source(a: Array, b: Array, *, kernel: str, transposed: bool) -> str:
    """A whole program for A [N, K] and B [K, M]: prints the count, then C, as lines of hexadecimal digits."""
    stored = b.T if transposed else b
    return PROGRAM.format(
        b_place="(j) * K + (k)" if transposed else "(k) * M + (j)",
        body=body(HALF[kernel], transposed=transposed),
        a=_bits(a),
        b=_bits(stored),
        n=a.shape[0],
        k=a.shape[1],
        m=b.shape[1],
    )


def _bits(matrix: Array) -> str:
    return ", ".join(map(str, matrix.astype(np.float16).ravel().view(np.uint16).tolist()))


def missing() -> list[str]:
    """Debian packages that this machine lacks for ``emulate``."""
    return [package for program, package in TOOLS.items() if shutil.which(program) is None]


def emulate(a: Array, b: Array, *, kernel: str, transposed: bool) -> Emulated:
    """Compile a kernel and run it.

    Args:
        a: [N, K], numbers of binary16; b: [K, M].
        kernel: a name of ``kernels.HALF``.
        transposed: whether B lies in memory as B^T.

    Raises:
        RunFailed: a tool is missing, or the program doesn't end.
    """
    if lacking := missing():
        raise RunFailed(f"the emulator needs Debian's {', '.join(lacking)}: apt-get install {' '.join(lacking)}")
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "kernel.c").write_text(source(a, b, kernel=kernel, transposed=transposed))
        (place / "kernel.ld").write_text(LINKER_SCRIPT)
        build = [CLANG, *FLAGS, *NARROW, "-T", "kernel.ld", "-o", "kernel.elf", "kernel.c"]
        try:
            subprocess.run(build, cwd=place, check=True, capture_output=True, text=True, timeout=LIMIT)
            run = [QEMU, *MACHINE, "-kernel", "kernel.elf"]
            done = subprocess.run(
                run, cwd=place, check=True, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise RunFailed(f"{error.cmd[0]} took more than {LIMIT:g} s") from error
        except subprocess.CalledProcessError as error:
            raise RunFailed(f"{error.cmd[0]}: {error.stderr.strip().splitlines()[:1]}") from error
    count, *bits = (int(line, 16) for line in done.stdout.split())
    result = np.array(bits, np.uint16).view(np.float16).astype(np.float64)
    return Emulated(result.reshape(a.shape[0], b.shape[1]), count)


def main(arguments: list[str]) -> int:
    """Every kernel on random matrices of a shape: equal bits, instructions, and the model's count of the naive one."""
    parser = argparse.ArgumentParser(prog="emit", description="run the kernels on an emulated RISC-V core with Zfh")
    for letter in "NKM":
        parser.add_argument(letter, type=int)
    parser.add_argument("--source", choices=HALF, help="print this kernel's C (with B^T) instead of running all")
    parsed = parser.parse_args(arguments)
    n, k, m = parsed.N, parsed.K, parsed.M
    draw, number = np.random.default_rng(0), FORMATS["binary16"]
    a, b = number.round(draw.standard_normal((n, k))), number.round(draw.standard_normal((k, m)))
    if parsed.source:
        print(source(a, b, kernel=parsed.source, transposed=True))
        return 0
    print(f"{n} x {k} x {m}; model of the naive kernel: {scalar_instructions(n, k, m):.0f} instructions")
    for kernel, transposed in pairs(HALF, (True, False)):
        try:
            found = emulate(a, b, kernel=kernel, transposed=transposed)
        except RunFailed as error:
            print(f"emit: {error}", file=sys.stderr)
            return error.exit_status
        ours = product(a, b, number, kernel=kernel, transposed=transposed)
        same = "equal" if np.array_equal(ours, found.result) else "DIFFERENT"
        print(f"{kernel:6} {'B^T' if transposed else 'B  '} {same} bits, {found.instructions} instructions")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
