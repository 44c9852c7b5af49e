"""The plots of the method READMEs, from ``results/``: ``python -m benchmarks.plots``."""

from __future__ import annotations

import json
from typing import Any

import matplotlib

from benchmarks.readme import ROOT

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "runner"  # the same picture, the same bytes
COLOURS = {"BP": "#b3541e", "SF": "#1e6fb3"}


def forwardgnn() -> None:
    """Accuracy by depth on three graphs, and saved activations by depth: BP against SF."""
    from matplotlib import pyplot

    data: dict[str, Any] = json.loads((ROOT / "results" / "forwardgnn.json").read_text(encoding="utf-8"))
    cells = {(cell["table"], cell["row"], cell["column"]): cell for cell in data["cells"]}
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


def bidirectional() -> None:
    """Accuracy of clean and attacked test images for each network: BP, BL then BP, BL; published figures as ticks."""
    from matplotlib import pyplot

    results = ROOT / "results" / "bidirectional-learning.json"
    if not results.exists():
        return
    data: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    cells = {(cell["table"], cell["row"], cell["column"]): cell for cell in data["cells"]}
    shown = {"clean": "clean", "fgsm": "FGSM, eps 0.3", "pgd": "PGD, eps 0.3"}
    colours = {"BP": "#b3541e", "BL then BP": "#8a8a8a", "BL": "#1e6fb3"}
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.2), layout="constrained", sharey=True)
    for axis, network in zip(axes, ("no hidden", "two hidden", "four hidden"), strict=True):
        for offset, (column, colour) in zip((-0.27, 0.0, 0.27), colours.items(), strict=True):
            found = [(place, cells[table, network, column]) for place, table in enumerate(shown)]
            found = [(place + offset, cell) for place, cell in found if cell["n"]]
            if not found:
                continue
            count = min(cell["n"] for _, cell in found)
            axis.bar(
                [place for place, _ in found],
                [cell["mean"] for _, cell in found],
                0.25,
                yerr=[cell["std"] or 0 for _, cell in found],
                color=colour,
                label=f"{column}, n = {count}",
            )
            for place, cell in found:
                if cell["published"]:
                    axis.hlines(cell["published"]["mean"], place - 0.125, place + 0.125, color="black", linewidth=2)
        axis.plot([], [], color="black", linewidth=2, label="published, one run")
        axis.set(title=network, xticks=range(len(shown)), xticklabels=shown.values())
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("MNIST, accuracy in %")
    file = ROOT / "methods" / "learning_rules" / "bidirectional" / "attacks.svg"
    figure.savefig(file, metadata={"Date": None})
    print(file)


if __name__ == "__main__":
    forwardgnn()
    bidirectional()
