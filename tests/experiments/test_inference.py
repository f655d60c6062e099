"""Inference: published numbers, SciPy as an independent oracle, laws."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.ab import analyze
from experiments.arms import sort
from experiments.comparison import Comparison
from experiments.inference import (
    Estimate,
    Summary,
    adjusted,
    always_valid,
    chi_square,
    cuped,
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
def test_benjamini_and_hochbergs_correction_is_what_they_published(p_values: list[float]) -> None:
    """The least p n / k over the k-th smallest p that are not below one's own."""
    ordered = [(p * len(p_values) / k, p) for k, p in enumerate(sorted(p_values), start=1)]
    least = [min(1.0, *(scaled for scaled, p in ordered if p >= mine)) for mine in p_values]
    assert adjusted(p_values, "bh") == pytest.approx(least, abs=1e-12)


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


rows = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.floats(-1e6, 1e6), st.integers(1, 9), st.floats(0, 9)),
    min_size=8,
    max_size=60,
)


def published(n_users: int = 4000) -> pl.DataFrame:
    """The users of tea-tasting's `make_users_data(rng=42, covariates=True)`, drawn as it draws them."""
    random = np.random.default_rng(42)
    variant = random.binomial(n=1, p=0.5, size=n_users)
    sessions = 1 + random.poisson(lam=2 - 1, size=n_users)
    lift = 1 + 0.1 * variant
    chance = random.beta(a=0.25 * lift, b=1 - 0.25 * lift, size=n_users)
    orders = random.binomial(n=sessions, p=chance, size=n_users)
    price = random.lognormal(mean=np.log(10) - 0.5 * 0.5 / 2, sigma=0.5, size=n_users)
    before = random.poisson(lam=sessions, size=n_users)
    orders_before = random.binomial(n=before, p=chance / lift, size=n_users)
    return pl.DataFrame(
        {
            "variant": variant,
            "sessions": sessions,
            "orders": orders,
            "revenue": (orders * price).round(2),
            "orders_before": orders_before,
        }
    )


def p_of(metric: str, **options: str) -> float:
    (one,) = analyze(published(), variant="variant", control="0", metrics=[metric], **options).comparisons
    assert isinstance(one, Comparison)
    return one.judged.p


def test_the_published_users_are_drawn_as_published() -> None:
    assert published().select("sessions", "orders", "revenue").head(3).rows() == [
        (2, 1, 9.17),
        (2, 1, 6.43),
        (2, 1, 7.94),
    ]


def test_orders_per_user_and_per_session_have_tea_tastings_p() -> None:
    assert p_of("orders") == pytest.approx(0.11773178, abs=5e-9)
    assert p_of("orders/sessions") == pytest.approx(0.0762376, abs=5e-8)


def test_with_a_covariate_orders_per_user_have_tea_tastings_p() -> None:
    assert p_of("orders", covariate="orders_before") == pytest.approx(0.00733041, abs=5e-9)


@given(rows)
def test_summaries_from_sums_equal_those_of_the_rows(given_rows: list) -> None:
    more = [(arm, "x", y, 1, 0.5) for arm in "ab" for y in (0.0, 1.0)]
    frame = pl.DataFrame([*given_rows, *more], schema=["arm", "part", "y", "b", "x"], orient="row")
    held = sort(frame, variant="arm", control="a", metrics=["y", "y/b"], by="part", covariate="x")
    for arm in "ab":
        mine = frame.filter(arm=arm)
        y, b = mine["y"].to_numpy(), mine["b"].to_numpy()
        plain, ratio = held.of("y", arm).summary(), held.of("y/b", arm).summary()
        assert (plain.n, plain.mean) == (len(y), pytest.approx(y.mean(), abs=1e-6))
        assert plain.variance == pytest.approx(y.var(ddof=1), rel=1e-6, abs=1e-3)
        r = y.sum() / b.sum()
        assert ratio.mean == pytest.approx(r, abs=1e-6)
        assert ratio.variance == pytest.approx(((y - r * b) / b.mean()).var(ddof=1), rel=1e-6, abs=1e-3)
        parts = [held.of("y", arm, segment=part) for part in held.parts("segment")]
        together = sum(parts[1:], parts[0])
        assert together.totals == pytest.approx(held.of("y", arm).totals, rel=1e-9, abs=1e-3)


def test_what_a_covariate_told_is_what_regression_says() -> None:
    random = np.random.default_rng(3)
    n = 2000
    x, arm = random.gamma(2.0, 3.0, n), random.integers(0, 2, n)
    y = 1e7 + 2 * x + random.normal(0, 1, n) + 0.5 * arm
    frame = pl.DataFrame({"arm": arm, "x": x, "y": y})
    held = sort(frame, variant="arm", control="0", metrics=["y"], covariate="x")
    estimate, reduction = cuped(held.of("y", "1"), held.of("y", "0"))
    slope = np.cov(x, y)[0, 1] / x.var(ddof=1)
    left = y - slope * (x - x.mean())
    assert estimate is not None
    assert estimate.value == pytest.approx(left[arm == 1].mean() - left[arm == 0].mean(), abs=1e-6)
    error = np.sqrt(sum(left[arm == k].var(ddof=1) / (arm == k).sum() for k in (0, 1)))
    assert estimate.error == pytest.approx(error, rel=1e-6)
    assert reduction == pytest.approx(72 / 73, abs=0.002)


def test_skewness_is_that_of_scipy() -> None:
    from scipy import stats

    values = np.random.default_rng(1).lognormal(0, 1, 3000)
    frame = pl.DataFrame({"arm": ["a", "b"] * 1500, "y": values})
    held = sort(frame, variant="arm", control="a", metrics=["y"])
    assert held.of("y", "a").skewness == pytest.approx(stats.skew(values[::2]), rel=1e-9)
    assert held.of("y", "b").skewness > 2
