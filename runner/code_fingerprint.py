"""Fingerprint of the code that a run depends on: a stored run is stale once it has changed.

Covered are the files that static imports reach, inside the same top-level package, from the method, its
dataset, model and hardware modules and from the runner's training core; not the whole tree.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from runner import registry
from runner.errors import BadInput

CORE = ("runner.execute",)


def of_sections(config: dict[str, Any]) -> str:
    """SHA-256 (hex) over the reachable source files of a config's sections; independent of where they lie."""
    targets = sorted({config[section]["_target_"].rpartition(".")[0] for section in registry.SECTIONS})
    return _of_modules((*CORE, *targets))


@cache
def _of_modules(modules: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for module, path in sorted(reachable(modules).items()):
        digest.update(module.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def reachable(modules: tuple[str, ...]) -> dict[str, Path]:
    """Source files that the modules import, directly or not, from the packages that they belong to."""
    packages = {module.partition(".")[0] for module in modules}
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found or module.partition(".")[0] not in packages:
            continue
        path = _file(module)
        if path is None:
            continue
        found[module] = path
        waiting += imported(path)
    return found


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Absolute names that a file imports, wherever it does; ``from a import b`` gives ``a`` and ``a.b``."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


@cache
def _file(module: str) -> Path | None:
    try:
        return registry.source_file(module)
    except BadInput:
        return None
