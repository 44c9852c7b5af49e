"""The plots of the method READMEs, from ``results/``: ``python -m benchmarks.plots``."""

from __future__ import annotations

import json
from typing import Any

import matplotlib

from benchmarks.readme import ROOT

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "runner"  # the same picture, the same bytes
COLOURS = {"BP": "#b3541e", "SF": "#1e6fb3"}


def cells_of(paper: str) -> dict[tuple[str, str, str], Any]:
    """A paper's measured cells by table, row and column."""
    data: dict[str, Any] = json.loads((ROOT / "results" / f"{paper}.json").read_text(encoding="utf-8"))
    return {(cell["table"], cell["row"], cell["column"]): cell for cell in data["cells"]}


def forwardgnn() -> None:
    """Accuracy by depth on three graphs, and saved activations by depth: BP against SF."""
    from matplotlib import pyplot

    cells = cells_of("forwardgnn")
    figure, axes = pyplot.subplots(1, 4, figsize=(13, 3.2), layout="constrained")
    for axis, dataset in zip(axes, ("cora", "cora_ml", "citeseer_full"), strict=False):
        for column, colour in COLOURS.items():
            found = [(depth, cells.get(("node", f"{dataset}, gcn, {depth} layers", column))) for depth in (1, 2, 3, 4)]
            shown = [(depth, cell) for depth, cell in found if cell and cell["n"]]
            axis.errorbar(
                [depth for depth, _ in shown],
                [cell["mean"] for _, cell in shown],
                [cell["std"] or 0 for _, cell in shown],
                color=colour,
                marker="o" if column == "SF" else "s",
                capsize=3,
                label=f"{column}, n = {min(cell['n'] for _, cell in shown)}",
            )
        axis.set(title=dataset, xlabel="layers (GCN)", ylabel="test accuracy, %", xticks=[1, 2, 3, 4])
    for column, colour in COLOURS.items():
        values = [cells["memory", f"{depth} layers", column]["mean"] for depth in (1, 2, 3, 4)]
        axes[3].plot([1, 2, 3, 4], values, color=colour, marker="o" if column == "SF" else "s", label=column)
    axes[3].set(title="citeseer_full", xlabel="layers (GCN)", ylabel="saved activations, MB", xticks=[1, 2, 3, 4])
    for axis in axes:
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    file = ROOT / "methods" / "graph" / "forwardgnn" / "depth.svg"
    figure.savefig(file, metadata={"Date": None})
    print(file)


def noprop() -> None:
    """Accuracy by the number of blocks run, saved activations by that of all blocks: Backprop against NoProp-DT."""
    from matplotlib import pyplot

    cells = cells_of("noprop")
    figure, axes = pyplot.subplots(1, 2, figsize=(7.5, 3.2), layout="constrained")
    blocks, depths = (1, 2, 3, 4, 5), (2, 5, 10)
    for column, colour, marker in (("Backprop", COLOURS["BP"], "s"), ("NoProp-DT", COLOURS["SF"], "o")):
        found = [cells["blocks", f"after block {block}", column] for block in blocks]
        accuracy, spread = [cell["mean"] for cell in found], [cell["std"] or 0 for cell in found]
        label = f"{column}, n = {min(cell['n'] for cell in found)}"
        axes[0].errorbar(blocks, accuracy, spread, color=colour, marker=marker, capsize=3, label=label)
        saved = [cells["memory", f"T = {depth}", column]["mean"] for depth in depths]
        axes[1].plot(depths, saved, color=colour, marker=marker, label=column)
    axes[0].set(title="MNIST, 5000 images", xlabel="blocks run, of 5", ylabel="test accuracy, %", xticks=blocks)
    axes[1].set(title="a training step", xlabel="blocks", ylabel="saved activations, MB", xticks=depths, ylim=(0, None))
    for axis in axes:
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    file = ROOT / "methods" / "learning_rules" / "noprop" / "blocks.svg"
    figure.savefig(file, metadata={"Date": None})
    print(file)


if __name__ == "__main__":
    forwardgnn()
    noprop()
