"""``+cluster=NAME``: which launcher a sweep goes through, and the few keys that one sets for it.

A choice of the group ``cluster`` overrides Hydra's launcher and gives a section ``cluster``, whose ``_target_`` is an
``Engine``. It is about where runs are made, never about what they are: no run's config and no run's key has any of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from runner import extras, registry, schema
from runner.errors import BadInput

GROUP = "cluster"


@dataclass(kw_only=True)
class Engine:
    """Hydra's launcher as it is; the base of those that know what runs behind it."""

    def check(self) -> None:
        """Refuse an engine that doesn't answer, before there is anything to record.

        Raises:
            BadInput: this machine can't reach it.
        """

    def launch(
        self, launcher: Launcher, cells: Sequence[Sequence[str]], first: int, threads: int
    ) -> Sequence[JobReturn | str]:
        """Run a batch of cells.

        Args:
            launcher: Hydra's, set up.
            cells: overrides of each.
            first: number of the first cell's job; the others follow.
            threads: most threads that one of them has pinned.

        Returns:
            For each cell what its job gave back, or why it gave nothing.

        Raises:
            BadInput: the engine refuses them.
            Exception: whatever ended the launcher before all cells had ended.
        """
        returned: Sequence[JobReturn | str] = launcher.launch(cells, initial_job_idx=first)
        return returned


def of(config: DictConfig) -> Engine:
    """The engine that a sweep's config chooses.

    Raises:
        BadInput: a key of ``cluster`` is wrong, or an optional part is missing.
    """
    if GROUP not in config:
        if config.hydra.runtime.choices["hydra/launcher"] == "joblib":
            from runner.launchers.cores import Cores

            return Cores(workers=None if config.hydra.launcher.n_jobs == -1 else config.hydra.launcher.n_jobs)
        return Engine()
    extras.demand_cluster(str(config.hydra.runtime.choices[GROUP]))
    section = OmegaConf.to_container(config[GROUP], resolve=True)
    assert isinstance(section, dict)
    engine: Engine = registry.build(schema.validate_section(GROUP, {str(key): section[key] for key in section}))
    for_jobs = [line for line in config.hydra.overrides.hydra if not line.lstrip("+~").startswith("hydra/launcher")]
    config.hydra.overrides.hydra = [line for line in for_jobs if not line.lstrip("+~").startswith("hydra.launcher")]
    return engine


def is_about(override: str) -> bool:
    """Whether an override chooses the cluster, or sets one of its keys."""
    key = override.lstrip("+~").partition("=")[0]
    return key == GROUP or key.startswith((f"{GROUP}.", f"{GROUP}@"))


def without(overrides: Sequence[str]) -> list[str]:
    """The overrides that are about the runs.

    Raises:
        BadInput: a list of values for a key of the cluster.
    """
    parser = OverridesParser.create()
    for line in filter(is_about, overrides):
        if parser.parse_override(line).is_sweep_override():
            raise BadInput(f"{line}: a sweep goes through one cluster; give one value")
    return [line for line in overrides if not is_about(line)]
