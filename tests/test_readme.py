"""The README says what was measured and what can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest

from benchmarks import readme
from runner.cli import COMMANDS
from tests.conftest import Result

TEXT = (readme.ROOT / "README.md").read_text(encoding="utf-8")
TYPED = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```\n(.*?)```", TEXT, re.S)
    for line in block.splitlines()
    if line.startswith(("runner ", "$ runner "))
]


@pytest.mark.parametrize("name", readme.BLOCKS)
def test_result_blocks_are_those_of_the_results(name: str) -> None:
    text = (readme.ROOT / name).read_text(encoding="utf-8")
    assert readme.with_block(name) == text, "run `python -m benchmarks.readme`"


def test_every_command_is_in_the_readme() -> None:
    for name in COMMANDS:
        assert f"`runner {name}" in TEXT or f"`{name}`" in TEXT or f"runner {name} " in TEXT


@pytest.mark.parametrize("line", [line for line in TYPED if "=" in line and "file" not in line and "my" not in line])
def test_what_the_readme_types_composes(line: str, cli: Callable[..., Result]) -> None:
    words = shlex.split(line.removeprefix("$ "))[1:]
    if words[0] in COMMANDS:
        assert cli(words[0], "--help").status == 0 if words[0] in ("table", "reproduce", "cite") else True
        return
    if "-m" in words:
        from runner.compose import SweepComposer
        from runner.stored import identify_run

        first = [re.sub(r"=([^,()]+),.*", r"=\1", word) for word in words if word != "-m" and "range" not in word]
        assert identify_run(SweepComposer()([word for word in first if not word.startswith("hydra")])).key
        return
    assert cli("--cfg", "job", *words).status == 0
