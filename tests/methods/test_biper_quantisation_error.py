"""Quantisation error of the periodic bit: closed forms against quadrature, draws and a line search."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate

from runner.methods.learning_rules.binary.quantisation_error import (
    LIMIT,
    fitted_scale,
    laplace,
    least_error,
    mean_square,
    measured_error,
    repository_error,
)

SPREADS = (0.1, 0.3, 1.0, 2.0, 5.0)


@pytest.mark.parametrize("x", SPREADS)
def test_closed_forms_are_the_integrals(x: float) -> None:
    """E f(sin u) for u ~ Laplace(0, x), period by period: the density's periods sum to a geometric series."""

    def expected(function: object) -> float:
        inner, _ = integrate.quad(lambda u: function(math.sin(u)) * math.exp(-u / x) / x, 0, math.pi)  # type: ignore[operator]
        return inner / (1 - math.exp(-math.pi / x))

    assert mean_square(x) == pytest.approx(expected(lambda s: s * s), rel=1e-8)
    assert fitted_scale(x) == pytest.approx(expected(abs), rel=1e-8)


def test_figures_of_the_papers_card() -> None:
    found = [round(least_error(x), 4) for x in SPREADS]
    assert found == [0.0094, 0.0566, 0.1028, 0.0986, 0.0954]


def test_the_limit_is_that_of_a_uniform_phase() -> None:
    assert pytest.approx(0.0947, abs=5e-5) == LIMIT
    assert least_error(1e4) == pytest.approx(LIMIT, rel=1e-6)
    assert fitted_scale(1e4) == pytest.approx(2 / math.pi, rel=1e-6)
    phase = torch.sin(2 * math.pi * torch.arange(100_000, dtype=torch.float64) / 100_000)
    assert float(measured_error(phase)) == pytest.approx(LIMIT, rel=1e-6)


def test_error_grows_with_the_spread_up_to_one_and_not_beyond() -> None:
    below = [least_error(x / 10) for x in range(1, 11)]
    assert below == sorted(below)
    assert least_error(5.0) < least_error(1.0)


@pytest.mark.parametrize("x", SPREADS)
def test_a_draw_matches_and_its_fitted_scale_is_the_best(x: float) -> None:
    # 30 million draws meet a uniform number of exactly 0
    assert laplace(30_000_000, x, torch.Generator().manual_seed(1)).isfinite().all()
    s = torch.sin(laplace(1_000_000, x, torch.Generator().manual_seed(0)))
    assert float(measured_error(s)) == pytest.approx(least_error(x), rel=0.02)
    assert float(s.abs().mean()) == pytest.approx(fitted_scale(x), rel=0.01)
    few = s[:20_000]
    trials = torch.linspace(0, 1, 501, dtype=torch.float64)
    best = float(trials[torch.stack([measured_error(few, gamma) for gamma in trials]).argmin()])
    assert best == pytest.approx(float(few.abs().mean()), abs=2e-3)


def test_the_repositorys_measure_is_the_mean_distance_to_the_bit() -> None:
    s = torch.tensor([0.5, -0.25, 1.0, -1.0])
    assert float(repository_error(s)) == pytest.approx((0.5 + 0.75) / 4)
