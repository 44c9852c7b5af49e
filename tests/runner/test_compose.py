"""A sweep's fast composition gives what Hydra gives."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.compose import SweepComposer, compose
from runner.errors import BadInput

choices = [
    st.sampled_from(["method=forwardgnn", "method=backprop"]),
    st.sampled_from(["dataset=cora", "dataset=citeseer", "dataset=pubmed"]),
]
values = [
    st.sampled_from(["model=gcn", "model=sage", "model=gat", "model=mlp"]),
    st.sampled_from(["hardware=cpu", "hardware=cuda"]),
    st.integers(0, 4).map("seed={}".format),
    st.floats(0.001, 1).map("method.lr={!r}".format),
    st.sampled_from(["model.num_layers=3", "limit=2", "method={epochs: 7}", "+method.extra=1", "method.nope=1"]),
    st.sampled_from(["dataset.fold=${seed}", "dataset.fold=3", "home=/x", "tracking.uri=a/b", "seed=${limit}"]),
    st.sampled_from(["+experiment=forwardgnn_full", "~model.num_layers", "rerun=true", "checkpoint={every: 3}"]),
]
COMPOSER = SweepComposer()


@settings(max_examples=60)
@given(st.tuples(*choices), st.lists(st.one_of(*values), max_size=5))
def test_fast_equals_slow(chosen: tuple[str, str], others: list[str]) -> None:
    overrides = [*chosen, *others]
    try:
        slow = compose(overrides)
    except BadInput:
        slow = None
    try:
        fast = COMPOSER(overrides)
    except BadInput:
        fast = None
    assert fast == slow
