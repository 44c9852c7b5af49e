"""What the commands share on the command line: help text and the store that they mean."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from runner import stored
from runner.errors import BadInput
from runner.store.records import Records


class Parser(argparse.ArgumentParser):
    """Complains in one line, with exit status 2, as everything here does."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing usage."""
        raise BadInput(f"{message} (`{self.prog} --help` shows how)")


def parser(name: str, description: str) -> Parser:
    """A parser for ``runner <name>``."""
    return Parser(prog=f"runner {name}", description=description)


def add_store(to: argparse.ArgumentParser) -> None:
    """Accept ``home=…`` and ``tracking.…=…`` at the end."""
    to.add_argument("store", nargs="*", metavar="home=… tracking.uri=…", help="which store; default: runs/mlflow.db")


def records(arguments: argparse.Namespace) -> Records:
    """The store that a command means."""
    return stored.records_of(arguments.store)


def split_store(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments that name a store (``key=value``), and the others."""
    store = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    return store, [argument for argument in arguments if argument not in store]
