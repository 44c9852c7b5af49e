"""The plots of the method READMEs, from ``results/``: ``python -m benchmarks.plots``."""

from __future__ import annotations

import json
import sys
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.readme import ROOT

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "runner"  # the same picture, the same bytes
COLOURS = {"BP": "#b3541e", "SF": "#1e6fb3"}


def cells_of(paper: str) -> dict[tuple[str, str, str], Any]:
    """A paper's measured cells by table, row and column."""
    data: dict[str, Any] = json.loads((ROOT / "results" / f"{paper}.json").read_text(encoding="utf-8"))
    return {(cell["table"], cell["row"], cell["column"]): cell for cell in data["cells"]}


def kept(figure: Figure, path: str) -> None:
    """Write a figure to ``path`` of this repository, without frames on the right and above."""
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(ROOT / path, metadata={"Date": None})
    print(ROOT / path)


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
    kept(figure, "methods/graph/forwardgnn/depth.svg")


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
    kept(figure, "methods/learning_rules/noprop/blocks.svg")


def crossbar() -> None:
    """How a pulse moves a device, and what each update scheme makes of it: every seed, and the mean."""
    import torch
    from matplotlib import pyplot

    from runner.methods.hardware.crossbar.device import branch

    cells = {
        (row, column): cell
        for (table, row, column), cell in cells_of("synapse-adaptive-rule").items()
        if table == "accuracy"
    }
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
    kept(figure, "methods/hardware/crossbar/schemes.svg")


def fp16_mcu_odl() -> None:
    """What one convolution and two networks reach in 16 and 32 bits; what rounding swallows, by rule and format."""
    from matplotlib import pyplot

    cells = cells_of("fp16-mcu-odl")
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.4), layout="constrained")
    bars = {
        "1 x 1": ("convolution", "1 x 1, 64 to 128 channels, 16 x 16", ("16 bits, HWC", "32 bits, HWC")),
        "3 x 3": ("convolution", "3 x 3 with padding, 16 channels, 16 x 16", ("16 bits, HWC", "32 bits, HWC")),
        "ResNet8": ("network", "ResNet8", ("16 bits", "32 bits")),
        "DS-CNN": ("network", "DS-CNN", ("16 bits", "32 bits")),
    }
    for place, (label, colour) in enumerate({"16 bits": "#1e6fb3", "32 bits": "#b3541e"}.items()):
        heights = [cells[table, row, columns[place]]["mean"] for table, row, columns in bars.values()]
        axes[0].bar([x + 0.4 * place - 0.2 for x in range(len(bars))], heights, 0.4, color=colour, label=label)
    axes[0].set(xticks=range(len(bars)), xticklabels=list(bars), ylabel="modelled MAC/cycle, 8 cores")
    rules = ["backprop_image", "fa"]
    formats = {"float32": "#777777", "binary16": "#1e6fb3", "bfloat16": "#b3541e"}
    for axis, prefix, label in ((axes[1], "", "test accuracy, %"), (axes[2], "lost, ", "updates lost to rounding, %")):
        for place, (name, colour) in enumerate(formats.items()):
            found = [cells["numerics", rule, prefix + name] for rule in rules]
            axis.bar(
                [x + 0.27 * (place - 1) for x in range(len(rules))],
                [cell["mean"] for cell in found],
                0.27,
                yerr=[cell["std"] or 0 for cell in found],
                capsize=2,
                color=colour,
                label=f"{name}, n = {min(cell['n'] for cell in found)}",
            )
        axis.set(xticks=range(len(rules)), xticklabels=["BP", "FA"], ylabel=label)
    for axis in axes:
        axis.legend(frameon=False, fontsize="small")
    kept(figure, "methods/hardware/pulp/formats.svg")


def bidirectional() -> None:
    """Accuracy of clean and attacked test images for each network: BP, BL then BP, BL; published figures as ticks."""
    from matplotlib import pyplot

    cells = cells_of("bidirectional-learning")
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
    axes[0].set_ylabel("MNIST, accuracy in %")
    kept(figure, "methods/learning_rules/bidirectional/attacks.svg")


def biper() -> None:
    """Quantisation error against omega b, closed form and trained networks; accuracies, every seed and the mean."""
    from matplotlib import pyplot

    from runner.methods.learning_rules.binary.quantisation_error import LIMIT, least_error

    cells = cells_of("biper")
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
    accuracy.set(xlabel="test accuracy, %", title="Fashion-MNIST, 16 x 16: each seed, the mean")
    error.legend(frameon=False, fontsize="small")
    kept(figure, "methods/learning_rules/binary/quantisation_error.svg")


