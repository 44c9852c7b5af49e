"""What can be set of a search: the keys of ``conf/sweep/optuna.yaml``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from runner.errors import BadInput
from runner.types import NonNegativeInt, PositiveInt

Direction = Literal["maximize", "minimize"]
DEFAULT_OBJECTIVES: dict[str, Direction] = {"val_acc": "maximize"}


@dataclass(kw_only=True)
class Search:
    """A search; the YAML says what each key means."""

    trials: PositiveInt
    workers: PositiveInt
    space: dict[str, str]
    objectives: dict[str, str] | None
    sampler: Literal["tpe", "random", "grid", "nsgaii", "cmaes"]
    pruner: Literal["none", "median", "hyperband"]
    startup: NonNegativeInt
    warmup: NonNegativeInt
    seed: NonNegativeInt
    seeds: list[NonNegativeInt]
    study: str | None
    storage: str | None

    def __post_init__(self) -> None:
        for name, direction in (self.objectives or {}).items():
            if direction not in get_args(Direction):
                raise BadInput(f"sweep.objectives.{name}={direction}: expected one of {', '.join(get_args(Direction))}")

    @property
    def directions(self) -> dict[str, Direction]:
        """By objective; the first is the one that a pruner watches."""
        return cast(dict[str, Direction], dict(self.objectives or DEFAULT_OBJECTIVES))

    def deciding(self) -> dict[str, Any]:
        """What decides which trials there are, but for the space and how many."""
        neither = ("trials", "workers", "space", "objectives", "study", "storage")
        return {key: value for key, value in asdict(self).items() if key not in neither} | {
            "objectives": self.directions
        }
