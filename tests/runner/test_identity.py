"""Keys: the same for the same run wherever it is asked for, another for anything that changes a result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import registry
from runner.compose import compose
from runner.errors import BadInput
from runner.identity import Identity, canonical, differences
from runner.stored import identify_run

GOLDEN = Path(__file__).parent / "golden_keys.json"
BASE = ["method=forwardgnn", "dataset=cora"]


def identity(*overrides: str) -> Identity:
    return identify_run(compose(overrides))


@pytest.mark.parametrize("line", json.loads(GOLDEN.read_text()))
def test_golden_keys(line: str) -> None:
    """A key that changes makes every stored run of that config new: bump ``_version_`` or mend the change."""
    assert identity(*line.split()).key == json.loads(GOLDEN.read_text())[line]


@pytest.mark.parametrize(
    "same",
    [
        ["tracking.uri=sqlite:////elsewhere/m.db"],
        ["home=/elsewhere"],
        ["progress=false"],
        ["rerun=true"],
        ["checkpoint.every=1"],
        ["tracking.parent=abc", "tracking.experiment=other"],
        ["method.lr=1e-2"],
        ["method.temperature=1"],
        ["+experiment=forwardgnn_full", "method.lr=0.01", "method.epochs=400", "method.patience=30"],
    ],
)
def test_what_does_not_change_a_result_does_not_change_the_key(same: list[str]) -> None:
    assert identity(*BASE, *same).key == identity(*BASE).key


@pytest.mark.parametrize(
    "other",
    [
        ["seed=1"],
        ["limit=2"],
        ["time_budget=5"],
        ["method.lr=0.02"],
        ["model=sage"],
        ["model.num_layers=3"],
        ["hardware.threads=2"],
        ["hardware.precision=float64"],
        ["dataset.fold=2"],
        ["dataset=citeseer"],
        ["method=backprop"],
    ],
)
def test_what_changes_a_result_changes_the_key(other: list[str]) -> None:
    assert identity(*BASE, *other).key != identity(*BASE).key


def test_the_content_fingerprint_enters_the_key() -> None:
    assert identity(*BASE).deciding["task"]["fingerprint"] == identity(*BASE).config["dataset"]["_fingerprint_"]


def test_the_key_of_a_referenced_run_enters_the_key(toy: list[str]) -> None:
    one = identity("method=student", "dataset=toy_data", "model=none")
    other = identity("method=student", "dataset=toy_data", "model=none", "seed=1")
    assert one.references["teacher"].choices["method"] == "toy"
    assert one.deciding["method"]["teacher"] == one.references["teacher"].key
    assert other.references["teacher"].key != one.references["teacher"].key


def test_one_key_for_one_config_as_text() -> None:
    assert canonical({"b": 1.0, "a": [1, "ä", None, True]}) == '{"a":[1,"ä",null,true],"b":1.0}'


nested = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
)


@given(st.dictionaries(st.sampled_from("abc"), nested), st.dictionaries(st.sampled_from("abc"), nested))
def test_differences_are_empty_for_equals_and_symmetric(one: dict[str, object], other: dict[str, object]) -> None:
    assert differences(one, one) == {}
    assert differences(one, other) == {key: (a, b) for key, (b, a) in differences(other, one).items()}
    if one != other:
        assert differences(one, other)


def test_a_split_that_is_not_there_is_bad_input() -> None:
    dataset = registry.build(identity(*BASE, "seed=5").config["dataset"])
    with pytest.raises(BadInput, match=r"0\.\.4"):
        dataset.load("NodeClassification")
