"""``runner --complete LINE``: the words that could follow, one a line. Called by the shell."""

from __future__ import annotations

from hydra.core.plugins import Plugins
from hydra.plugins.completion_plugin import CompletionPlugin

from runner import compose, registry
from runner.commands.list import PLURALS

OPTIONS = ("--multirun", "--explain", "--cfg", "--include-path", "--help", "--traceback", "--version")
ARGUMENTS = {
    "list": [*PLURALS, "hardware", "runs"],
    "data": ["list", "fetch", "verify"],
    "completion": ["bash", "fish", "zsh"],
}


def main(arguments: list[str]) -> int:
    """Print the candidates for the last word of a command line."""
    line = arguments[0] if arguments else ""
    for candidate in candidates(line):
        print(candidate)
    return 0


def candidates(line: str) -> list[str]:
    """Words that could stand at the end of ``line``, which begins with the command's own name."""
    words = line.split()[1:]
    last = "" if not words or line.endswith(" ") else words.pop()
    from runner.cli import COMMANDS

    if words and words[0] in COMMANDS:
        known = ARGUMENTS.get(words[0], [])
        if words[0] == "data" and len(words) > 1:
            known = list(registry.choices("dataset"))
        return [word for word in known if word.startswith(last)]
    if last.startswith("-"):
        return [option for option in OPTIONS if option.startswith(last)]
    found = [] if words else [command for command in COMMANDS if command.startswith(last)]
    return found + _overrides([word for word in words if not word.startswith("-")], last)


def _overrides(words: list[str], last: str) -> list[str]:
    """What Hydra's own completion offers, by one of its shell plugins."""
    asked: list[str] = []

    class Query(CompletionPlugin):
        def install(self) -> None: ...

        def uninstall(self) -> None: ...

        @staticmethod
        def provides() -> str:
            return "query"

        def query(self, config_name: str | None) -> None: ...

        @staticmethod
        def help(command: str) -> str:
            return command

    Plugins.instance()
    try:
        asked = Query(compose.hydra().config_loader)._query(compose.CONFIG_NAME, " ".join([*words, last]))
    except compose.ERRORS:
        return []
    return [word for word in asked if not word.startswith("hydra")]
