"""Checks a composed config before anything heavy is imported.

A section's schema is its target's constructor: keyword-only arguments of ``__init__``, or the fields of a
``@dataclass`` and of the dataclasses that it extends, read from the source file with ``ast``. Annotations may
use the names of ``runner.types``, ``Literal``, ``Annotated`` and the built-in types.
"""

from __future__ import annotations

import ast
import math
import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal

import msgspec

from runner import registry, types
from runner.errors import BadInput, nearest

ANNOTATION_NAMES: dict[str, Any] = {
    **{name: getattr(types, name) for name in vars(types) if name[0].isupper()},
    **{kind.__name__: kind for kind in (int, float, bool, str, list, dict)},
    "Any": Any,
    "Annotated": Annotated,
    "Literal": Literal,
    "Meta": msgspec.Meta,
}
REFERENCE = "RunReference"
METADATA: dict[str, Any] = {
    "_target_": str,
    "_tasks_": list[str],
    "_version_": types.PositiveInt,
    "_seed_": types.NonNegativeInt,
    "_source_": str,
    "_note_": str,
    "_fingerprint_": str,
    "_counts_": dict[str, int],
    "_neutral_": dict[str, Any],
    "_taxonomy_": dict[str, str],
}

Checkpoint = msgspec.defstruct(
    "checkpoint", [("every", types.NonNegativeFloat)], forbid_unknown_fields=True, kw_only=True
)
Tracking = msgspec.defstruct(
    "tracking",
    [
        ("uri", str | None),
        ("experiment", str),
        ("parent", str | None),
        ("cells", dict[str, int] | None),
        ("upload_every", types.NonNegativeFloat),
    ],
    forbid_unknown_fields=True,
    kw_only=True,
)
TOP_LEVEL: dict[str, Any] = {
    **dict.fromkeys(registry.SECTIONS, dict[str, Any]),
    "seed": types.NonNegativeInt,
    "limit": types.PositiveInt | None,
    "time_budget": types.PositiveFloat | None,
    "mode": Literal["train", "evaluate"],
    "run": str | None,
    "callbacks": dict[str, dict[str, Any]],
    "rerun": bool,
    "seeds_at_once": types.PositiveInt,
    "progress": bool,
    "home": str,
    "checkpoint": Checkpoint,
    "tracking": Tracking,
}


def validate(config: dict[str, Any]) -> dict[str, Any]:
    """A copy of ``config`` with every value coerced to its declared type (``1`` to ``1.0`` where a float is due).

    Args:
        config: a composed config, resolved, without Hydra's own node.

    Raises:
        BadInput: an unknown key, a missing one, a wrong type or a value out of range; place and nearest name.
    """
    _refuse_endless(config)
    checked = _convert(config, TOP_LEVEL, "")
    for section in registry.SECTIONS:
        checked[section] = validate_section(section, config[section])
    for name, values in config["callbacks"].items():
        checked["callbacks"][name] = validate_section(f"callbacks.{name}", values)
    return checked


def validate_some(values: dict[str, Any]) -> dict[str, Any]:
    """The same for some of the top level's keys alone."""
    _refuse_endless(values)
    return _convert(values, {key: kind for key, kind in TOP_LEVEL.items() if key in values}, "")


def validate_section(section: str, values: dict[str, Any]) -> dict[str, Any]:
    """The same for one section (``method``, ``dataset``, …), against the constructor that it names."""
    if "_target_" not in values:
        raise BadInput(f"{section}: it needs a _target_ (package.module.Class)")
    _convert({"_target_": values["_target_"]}, {"_target_": str}, section)  # the other types depend on it
    metadata = {key: METADATA[key] for key in METADATA if key in values}
    return _convert(values, metadata | fields(values["_target_"]), section)


@cache
def fields(target: str) -> dict[str, Any]:
    """Argument names and types of ``package.module.Class``, read without importing the module.

    Raises:
        BadInput: no such class, or an annotation that the schema can't read.
    """
    return {name: _evaluate(annotation, target) for name, annotation in _annotations(target)}


@cache
def references(target: str) -> tuple[str, ...]:
    """Names of the arguments of a target that refer to another run."""
    return tuple(name for name, annotation in _annotations(target) if REFERENCE in ast.unparse(annotation))


