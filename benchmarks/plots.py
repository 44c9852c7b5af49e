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


def crossbar() -> None:
    """How a pulse moves a device, and what each update scheme makes of it: every seed, and the mean."""
    import torch
    from matplotlib import pyplot

    from runner.methods.hardware.crossbar.device import branch

    data: dict[str, Any] = json.loads((ROOT / "results" / "synapse-adaptive-rule.json").read_text(encoding="utf-8"))
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"] if cell["table"] == "accuracy"}
    schemes = {"software": "#777777", "both": "#b3541e", "single": "#c9a227", "unidirectional": "#1e6fb3"}
    rows = list(dict.fromkeys(row for row, _ in cells))
    figure, (response, accuracy) = pyplot.subplots(1, 2, figsize=(11, 3.6), layout="constrained", width_ratios=[1, 1.8])
    pulses = torch.arange(65, dtype=torch.float64)
    for beta, shade in ((0.0, 0.3), (1.0, 0.5), (3.0, 0.75), (5.0, 1.0)):
        curve = branch(torch.tensor(beta, dtype=torch.float64), 64).curve(pulses)
        response.plot(pulses, curve, color="#1e6fb3", alpha=shade, label=f"beta {beta:g}")
        response.plot(64 + pulses, 1 - curve, color="#1e6fb3", alpha=shade)
    response.set(xlabel="pulses: 64 up, 64 down", ylabel="conductance / range", title="one device")
    for place, (scheme, colour) in enumerate(schemes.items()):
        for index, row in enumerate(rows):
            values = list(cells[row, scheme]["values"].values())
            at = index + (place - 1.5) * 0.17
            accuracy.plot([at] * len(values), values, "o", color=colour, markersize=4, alpha=0.6)
            label = scheme if index == 0 else None
            accuracy.plot([at - 0.07, at + 0.07], [cells[row, scheme]["mean"]] * 2, color=colour, lw=2.5, label=label)
    accuracy.set(ylabel="test accuracy, %", title="MNIST, 784-64-10, 3 epochs: each seed and the mean")
    accuracy.set_xticks(range(len(rows)), [row.replace(", ", ",\n") for row in rows])
    for axis in (response, accuracy):
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    file = ROOT / "methods" / "hardware" / "crossbar" / "schemes.svg"
    figure.savefig(file, metadata={"Date": None})
    print(file)


def biper() -> None:
    """Quantisation error against omega b, closed form and trained networks; accuracies, every seed and the mean."""
    from matplotlib import pyplot

    from runner.methods.learning_rules.binary.quantisation_error import LIMIT, least_error

    data: dict[str, Any] = json.loads((ROOT / "results" / "biper.json").read_text(encoding="utf-8"))
    cells = {(cell["table"], cell["row"], cell["column"]): cell for cell in data["cells"]}
    figure, (error, accuracy) = pyplot.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    curve = [10 ** (-1.5 + step / 50) for step in range(151)]
    error.plot(curve, [least_error(x) for x in curve], color="#777777", label="Laplace latents, closed form")
    error.axhline(LIMIT, color="#bbbbbb", linestyle=":", label="uniform phase")
    for shade, omega in ((0.3, "5.0"), (0.5, "10.0"), (0.75, "20.0"), (1.0, "40.0")):
        spread, found = (
            cells["quantisation", f"omega = {omega}", column]["values"].values()
            for column in ("omega b, b = mean |w|", "QE, gamma fitted")
        )
        error.plot(list(spread), list(found), "o", color="#1e6fb3", alpha=shade, label=f"trained, omega {omega}")
    error.set(xscale="log", xlabel="omega b", ylabel="quantisation error", ylim=(0, None))
    rows = list(dict.fromkeys(row for table, row, _ in cells if table == "accuracy"))
    for place, row in enumerate(reversed(rows)):
        cell = cells["accuracy", row, "test"]
        accuracy.plot(list(cell["values"].values()), [place] * cell["n"], "o", color="#1e6fb3", markersize=4, alpha=0.6)
        accuracy.plot([cell["mean"]] * 2, [place - 0.25, place + 0.25], color="#b3541e", lw=2.5)
    accuracy.set_yticks(range(len(rows)), rows[::-1])
    accuracy.set(
        xlabel="test accuracy, %", title="Fashion-MNIST, 16 x 16: each seed, the mean"
    )
    error.legend(frameon=False, fontsize="small")
    for axis in (error, accuracy):
        axis.spines[["top", "right"]].set_visible(False)
    file = ROOT / "methods" / "learning_rules" / "binary" / "quantisation_error.svg"
    figure.savefig(file, metadata={"Date": None})
    print(file)


if __name__ == "__main__":
    forwardgnn()
    crossbar()
    biper()