def counter_current() -> None:
    """What learning rules reach on MNIST, and how CCL's variants on digits go with the alignment of both networks."""
    from matplotlib import pyplot

    cells = cells_of("ccl")
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
    kept(figure, "methods/learning_rules/ccl/alignment.svg")


def cross_learning_rules() -> None:
    """Each rule's accuracy on each hardware, every seed and the mean; cycles of a step, and what it holds."""
    from matplotlib import pyplot

    cells = cells_of("cross_learning_rules")
    rules = list(dict.fromkeys(row for table, row, _ in cells if table == "accuracy"))
    colours = {"cpu": "#777777", "synapse_crossbar": "#b3541e", "pulp_8core, binary16": "#1e6fb3"}
    figure, (accuracy, cycles, held) = pyplot.subplots(
        1, 3, figsize=(13, 4.2), layout="constrained", sharey=True, width_ratios=[2, 1, 1]
    )
    for offset, (hardware, colour) in zip((-0.22, 0.0, 0.22), colours.items(), strict=True):
        label: str | None = hardware
        for place, rule in enumerate(rules):
            cell = cells.get(("accuracy", rule, hardware))
            if cell and cell["n"]:
                at = place + offset
                accuracy.plot(
                    list(cell["values"].values()), [at] * cell["n"], "o", color=colour, alpha=0.6, label=label
                )
                accuracy.plot([cell["mean"]] * 2, [at - 0.1, at + 0.1], color=colour, lw=2.5)
                label = None
    accuracy.set_yticks(range(len(rules)), rules)
    accuracy.invert_yaxis()
    accuracy.set(xlabel="test accuracy, %", title="digits, two hidden layers of 64: each seed and the mean")
    accuracy.legend(frameon=False)
    blue = colours["pulp_8core, binary16"]
    places = range(len(rules))
    cycles.plot([cells["work", rule, "cycles, pulp_8core"]["mean"] for rule in rules], places, "o", color=blue)
    cycles.set(xscale="log", xlabel="modelled cycles, thousands", title="a step of one image")
    cycles.set_xticks([100, 200, 500, 1000, 2000], ["100", "200", "500", "1000", "2000"])
    cycles.minorticks_off()
    held.barh(places, [cells["memory", rule, "pulp_8core, binary16"]["mean"] for rule in rules], color=blue)
    held.set(xlabel="held, kB", title="a step of 20 images")
    kept(figure, "methods/learning_rules/hardware.svg")


def practical_attack() -> None:
    """What a stronger attack does to a JKNet's loss and to its errors, and whom each strategy reaches on Cora."""
    from matplotlib import pyplot

    cells = cells_of("gnn-practical-attack")
    figure, (losses, errors, reached) = pyplot.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    strengths = ("0.25", "0.5", "1", "2", "5", "10")
    colours = {"Random": "#777777", "RWCS": "#b3541e", "GC-RWCS": "#1e6fb3"}
    for strategy, colour in colours.items():
        for axis, quantity, scale in ((losses, "loss", 1.0), (errors, "accuracy", -100.0)):
            found = [cells["curve", f"strength {strength}", f"{quantity}, {strategy}"] for strength in strengths]
            offset = 100.0 if quantity == "accuracy" else 0.0
            means = [offset + scale * cell["mean"] for cell in found]
            spread = [abs(scale) * (cell["std"] or 0) for cell in found]
            label = f"{strategy}, n = {min(cell['n'] for cell in found)}"
            axis.errorbar(range(len(strengths)), means, spread, color=colour, marker="o", capsize=3, label=label)
    losses.set(ylabel="test loss", title="JKNet-MaxPool, cora, a tenth protected")
    errors.set(ylabel="wrong test nodes, %")
    for axis in (losses, errors):
        axis.set(xlabel="strength", xticks=range(len(strengths)), xticklabels=strengths)
    rows = ("0.1 protected", "0.3 protected")
    for place, (strategy, colour) in enumerate(colours.items()):
        heights = [cells["selection", row, f"nodes reached, {strategy}"]["mean"] for row in rows]
        reached.bar([x + 0.27 * (place - 1) for x in range(len(rows))], heights, 0.27, color=colour, label=strategy)
    reached.set(xticks=range(len(rows)), xticklabels=rows, ylabel="nodes reached by 27, of 2708")
    for axis in (losses, errors, reached):
        axis.legend(frameon=False, fontsize="small")
    kept(figure, "methods/graph/practical_attack/discrepancy.svg")