def _annotations(target: str) -> Iterator[tuple[str, ast.expr]]:
    module, _, name = target.rpartition(".")
    if not module:
        raise BadInput(f"_target_ '{target}' is not of the form package.module.Class")
    tree = ast.parse(registry.source_file(module).read_text(encoding="utf-8"))
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if found is None:
        raise BadInput(f"_target_ '{target}': the module has no class '{name}'")
    for node in found.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            for argument in node.args.kwonlyargs:
                if argument.annotation is None:
                    raise BadInput(f"_target_ '{target}': argument '{argument.arg}' has no annotation")
                yield argument.arg, argument.annotation
            return
    if not _is_dataclass(found):
        return
    own = {
        node.target.id: node.annotation
        for node in found.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is None
    }
    for base in reversed(found.bases):  # as dataclasses do
        above = _qualified(base, tree, module)
        if above is not None:
            yield from ((field, annotation) for field, annotation in _annotations(above) if field not in own)
    yield from own.items()


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _qualified(base: ast.expr, tree: ast.Module, module: str) -> str | None:
    """``package.module.Class`` of a base class whose fields are inherited: of this project or of an included folder."""
    name = ast.unparse(base).partition("[")[0]
    if any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body):
        return f"{module}.{name}"
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            top = node.module.partition(".")[0]
            return f"{node.module}.{name}" if top not in sys.stdlib_module_names else None
    return None


def _evaluate(annotation: ast.expr, target: str) -> Any:
    text = ast.unparse(annotation)
    try:
        return eval(text, {"__builtins__": {}}, ANNOTATION_NAMES)
    except (NameError, TypeError, SyntaxError) as error:
        raise BadInput(f"_target_ '{target}': annotation '{text}' can't be read without importing ({error})") from error


def _convert(values: dict[str, Any], fields: dict[str, Any], place: str) -> dict[str, Any]:
    dotted = f"{place}." if place else ""
    for key in values:
        if key not in fields:
            raise BadInput(f"unknown key '{dotted}{key}'{nearest(key, fields)}")
    missing = [key for key in fields if key not in values]
    if missing:
        raise BadInput(f"'{dotted}{missing[0]}' is missing")
    converted = {}
    for key, value in values.items():
        try:
            converted[key] = msgspec.to_builtins(msgspec.convert(value, fields[key], strict=True))
        except msgspec.ValidationError as error:
            raise BadInput(_explain(f"{dotted}{key}", value, fields[key], str(error))) from error
    return converted


def _explain(key: str, value: Any, kind: Any, message: str) -> str:
    message, _, path = message.partition(" - at `$")
    path = path.rstrip("`")
    key += path
    for name in re.findall(r"\.(\w+)", path):  # the part that is wrong, not all that holds it
        value = value.get(name, value) if isinstance(value, dict) else value
    if (index := re.fullmatch(r"\[(\d+)\]", path)) and getattr(kind, "__origin__", None) is list:
        value, kind = value[int(index[1])], kind.__args__[0]
    options = getattr(kind, "__args__", ()) if getattr(kind, "__origin__", None) is Literal else ()
    if options:
        return f"{key}={value}: expected one of {', '.join(map(str, options))}{nearest(str(value), map(str, options))}"
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", message)
    if unknown:
        return f"unknown key '{key}.{unknown[1]}'{nearest(unknown[1], getattr(kind, '__struct_fields__', ()))}"
    return f"{key}={value!r}: {message[0].lower()}{message[1:].replace('`', '')}"


def _refuse_endless(config: Any, place: str = "") -> None:
    """NaN, infinities and integers beyond 64 bits have no canonical JSON that all stores read back."""
    if isinstance(config, dict):
        for key, value in config.items():
            _refuse_endless(value, f"{place}.{key}" if place else str(key))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            _refuse_endless(value, f"{place}[{index}]")
    elif isinstance(config, float) and not math.isfinite(config):
        raise BadInput(f"{place}={config}: expected a finite number")
    elif isinstance(config, int) and abs(config) >= 2**63:
        raise BadInput(f"{place}={config}: expected an integer of at most 64 bits")
