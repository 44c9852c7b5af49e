"""runner: one command for methods beside back-propagation, their benchmarks and their published figures.

``from runner import run, sweep, table`` does in Python what the command does; see ``runner.api``.
"""

import importlib
import sys
from types import ModuleType

__all__ = ["run", "sweep", "table"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(importlib.import_module("runner.api"), name)
    raise AttributeError(f"module 'runner' has no attribute '{name}'")


class _Package(ModuleType):
    """Keeps ``runner.run`` and ``runner.sweep`` the functions: importing the modules of these names would hide them."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