def metapruning() -> None:
    """Accuracy by speed-up, right after pruning and after the last finetuning: the arms of digits."""
    from matplotlib import pyplot

    cells = cells_of("metapruning")
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
    colours = {
        "no metanetwork": "#b3541e",
        "random channels": "#777777",
        "sparse learning 5e-2": "#1e6fb3",
        "metanetwork, epoch chosen": "#2a8c4a",
    }
    speedups = ("2x", "3x", "4x", "6x")
    for axis, table, title in zip(axes, ("right_after", "finetuned"), ("right after", "finetuned"), strict=True):
        for row, colour in colours.items():
            found = [cells[table, row, speedup] for speedup in speedups]
            means, deviations = [cell["mean"] for cell in found], [cell["std"] or 0 for cell in found]
            label = f"{row}, n = {min(cell['n'] for cell in found)}"
            axis.errorbar(range(len(speedups)), means, deviations, color=colour, marker="o", capsize=3, label=label)
        axis.set(
            title=title, xlabel="multiply-adds before over after", xticks=range(len(speedups)), xticklabels=speedups
        )
    axes[0].set(ylabel="test accuracy, %")
    axes[1].legend(frameon=False, fontsize="small")
    kept(figure, "methods/pruning/speedups.svg")


def virgo() -> None:
    """Signal and gradient by layer of untrained networks: classical initial weights against Virgo's."""
    from matplotlib import pyplot

    cells = cells_of("virgo")
    colours = {"Xavier": "#b3541e", "Kaiming fan-in": "#c9a227", "Virgofor": "#7fb2d9", "Virgo": "#1e6fb3"}
    networks = {"gcn, 16 layers": (1, 4, 8, 12, 15), "gin (1 map), 8 layers": (1, 3, 5, 7)}
    figure, axes = pyplot.subplots(1, 4, figsize=(13, 3.2), layout="constrained")
    for place, (network, layers) in enumerate(networks.items()):
        for offset, (table, what) in enumerate({"forward": "pre-activations", "backward": "their gradients"}.items()):
            axis = axes[2 * place + offset]
            for column, colour in colours.items():
                found = [cells[table, f"{network}, layer {layer}", column] for layer in layers]
                axis.errorbar(
                    layers,
                    [cell["mean"] for cell in found],
                    [cell["std"] or 0 for cell in found],
                    color=colour,
                    marker="o" if column.startswith("Virgo") else "s",
                    linestyle="--" if column == "Virgofor" else "-",
                    capsize=3,
                    label=f"{column}, n = {min(cell['n'] for cell in found)}",
                )
            axis.set(title=f"{what}\n{network}", xlabel="layer", ylabel="log10 mean square", xticks=layers)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize="small")
    file = ROOT / "methods" / "graph" / "virgo" / "signal.svg"
    figure.savefig(file, metadata={"Date": None})
    print(file)


def nbfnet() -> None:
    """Hits@10 of 50 among new entities for each message and aggregate: every seed and the mean; chance and degree."""
    from matplotlib import pyplot

    cells = cells_of("nbfnet")
    rows = [row for table, row, column in cells if (table, column) == ("inductive", "Hits@10 of 50")]
    figure, axis = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    for place, row in enumerate(reversed(rows)):
        cell = cells["inductive", row, "Hits@10 of 50"]
        axis.plot(list(cell["values"].values()), [place] * cell["n"], "o", color="#1e6fb3", markersize=4, alpha=0.6)
        axis.plot([cell["mean"]] * 2, [place - 0.25, place + 0.25], color="#b3541e", lw=2.5)
    axis.axvline(cells["floor", "degree", "Hits@10 of 50"]["mean"], color="#777777", label="a relation's degree")
    axis.axvline(0.2, color="#bbbbbb", linestyle=":", label="chance")
    axis.set_yticks(range(len(rows)), rows[::-1])
    axis.set(xlabel="Hits@10 of 50, WN18RR v1, new entities: each seed, the mean", xlim=(0, 1))
    axis.legend(frameon=False, loc="lower left")
    axis.spines[["top", "right"]].set_visible(False)
    file = ROOT / "methods" / "graph" / "nbfnet" / "combinations.svg"
    figure.savefig(file, metadata={"Date": None})
    print(file)


