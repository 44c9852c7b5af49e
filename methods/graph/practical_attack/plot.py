"""The discrepancy plot: what a stronger attack does to the loss, and what to the errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def discrepancy(metrics: Mapping[str, float], strategies: Sequence[str], strengths: Sequence[float]) -> Figure:
    """Test loss and share of wrong test nodes against the strength, a line a strategy; by the names of ``metrics``."""
    from matplotlib.figure import Figure

    strengths = sorted(strengths)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, errors = figure.subplots(1, 2)
    for strategy in strategies:
        loss = [metrics[f"test_loss/{strategy}/{strength:g}"] for strength in strengths]
        error = [100 * (1 - metrics[f"test_acc/{strategy}/{strength:g}"]) for strength in strengths]
        losses.plot(strengths, loss, marker="o", markersize=3, label=strategy)
        errors.plot(strengths, error, marker="o", markersize=3, label=strategy)
    losses.set(xlabel="strength", ylabel="test loss")
    errors.set(xlabel="strength", ylabel="wrong test nodes, %")
    losses.legend(frameon=False, fontsize="small")
    for axis in (losses, errors):
        axis.spines[["top", "right"]].set_visible(False)
    return figure
