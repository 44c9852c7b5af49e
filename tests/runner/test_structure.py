"""How the house is built: imports point one way, packages are whole, plugins and included folders work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.code_fingerprint import imported
from tests.conftest import TOY, Result

ROOT = Path(__file__).parents[2]
Cli = Callable[..., Result]
LEAVES = ("models", "ops", "hardware")


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", modules("runner"), ids=str)
def test_the_runner_imports_no_method_and_no_dataset(path: Path) -> None:
    assert not [name for name in imported(path) if name.startswith(("runner.methods", "runner.datasets"))]


@pytest.mark.parametrize("path", modules("datasets"), ids=str)
def test_datasets_import_no_method_and_nothing_of_the_runner_but_its_contracts(path: Path) -> None:
    allowed = ("runner.contracts", "runner.datasets", "runner.errors", "runner.fingerprint", "runner.places")
    ours = [name for name in imported(path) if name.startswith("runner.")]
    assert not [name for name in ours if not name.startswith((*allowed, "runner.types"))]


@pytest.mark.parametrize("path", modules("methods"), ids=str)
def test_methods_import_no_other_field_and_leaves_import_no_method(path: Path) -> None:
    field = path.relative_to(ROOT / "methods").parts[0]
    allowed = {f"runner.methods.{leaf}" for leaf in LEAVES}
    if field not in LEAVES:
        allowed.add(f"runner.methods.{field}")
    ours = [name for name in imported(path) if name.startswith("runner.methods.")]
    assert not [name for name in ours if not name.startswith(tuple(allowed))]
    assert not [name for name in imported(path) if name.startswith("runner.datasets")]


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {path.stem for folder in ("runner", "methods", "datasets") for path in modules(folder)}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc"}


def test_an_included_folder_adds_methods(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_INCLUDE_PATH", "")
    listed = cli("--include-path", str(TOY), "list", "methods").out
    assert "toy" in listed
    assert "forwardgnn" in listed
    from runner import registry

    registry.conf_dirs.cache_clear()


def test_an_included_folder_that_is_not_there_is_told(cli: Cli) -> None:
    result = cli("--include-path", "/nowhere", "list")
    assert (result.status, result.err) == (2, "runner: --include-path: no folder '/nowhere'\n")


PLUGIN = {
    "pyproject.toml": """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "runner-plugin-example"
version = "1.0"
[project.entry-points."forward_runner.plugins"]
example = "runner_plugin_example"
[tool.setuptools.package-data]
runner_plugin_example = ["conf/*/*.yaml"]
""",
    "runner_plugin_example/__init__.py": "",
    "runner_plugin_example/guess.py": '''"""Guesses."""
from dataclasses import dataclass
from torch import nn
from runner.contracts import Method, NodeClassification
from runner.types import NonNegativeInt

@dataclass(kw_only=True)
class Guess(Method[NodeClassification]):
    """Always the same class."""
    guessed: NonNegativeInt
    def build(self, task, run):
        self.model = nn.Identity()
    def fit(self, task, run):
        pass
    def evaluate(self, task, run):
        return {"test_acc": float((task.y[task.test] == self.guessed).float().mean())}
''',
    "runner_plugin_example/conf/method/guess.yaml": """_target_: runner_plugin_example.guess.Guess
_tasks_: [NodeClassification]
_version_: 1
guessed: 1
""",
}


def test_an_installed_plugin_is_found(tmp_path: Path) -> None:
    """A third party's package, really installed (into a folder of its own), adds a method by its entry point."""
    for name, content in PLUGIN.items():
        file = tmp_path / "plugin" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*install, str(target), str(tmp_path / "plugin")], check=True, capture_output=True, timeout=120)
    environment = {**os.environ, "PYTHONPATH": str(target), "RUNNER_INCLUDE_PATH": str(TOY)}

    def command(*arguments: str) -> str:
        line = [sys.executable, "-m", "runner", *arguments]
        done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "guess" in command("list", "methods")
    assert "2 YAML files checked, 0 wrong" in command("validate", "method=guess", "dataset=toy_data")
    assert "guess on toy_data: test_acc" in command("method=guess", "dataset=toy_data", "model=none")


def test_the_wheel_holds_everything_and_nothing_at_top_level_but_runner(tmp_path: Path) -> None:
    import zipfile

    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    copy = tmp_path / "source"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.split():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "results/")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*build, str(tmp_path), str(copy)], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"runner"}
    for folder, place in {"runner": "runner", "methods": "runner/methods", "datasets": "runner/datasets"}.items():
        for path in modules(folder):
            assert f"{place}/{path.relative_to(ROOT / folder).as_posix()}" in names
    assert {"runner/py.typed", "runner/__init__.pyi"} <= set(names)
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"runner/conf/{path.relative_to(ROOT / 'conf').as_posix()}" in names
    for folder in ("assets", "templates"):
        for path in (ROOT / "runner" / "report" / folder).iterdir():
            assert f"runner/report/{folder}/{path.name}" in names
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    line = [sys.executable, "-c", "import runner.conf, runner.cli; print(runner.conf.__path__[0]); runner.cli.main()"]
    environment = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run([*line, "validate", "model"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout.startswith(str(target)), done.stderr
    assert done.stdout.endswith(" 0 wrong\n")


def test_hugging_faces_datasets_is_left_alone(tmp_path: Path) -> None:
    """Both are installed in the development environment; neither hides the other."""
    code = (
        "import datasets, runner.datasets, runner.methods\n"
        "assert callable(datasets.load_dataset)\n"
        "print(datasets.__file__, runner.datasets.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    theirs, ours = done.stdout.split()
    assert "site-packages" in theirs
    assert theirs != ours