def directed() -> None:
    """What networks make of block models and of pairs; what direction gains, by what homophily gains by it."""
    from matplotlib import pyplot

    cells = cells_of("directed-gnn-survey")
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    shown = (
        ("blocks", "ordered, one constant feature", "block models, ordered: which cluster?", 20),
        ("pairs", "direction, total degree", "Cora_ML: which way does the edge go?", 50),
    )
    for axis, (table, row, title, chance) in zip(axes, shown, strict=False):
        columns = [column for where, which, column in cells if (where, which) == (table, row)]
        for place, column in enumerate(columns):
            cell = cells[table, row, column]
            blind = column == "MLP" or column.endswith("-und") or column == "MagNet, q = 0"
            colour = "#b3541e" if blind else "#8a8a8a" if column.endswith("-dir") else "#1e6fb3"
            axis.plot(list(cell["values"].values()), [place] * cell["n"], "o", color=colour, alpha=0.7)
        axis.axvline(chance, color="#bbbbbb", linestyle=":")
        axis.set_yticks(range(len(columns)), columns, fontsize="small")
        axis.invert_yaxis()
        axis.set(xlabel="test accuracy, %: each seed", title=title)
    for text, colour, height in (
        ("without direction", "#b3541e", 0.94),
        ("along edges alone", "#8a8a8a", 0.88),
        ("both ways apart", "#1e6fb3", 0.82),
    ):
        axes[0].text(0.98, height, text, color=colour, transform=axes[0].transAxes, ha="right", fontsize="small")
    places = [("node", row) for table, row, column in cells if (table, column) == ("node", "Dir-GCN")]
    points = []
    for table, dataset in [*places, ("wikipedia", "chameleon")]:
        ours = cells[table, dataset, "Dir-GCN" if table == "node" else "Dir-GCN, alpha 0.5"]
        control = cells[table, dataset, "GCN-und"]
        homophily, symmetrised = (
            cells["profile", dataset, name]["mean"]
            for name in ("effective homophily", "effective homophily, undirected")
        )
        points.append((homophily - symmetrised, ours["mean"] - control["mean"], dataset))
    for x, y, dataset in points:
        axes[2].plot([x], [y], "o", color="#1e6fb3")
        left = any(x < other[0] and abs(y - other[1]) < 3 for other in points)  # else the names would meet
        place: dict[str, Any] = {"xytext": (-6 if left else 6, 4), "ha": "right" if left else "left"}
        axes[2].annotate(dataset, (x, y), textcoords="offset points", fontsize="small", **place)
    axes[2].margins(x=0.3, y=0.1)
    axes[2].locator_params(axis="x", nbins=5)
    axes[2].axhline(0, color="#bbbbbb", linestyle=":")
    axes[2].set(
        xlabel="effective homophily gained by direction",
        ylabel="Dir-GCN above GCN-und, points",
        title="does the measure foretell the gain?",
    )
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    file = ROOT / "methods" / "graph" / "directed" / "direction.svg"
    figure.savefig(file, metadata={"Date": None})
    print(file)


def flashschnet() -> None:
    """What each engine costs against the naive one, and what a simulation with it finds: every seed, and the mean."""
    from matplotlib import pyplot

    cells = cells_of("flashschnet")
    engines = ("naive", "csr", "tiled", "ext", "tiled_pairs", "ext_pairs")
    colours = [
        "#1e6fb3" if name.endswith("_pairs") else "#b3541e" if name == "naive" else "#7fb2d9" for name in engines
    ]
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.4), layout="constrained", width_ratios=[1, 1, 0.8])
    for axis, (column, label) in zip(
        axes, {"speed-up": "times naive's speed", "memory": "of naive's bytes"}.items(), strict=False
    ):
        found = [cells["cost", name, column] for name in engines]
        bars = axis.bar(engines, [cell["mean"] for cell in found], color=colours)
        axis.errorbar(
            engines, [cell["mean"] for cell in found], [cell["std"] or 0 for cell in found], fmt="none", color="k"
        )
        axis.bar_label(bars, fmt="%.2f", padding=2, fontsize="small")
        axis.set(ylabel=label, title=f"32 replicas of 64 beads, n = {min(cell['n'] for cell in found)}")
        axis.tick_params("x", rotation=30)
    for place, name in enumerate(("naive", "ext_pairs")):
        means = cells["langevin", name, "energy, kcal/mol"]["values"]
        errors = cells["langevin", name, "its error"]["values"]
        at = [int(seed) + 0.2 * place for seed in means]
        axes[2].errorbar(
            at, list(means.values()), list(errors.values()), fmt="o", capsize=3, label=name, color=colours[-place]
        )
    axes[2].set(xlabel="seed", ylabel="mean energy, kcal/mol", title="1000 Langevin steps, standard errors")
    axes[2].legend(frameon=False, fontsize="small")
    kept(figure, "methods/science/flashschnet/engines.svg")


PLOTS = {
    "flashschnet": flashschnet,
    "virgo": virgo,
    "metapruning": metapruning,
    "nbfnet": nbfnet,
    "forwardgnn": forwardgnn,
    "ccl": counter_current,
    "noprop": noprop,
    "synapse-adaptive-rule": crossbar,
    "fp16-mcu-odl": fp16_mcu_odl,
    "bidirectional-learning": bidirectional,
    "biper": biper,
    "cross_learning_rules": cross_learning_rules,
    "gnn-practical-attack": practical_attack,
    "directed-gnn-survey": directed,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PLOTS:
        PLOTS[name]()
