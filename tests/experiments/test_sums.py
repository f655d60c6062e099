"""Sums: mergeable, and equal to what NumPy says of the rows; what others publish of the same experiment."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.ab import analyze
from experiments.arms import sort
from experiments.comparison import Comparison
from experiments.sums import cuped

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
