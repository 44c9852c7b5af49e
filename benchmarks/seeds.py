"""Seeds trained in one pass against one by one, on genuine Cora, in one process."""

from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryDirectory

from benchmarks.measure import Row, interleaved
from runner.compose import compose
from runner.execute import Outcome, make_exist
from runner.identity import Identity
from runner.stored import identify_run
from runner.together import make_together

SEEDS = 8
EPOCHS = 100
ROUNDS = 3
NETWORKS = {
    "gcn": ["model=gcn"],
    "gcn, 16 wide": ["model=gcn", "model.hidden_channels=16"],
    "sage": ["model=sage"],
    "gcn_dropout, 32 wide": ["model=gcn_dropout"],
}
CELL = ["method=backprop", "dataset=cora", "dataset.split=uniform", f"method.epochs={EPOCHS}", "method.patience=1000"]
"""Every run makes all epochs, so that the figures compare the same work."""


def seeds_together() -> list[Row]:
    """Seconds of training, as the runs record them, of eight seeds of back-propagation."""
    rows = []
    for name, model in NETWORKS.items():
        with TemporaryDirectory() as folder:
            calls = [_training(folder, model, together) for together in (True, False)]
            medians = interleaved(calls, ROUNDS)
        what = f"{SEEDS} seeds, {EPOCHS} epochs of {name} on Cora, in one pass against one by one"
        rows.append(Row(what, medians[0], "s", medians[1]))
    return rows


def _training(folder: str, model: list[str], together: bool) -> Callable[[], float]:
    experiments = iter(range(10**6))

    def train() -> float:
        line = [*CELL, *model, f"home={folder}", "rerun=true", "progress=false"]
        line.append(f"tracking.experiment=bench{next(experiments)}{together}")
        lines = {seed: [*line, f"seed={seed}"] for seed in range(SEEDS)}
        identities: dict[int, Identity] = {seed: identify_run(compose(line)) for seed, line in lines.items()}
        outcomes: list[Outcome] = []
        if together:
            make_together(identities, lines, print, lambda seed, outcome: outcomes.append(outcome))  # type: ignore[arg-type]
        else:
            outcomes += [make_exist(identity, lines[seed]) for seed, identity in identities.items()]
        return sum(outcome.metrics["fit_seconds"] for outcome in outcomes)

    return train
