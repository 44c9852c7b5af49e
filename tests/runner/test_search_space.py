"""A search space is what Hydra's own syntax says, value for value."""

from __future__ import annotations

import math

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("optuna")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from runner.compose import compose
from runner.errors import BadInput
from runner.search.space import MOST_STEPS, Axis, Space

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)
POSITIVE = st.floats(1e-12, 1e6)
PARSER = OverridesParser.create()


def only(line: str) -> Axis:
    (axis,) = Space.parse([line], {}).axes.values()
    return axis


def typed(line: str) -> object:
    return PARSER.parse_override(line).value()


@given(one=NUMBERS, other=NUMBERS)
def test_an_interval_of_floats(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert only(f"k=interval({low!r},{high!r})").distribution == FloatDistribution(low, high)
    if low < high:
        with pytest.raises(BadInput, match=r"^k=interval"):
            only(f"k=interval({high!r},{low!r})")


@given(one=POSITIVE, other=POSITIVE)
def test_a_logarithmic_interval(one: float, other: float) -> None:
    low, high = sorted((one, other))
    axis = only(f"k=tag(log,interval({low!r},{high!r}))")
    assert axis.distribution == FloatDistribution(low, high, log=True)
    assert axis.logarithmic


@given(low=st.integers(-1000, 1000), width=st.integers(0, 1000))
def test_an_interval_of_integers_has_both_ends(low: int, width: int) -> None:
    axis = only(f"k=int(interval({low},{low + width}))")
    assert axis.distribution == IntDistribution(low, low + width)
    assert axis.values() == list(range(low, low + width + 1))


@given(start=st.integers(-100, 100), stop=st.integers(-100, 100), step=st.integers(-9, 9).filter(bool))
def test_a_range_of_integers_is_pythons(start: int, stop: int, step: int) -> None:
    line = f"k=range({start},{stop},{step})"
    expected = sorted(range(start, stop, step))
    if not expected:
        with pytest.raises(BadInput, match=r"expected 1 to"):
            only(line)
        return
    assert only(line).values() == expected


@given(start=st.floats(-50, 50), length=st.integers(1, 60), step=st.floats(1e-3, 2).map(lambda x: round(x, 4)))
def test_a_range_of_floats_gives_hydras_values_to_the_bit(start: float, length: int, step: float) -> None:
    assume(step > 0)
    line = f"k=range({start!r},{start + length * step!r},{step!r})"
    expected = list(map(float, PARSER.parse_override(line).sweep_iterator()))
    assume(expected)
    axis = only(line)
    values = axis.values() or []
    assert [typed(axis.line(value)) for value in values] == sorted(expected)
    assert all(axis.distribution._contains(value) for value in values)
    if isinstance(kind := axis.distribution, FloatDistribution) and kind.step:
        drawn = [min(kind.low + place * kind.step, kind.high) for place in range(len(expected))]  # as Optuna draws
        assert [typed(axis.line(value)) for value in drawn] == sorted(expected)
        assert round((kind.high - kind.low) / kind.step) + 1 == len(expected)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_value_is_written_so_that_hydra_reads_the_same_float(value: float) -> None:
    axis = only("k=interval(0.0,1.0)")
    assert typed(axis.line(value)) == value
    assert math.copysign(1, typed(axis.line(value))) == math.copysign(1, value)  # type: ignore[arg-type]


ELEMENTS = st.one_of(
    st.integers(-99, 99).map(str),
    st.sampled_from(["true", "null", "a", "'a b'", "'a,b'", "[1,2]", "{a:1,b:[x,y]}", "'it\\'s'", "1e-3", "a/b"]),
)


@given(elements=st.lists(ELEMENTS, min_size=2, max_size=6, unique=True))
def test_choices_come_back_as_they_were_typed(elements: list[str]) -> None:
    axis = only(f"k={','.join(elements)}")
    assert isinstance(axis.distribution, CategoricalDistribution)
    read = [typed(axis.line(choice)) for choice in axis.distribution.choices]
    assert read == [typed(f"k={element}") for element in elements]


def test_the_command_line_comes_before_the_config() -> None:
    own = {"a": "interval(0,1)", "b": "1,2", "c": "choice(x,y)"}
    space = Space.parse(["+sweep=optuna", "sweep.trials=3", "b=5", "a=range(3)", "+d=p,q", "e=7"], own)
    assert {name: axis.text for name, axis in space.axes.items()} == {
        "a": "range(3)",
        "c": "choice(x,y)",
        "d": "p,q",
    }
    assert space.fixed == ["b=5", "e=7"]
    assert space.lines({"a": 2, "c": "y", "d": "q"}) == ["b=5", "e=7", "c=y", "a=2", "+d=q"]


def test_corners_try_each_end_and_every_choice_once() -> None:
    space = Space.parse(["a=interval(0,1)", "b=x,y,z"], {})
    assert [line[:2] for line in space.corners()] == [
        ["a=0.0", "b=x"],
        ["a=1.0", "b=x"],
        ["a=0.0", "b=y"],
        ["a=0.0", "b=z"],
    ]


def test_a_drawn_value_makes_the_key_of_the_run_that_is_typed_by_hand() -> None:
    axis = only("method.lr=range(0.01,0.05,0.01)")
    lines = [axis.line(value) for value in axis.values() or []]
    found = [compose(["method=backprop", "dataset=cora", line]).config["method"]["lr"] for line in lines]
    assert found == [float(text.partition("=")[2]) for text in lines]


@pytest.mark.parametrize(
    ("lines", "own", "told"),
    [
        (["a=1"], {}, "nothing to search"),
        (["seed=0,1", "a=1,2"], {}, "sweep.seeds"),
        (["a=tag(log,interval(0,1))"], {}, "a=tag"),
        (["a=tag(loq,interval(1,2))"], {}, "unknown tag 'loq'"),
        (["a=tag(log,choice(1,2))"], {}, "choices have no 'log'"),
        (["a=tag(log,range(1.0,2.0,0.5))"], {}, "interval"),
        (["a=range(1,1)"], {}, "expected 1 to"),
        ([f"a=range(0,{MOST_STEPS + 1})"], {}, "expected 1 to"),
        (["a=range(0.0,1.0,1e-9)"], {}, "expected 1 to"),
        (["a=range(0,5,0)"], {}, "expected 1 to"),
        (["a=interval(1"], {}, "interval"),
        ([], {"a": "3"}, "sweep.space.a=3: expected a space"),
    ],
)
def test_what_cant_be_searched_is_told_in_one_line(lines: list[str], own: dict[str, str], told: str) -> None:
    with pytest.raises(BadInput, match=told) as caught:
        Space.parse(lines, own)
    assert "\n" not in str(caught.value).strip()
