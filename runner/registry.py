"""What can be chosen: YAML files in the config groups of the package, of plugins and of included folders.

A plugin is a distribution with an entry point in the group ``forward_runner.plugins`` that names a
package; its YAML files lie in the package's ``conf`` folder. ``--include-path DIR`` does the same for a
folder: its YAML files lie in ``DIR/conf``, its modules are importable. Nothing heavy is imported here.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

from runner.errors import BadInput, nearest

PLUGIN_GROUP = "forward_runner.plugins"
INCLUDE_VARIABLE = "RUNNER_INCLUDE_PATH"
SECTIONS = ("method", "dataset", "model", "hardware")
"""Config groups whose choice is an object: its YAML has a ``_target_``."""


def include(folder: str) -> None:
    """Add a user's folder for this process and its workers (which inherit the environment variable)."""
    path = Path(folder).resolve()
    if not path.is_dir():
        raise BadInput(f"--include-path: no folder '{folder}'")
    known = os.environ.get(INCLUDE_VARIABLE, "").split(os.pathsep)
    os.environ[INCLUDE_VARIABLE] = os.pathsep.join([*filter(None, known), str(path)])
    conf_dirs.cache_clear()
    _spec.cache_clear()


@cache
def conf_dirs() -> tuple[Path, ...]:
    """Folders with config groups, the package's own first; included folders become importable on the way."""
    folders = [_package_dir("runner.conf")]
    for point in sorted(entry_points(group=PLUGIN_GROUP)):
        folders.append(_package_dir(point.value) / "conf")
    for included in filter(None, os.environ.get(INCLUDE_VARIABLE, "").split(os.pathsep)):
        if included not in sys.path:
            sys.path.append(included)
        folders.append(Path(included) / "conf")
    return tuple(folder for folder in folders if folder.is_dir())


def _package_dir(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise BadInput(f"plugin package '{name}' can't be found; reinstall or uninstall the plugin")
    return Path(next(iter(spec.submodule_search_locations)))


def choices(group: str) -> dict[str, Path]:
    """The YAML file of every choice of a config group, by name; an earlier folder wins."""
    found: dict[str, Path] = {}
    for folder in conf_dirs():
        for path in sorted((folder / group).glob("*.yaml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def read(group: str, name: str) -> dict[str, Any]:
    """A choice's YAML as it stands, interpolations unresolved.

    Raises:
        BadInput: there is no such choice; the message names the nearest one.
    """
    known = choices(group)
    if name not in known:
        raise BadInput(f"no {group} '{name}'{nearest(name, known)} (`runner list {group}` shows all)")
    return load_yaml(known[name])


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path}: a mapping is expected")
    return content


def locate(target: str) -> Any:
    """The object that a ``_target_`` (``package.module.Name``) names; imports its module."""
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def build(section: dict[str, Any]) -> Any:
    """Call a section's ``_target_`` with its keys as keyword arguments; keys that begin with ``_`` are metadata."""
    return locate(section["_target_"])(**{key: value for key, value in section.items() if not key.startswith("_")})


def source_file(module: str) -> Path:
    """A module's file, found without importing anything of it, its parent packages included.

    Raises:
        BadInput: there is no such module, or it is built in.
    """
    conf_dirs()
    spec = _spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise BadInput(f"module '{module}' can't be found")
    return Path(spec.origin)


@cache
def _spec(module: str) -> ModuleSpec | None:
    parent = module.rpartition(".")[0]
    path = None
    if parent:
        above = _spec(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        path = list(above.submodule_search_locations)
    for finder in sys.meta_path:
        spec = finder.find_spec(module, path)
        if spec is not None:
            return spec
    return None
