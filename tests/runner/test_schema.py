"""The schema reads constructors without importing them, and refuses what doesn't fit."""

from __future__ import annotations

import dataclasses
import inspect
import string
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import registry, schema
from runner.errors import BadInput

TARGETS = sorted(
    {registry.read(section, name)["_target_"] for section in registry.SECTIONS for name in registry.choices(section)}
)


@pytest.mark.parametrize("target", TARGETS)
def test_fields_are_the_constructors_arguments(target: str) -> None:
    constructor = inspect.signature(registry.locate(target))
    assert list(schema.fields(target)) == list(constructor.parameters)
    for parameter in constructor.parameters.values():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is inspect.Parameter.empty, "defaults belong into the YAML"


@pytest.mark.parametrize("target", TARGETS)
def test_types_are_those_that_python_sees(target: str) -> None:
    kind = registry.locate(target)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        assert schema.fields(target) == {field.name: hints[field.name] for field in dataclasses.fields(kind)}


GOOD = {
    "_target_": "runner.hardware.torch_device.TorchDevice",
    "device": "cpu",
    "precision": "float32",
    "threads": 2,
    "deterministic": True,
}


def test_a_sound_section_comes_back_as_it_is() -> None:
    assert schema.validate_section("hardware", GOOD) == GOOD


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"threads": 0}, "hardware.threads=0: expected int >= 1"),
        ({"threads": 2.0}, "expected int, got float"),
        ({"threads": None}, "expected int, got null"),
        ({"precision": "float23"}, "did you mean 'float32'?"),
        ({"thread": 2}, "unknown key 'hardware.thread'; did you mean 'threads'?"),
        ({"deterministic": 1}, "expected bool, got int"),
    ],
)
def test_a_wrong_value_is_told_with_its_place(change: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=r"hardware") as caught:
        schema.validate_section("hardware", GOOD | change)
    assert told in str(caught.value)


def test_a_missing_key_is_told() -> None:
    with pytest.raises(BadInput, match=r"'hardware\.device' is missing"):
        schema.validate_section("hardware", {key: value for key, value in GOOD.items() if key != "device"})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_lowercase), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "extra"]), values))
def test_anything_else_is_bad_input_never_another_error(change: dict[str, Any]) -> None:
    change.pop("_target_", None)
    try:
        checked = schema.validate_section("hardware", GOOD | change)
    except BadInput as error:
        checked, told = None, str(error)
    if checked is None:
        assert "\n" not in told
    else:
        assert type(checked["threads"]) is int
        assert checked["threads"] > 0


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_integers_become_floats_where_floats_are_due_and_endless_numbers_are_refused(lr: float) -> None:
    config = {"lr": lr}
    if lr - lr == 0.0:
        schema._refuse_endless(config)
    else:
        with pytest.raises(BadInput, match="lr="):
            schema._refuse_endless(config)


@pytest.mark.parametrize(
    ("target", "told"),
    [("nowhere.Thing", "can't be found"), ("runner.errors.Thing", "no class 'Thing'"), ("Thing", "not of the form")],
)
def test_a_target_that_is_not_there(target: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        schema.fields(target)
