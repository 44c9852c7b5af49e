"""What the commands about a paper share: ``paper=… scale=…``, their own words, and overrides for every run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from runner import registry
from runner.errors import BadInput, nearest
from runner.tables import paper
from runner.tables.paper import Expanded

SHARED = {
    "paper": "whose tables: a YAML of conf/paper",
    "scale": "cpu (default) or full, the paper's setting",
}


@dataclass(frozen=True)
class PaperOptions:
    """A command line about a paper."""

    expanded: Expanded
    own: dict[str, str]
    """The command's own words, by key."""
    overrides: list[str]
    """Everything else: overrides for every run (``home=…``, ``hardware.threads=1``, ``+cluster=slurm``)."""

    @classmethod
    def parse(cls, command: str, arguments: list[str], own: Mapping[str, str]) -> Self:
        """Sort the arguments.

        Raises:
            BadInput: no paper is named, or there is none of this name.
        """
        words: dict[str, str] = {}
        overrides = []
        for argument in arguments:
            key, equals, value = argument.partition("=")
            if not equals:
                raise BadInput(f"'{argument}' is not of the form key=value (`runner {command} --help` shows how)")
            if key in SHARED or key in own:
                words[key] = value
            else:
                overrides.append(argument)
        if "paper" not in words:
            raise BadInput(f"which paper? paper=… (one of {', '.join(registry.choices('paper'))})")
        expanded = paper.load(words.pop("paper"), words.pop("scale", "cpu"))
        return cls(expanded, words, overrides)

    @staticmethod
    def demand(key: str, value: str, choices: Iterable[str]) -> None:
        """Refuse a value that isn't one of the choices."""
        known = list(choices)
        if value not in known:
            raise BadInput(f"{key}={value}: expected one of {', '.join(known)}{nearest(value, known)}")

    def flag(self, key: str) -> bool:
        """A word that is true or false."""
        value = self.own.get(key, "false")
        self.demand(key, value, ("true", "false"))
        return value == "true"


def describe(command: str, purpose: str, own: Mapping[str, str], arguments: list[str]) -> bool:
    """Print help if it is asked for."""
    if "--help" not in arguments and "-h" not in arguments:
        return False
    print(f"usage: runner {command} paper=NAME [key=value …]\n\n{purpose}\n")
    for key, text in {**SHARED, **own}.items():
        print(f"  {key}=…{' ' * (12 - len(key))}{text}")
    print("\nAny other key=value is an override for every run: home=… hardware.threads=1 +cluster=slurm")
    return True
