"""Inference: published numbers, SciPy as an independent oracle, laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.inference import (
    Estimate,
    Summary,
    always_valid,
    benjamini_hochberg,
    chi_square,
    fisher,
    fold,
    goodness_of_fit,
    heterogeneity,
    holm,
    lift,
    one_sided,
    rows_needed,
    welch,
    wilson,
)


def test_chi_square_without_correction_gives_the_published_p() -> None:
    table = [[42, 104 - 42], [500, 1009 - 500]]
    assert chi_square(table).p == pytest.approx(0.074866, abs=5e-7)
    assert chi_square(table).p == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-12)


def test_chi_square_with_correction_equals_scipy() -> None:
    table = [[42, 104 - 42], [500, 1009 - 500]]
    assert chi_square(table, correction=True).p == pytest.approx(stats.chi2_contingency(table).pvalue, rel=1e-12)


def test_a_sample_ratio_of_1000_to_1200_gives_the_published_p() -> None:
    assert goodness_of_fit([1000, 1200], [1, 1]).p == pytest.approx(0.000020079, abs=5e-10)


def test_goodness_of_fit_equals_scipy_for_unequal_shares() -> None:
    ours = goodness_of_fit([480, 260, 260], [2, 1, 1])
    theirs = stats.chisquare([480, 260, 260], [500, 250, 250])
    assert (ours.statistic, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-12)


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_welch_equals_scipy(n: int, m: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.normal(0.3, 2, n), generator.exponential(1, m)
    ours, theirs = welch(Summary.of(a), Summary.of(b)), stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval()
    assert (ours.p, ours.low, ours.high) == pytest.approx((theirs.pvalue, interval.low, interval.high), rel=1e-9)


def test_large_experiments_get_intervals_of_1_96_standard_errors() -> None:
    """Within a ten-thousandth of Student's interval."""
    generator = np.random.default_rng(1)
    a, b = generator.normal(0.02, 1, 20_000), generator.normal(0, 1, 20_000)
    ours, theirs = welch(Summary.of(a), Summary.of(b)), stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert ours.high - ours.value == pytest.approx(1.96 * ours.error, rel=1e-12)
    assert ours.high - ours.low == pytest.approx(theirs.high - theirs.low, rel=1e-4)


def test_folds_of_shares_have_katz_s_interval() -> None:
    for hits in ((30, 9), (400, 410), (6, 60)):
        sides = [np.repeat([1.0, 0.0], [each, 1_000 - each]) for each in hits]
        ours, theirs = fold(*map(Summary.of, sides)), stats.contingency.relative_risk(hits[0], 1_000, hits[1], 1_000)
        interval = theirs.confidence_interval()
        assert ours is not None
        assert 1 + ours.value == pytest.approx(theirs.relative_risk)
        assert (1 + ours.low, 1 + ours.high) == pytest.approx((interval.low, interval.high), rel=1e-3)
        assert (ours.p < 0.05) == (ours.low > 0 or ours.high < 0)
    assert fold(Summary(9, 0.0, 0.0), Summary(9, 1.0, 1.0)) is None


def test_lift_intervals_cover_the_true_lift() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        found = lift(Summary.of(generator.exponential(1.2, 500)), Summary.of(generator.exponential(1.0, 500)))
        assert found is not None
        covered += found.low <= 0.2 <= found.high
    assert stats.binom.ppf(0.001, 400, 0.95) <= covered <= stats.binom.ppf(0.999, 400, 0.95)


def test_lift_is_absent_where_control_is_not_positive() -> None:
    assert lift(Summary(10, 1.0, 1.0), Summary(10, 0.0, 1.0)) is None


def test_holm_gives_the_steps_of_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_never_lowers_a_p_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    assert max(adjusted) <= 1
    order = np.argsort(p_values, kind="stable")
    assert list(np.array(adjusted)[order]) == sorted(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_equals_scipy(p_values: list[float]) -> None:
    assert benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values), abs=1e-12)


def test_the_one_sided_bounds_are_scipys() -> None:
    random = np.random.default_rng(8)
    a, b = random.normal(0.3, 2, 30), random.exponential(1, 20)
    sides = [
        stats.ttest_ind(a, b, equal_var=False, alternative=side).confidence_interval() for side in ("greater", "less")
    ]
    assert one_sided(Summary.of(a), Summary.of(b)) == pytest.approx((sides[0].low, sides[1].high), rel=1e-9)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 40), st.integers(0, 400))
def test_fisher_equals_scipy(a: int, not_a: int, b: int, not_b: int) -> None:
    n, m = max(1, a + not_a), max(1, b + not_b)
    theirs = stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue
    assert fisher(a, n, b, m) == pytest.approx(theirs, rel=1e-6, abs=1e-12)


def test_the_confidence_sequence_is_the_published_one() -> None:
    """Summaries and result of a sequential test as published; 1,000 is what it is tuned for."""
    control = Summary(3000, 1396.87 / 3000, (52377.9767 - 1396.87**2 / 3000) / 2999)
    arm = Summary(3461, 2422.7 / 3461, (134698.29 - 2422.7**2 / 3461) / 3460)
    relative = lift(arm, control)
    assert relative is not None
    low, high = always_valid(relative, 6461, tuned_for=1000)
    assert (round(relative.value, 5), round(low, 5), round(high, 5)) == (0.50336, -0.55844, 1.56516)


def test_rows_needed_find_the_effect_as_often_as_asked() -> None:
    n = rows_needed(2.0, 0.25, power=0.8)
    random = np.random.default_rng(4)
    found = [
        welch(Summary.of(random.normal(0.25, 2, n)), Summary.of(random.normal(0, 2, n))).p < 0.05 for _ in range(1000)
    ]
    assert 0.76 <= np.mean(found) <= 0.84


def test_heterogeneity_of_equal_effects_is_found_as_rarely_as_it_should() -> None:
    random = np.random.default_rng(5)
    p = [heterogeneity([Estimate(float(v), 0, 0, 0.3, 0) for v in random.normal(1, 0.3, 4)]).p for _ in range(2000)]
    assert 0.035 <= np.mean(np.array(p) < 0.05) <= 0.065


def test_wilson_is_the_published_interval() -> None:
    low, high = wilson(10, 100)
    assert (round(low, 4), round(high, 4)) == (0.0552, 0.1744)
