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


def counter_current() -> None:
    """What learning rules reach on MNIST, and how CCL's variants on digits go with the alignment of both networks."""
    from matplotlib import pyplot

    data: dict[str, Any] = json.loads((ROOT / "results" / "ccl.json").read_text(encoding="utf-8"))
    cells = {(cell["table"], cell["row"], cell["column"]): cell for cell in data["cells"]}
    figure, (rules, alignment) = pyplot.subplots(1, 2, figsize=(12, 4), layout="constrained")
    names = [column for table, row, column in cells if (table, row) == ("perceptron", "mnist")]
    for place, name in enumerate(names):
        cell = cells["perceptron", "mnist", name]
        values = list(cell["values"].values())
        rules.plot(
            values, [place] * len(values), "o", color="#1e6fb3", alpha=0.7, label="each seed" if not place else None
        )
        if cell["published"]:
            label = "published: 100 epochs, all images" if not place else None
            rules.plot([cell["published"]["mean"]], [place], "|", color="#b3541e", markersize=14, label=label)
    rules.set_yticks(range(len(names)), names)
    rules.invert_yaxis()
    rules.set(xlabel="test accuracy, %", title="MNIST, 20 000 images, 10 epochs")
    rules.legend(frameon=False)
    for row in [row for table, row, column in cells if (table, column) == ("ablations", "accuracy")]:
        x, y = (cells["ablations", row, column] for column in ("CKA", "accuracy"))
        if x["n"]:
            colour = "#b3541e" if "fixed" in row else "#1e6fb3"
            alignment.errorbar(
                x["mean"], y["mean"], y["std"], x["std"], fmt="o", color=colour, alpha=0.8, elinewidth=0.8
            )
            alignment.annotate(row, (x["mean"], y["mean"]), xytext=(4, 4), textcoords="offset points", fontsize=7)
    alignment.set(xlabel="linear CKA of both networks, %", ylabel="test accuracy, %", title="CCL's variants on digits")
    for axis in (rules, alignment):
        axis.spines[["top", "right"]].set_visible(False)
    file = ROOT / "methods" / "learning_rules" / "ccl" / "alignment.svg"
    figure.savefig(file, metadata={"Date": None})
    print(file)


if __name__ == "__main__":
    forwardgnn()
    counter_current()
