"""Run all benchmarks and print one table: ``python -m benchmarks [NAME …]``."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.table import Table

from benchmarks import (
    binary,
    commands,
    fp16,
    images,
    knowledge_graphs,
    launchers,
    learning_rules,
    load,
    molecular_dynamics,
    seeds,
    storing,
    training,
    variants,
)
from benchmarks.measure import Row
from runner import environment

BENCHMARKS = {
    "runner": training.runner_against_bare_script,
    "pyg": training.epoch_against_pyg,
    "cached": training.cached_against_uncached,
    "seeds-together": seeds.seeds_together,
    "variants": variants.epochs_against_direct,
    "activations": variants.activations_by_depth,
    "images": images.pipeline,
    "edge-messages": knowledge_graphs.messages_against_scatter,
    "nbfnet-epoch": knowledge_graphs.epoch_against_scatter,
    "molecular-dynamics": molecular_dynamics.engines,
    "fp16": fp16.emulation,
    "processes": learning_rules.blocks_in_processes,
    "image-path": learning_rules.image_path_once,
    "depth": learning_rules.activations_by_depth,
    "packed": binary.packed_inference,
    "logging": storing.logging_and_upload,
    "load": load.load,
    "startup": commands.startup,
    "sweep": commands.finished_sweep,
    "launchers": launchers.overhead,
}


def main(names: list[str]) -> int:
    """Print a row a figure; 1 if one is over its limit."""
    place = f"{environment.machine()}, {time.strftime('%Y-%m-%d')}, {environment.commit().get('commit', '')[:10]}"
    table = Table(title=place, box=None)
    for heading in ("what", "ours", "reference", "ratio", "limit"):
        table.add_column(heading, justify="left" if heading == "what" else "right", overflow="fold")
    rows: list[Row] = []
    for name in names or BENCHMARKS:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        rows += BENCHMARKS[name]()
    for row in rows:
        table.add_row(*row.cells(), style=None if row.well else "bold red")
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    return 0 if all(row.well for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
