"""The README says what was measured and what can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import readme
from runner import registry
from runner.cli import COMMANDS
from runner.errors import DataUnavailable
from tests.conftest import Result

TEXT = (readme.ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.S | re.M)
TYPED = [
    line.partition("  #")[0].strip()
    for language, block in BLOCKS
    if language == ""
    for line in block.splitlines()
    if line.startswith(("runner ", "$ runner "))
]


def composes(words: list[str]) -> bool:
    """Whether the first cell of a command line has a key, or would with its data; Hydra's own words are left out."""
    from runner.compose import SweepComposer
    from runner.stored import identify_run

    cell = [word for word in words if not word.startswith(("-m", "hydra", "'seed=", "seed=range"))]
    if "+sweep=optuna" in cell:
        from runner.search.space import Space

        cell = Space.parse(cell, {}).corners()[0]
    composed = SweepComposer()([re.sub(r"=([^,()\[\]{}]+),.*", r"=\1", word) for word in cell])
    try:
        return bool(identify_run(composed).key)
    except DataUnavailable:  # nothing else is wrong: what data there are is asked last
        return True


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
        assert composes(words)
        return
    assert cli("--cfg", "job", *words).status == 0


@pytest.mark.parametrize("code", [block for language, block in BLOCKS if language == "python"])
def test_what_the_readme_shows_in_python_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On genuine data, in an empty folder; its runs are smoke runs."""
    monkeypatch.chdir(tmp_path)
    try:
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    except DataUnavailable as error:
        pytest.skip(str(error))
    assert all(expression in code for expression in ("limit=", "print("))
    assert capfd.readouterr().out


METHOD_READMES = sorted(readme.ROOT.glob("methods/**/README.md"))


@pytest.mark.parametrize("name", registry.choices("method"))
def test_every_method_is_in_a_readme_that_names_its_command(name: str) -> None:
    """Its own folder's README, or one above it, shows how it is chosen."""
    module = registry.source_file(registry.read("method", name)["_target_"].rpartition(".")[0])
    texts = [file.read_text(encoding="utf-8") for file in METHOD_READMES if file.parent in module.parents]
    assert texts, f"no README.md in {module.parent} or above"
    named = re.compile(rf"method=(?:[\w,]+,)?{re.escape(name)}(?![\w])")
    assert any(named.search(text) for text in texts), f"no README of {name} says method={name}"
    assert f"`{name}`" in TEXT


@pytest.mark.parametrize("file", METHOD_READMES, ids=str)
def test_what_a_method_readme_types_composes(file: Path) -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```$", file.read_text(encoding="utf-8"), re.S | re.M)
    lines = [line.partition("  #")[0] for block in blocks for line in block.splitlines()]
    typed = [shlex.split(line)[1:] for line in lines if line.startswith("runner ") and "=" in line]
    assert typed
    assert all(composes(words) for words in typed if words[0] not in COMMANDS)
