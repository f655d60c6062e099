"""Shift: SciPy as an oracle for every statistic, spikes and gaps, samples that are nearly empty."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator
from scipy import stats
from scipy.stats import spearmanr

from experiments.shift import Correlations, Tally, shifts, together

SAMPLES = st.lists(st.integers(-4, 4), min_size=5, max_size=80)


@given(SAMPLES, SAMPLES)
def test_ranks_and_distance_equal_scipy_under_heavy_ties(before: list[int], after: list[int]) -> None:
    tally = Tally.of(np.array(before, float), np.array(after, float))
    assert tally.distance() == pytest.approx(stats.ks_2samp(before, after).statistic)
    if len(set(before + after)) > 1:
        theirs = stats.mannwhitneyu(before, after, use_continuity=False, method="asymptotic").pvalue
        assert tally.rank_p() == pytest.approx(theirs, rel=1e-9)


@given(SAMPLES, SAMPLES)
def test_medians_are_values_of_the_samples(before: list[int], after: list[int]) -> None:
    tally = Tally.of(np.array(before, float), np.array(after, float))
    assert tally.medians() == (sorted(before)[(len(before) - 1) // 2], sorted(after)[(len(after) - 1) // 2])


@given(st.integers(60, 3000), st.integers(60, 3000), st.integers(1, 500))
def test_every_bin_expects_enough_rows(n: int, m: int, distinct: int) -> None:
    generator = np.random.default_rng(n)
    tally = Tally.of(generator.integers(0, distinct, n).astype(float), generator.integers(0, distinct, m).astype(float))
    sizes = np.add.reduceat(tally.before + tally.after, tally._edges())
    assert sizes.sum() == n + m
    assert len(sizes) <= 11
    assert len(sizes) == 1 or (sizes * min(n, m) / (n + m)).min() >= 10 - 1e-9


def test_bins_see_what_ranks_cannot() -> None:
    generator = np.random.default_rng(1)
    tally = Tally.of(generator.normal(0, 1, 2000), generator.normal(0, 1.5, 2000))
    assert tally.rank_p() > 0.01
    assert tally.bins_p() < 1e-9


def test_a_spike_is_judged_apart_from_the_other_values() -> None:
    """Revenue of the few who buy doubles: the share of zero stays, the rest moves."""
    generator = np.random.default_rng(2)
    before = np.where(generator.random(5000) < 0.85, 0, generator.lognormal(3, 0.6, 5000))
    after = np.where(generator.random(2000) < 0.85, 0, 2 * generator.lognormal(3, 0.6, 2000))
    spike, rest = shifts("revenue", before, after, kind="number")
    assert (spike.part, spike.subject, spike.material) == ("spike", "share of 0", False)
    assert rest.material
    assert rest.p < 1e-9
    assert rest.after == pytest.approx(2 * rest.before, rel=0.25)


def test_missing_values_are_a_part_of_their_own_however_rare_they_were() -> None:
    before, after = np.ones(5000), np.ones(300)
    after[:30] = np.nan
    (found,) = [one for one in shifts("x", before, after, kind="number") if one.part == "missing"]
    assert found.material
    assert found.p < 1e-20


def test_infinite_values_count_as_missing() -> None:
    (found,) = shifts("x", np.full(100, np.inf), np.ones(100), kind="number")
    assert (found.before, found.after) == (1.0, 0.0)


@pytest.mark.parametrize("kind", ["number", "category"])
def test_constant_empty_and_tiny_columns_are_not_tested(kind: str) -> None:
    nothing = np.full(200, np.nan)
    assert shifts("x", np.ones(200), np.ones(200), kind=kind) == []
    assert shifts("x", nothing, nothing, kind=kind) == []
    assert shifts("x", np.arange(20.0), np.arange(20.0) + 9, kind=kind) == []


def test_categories_have_no_order() -> None:
    generator = np.random.default_rng(3)
    before = generator.integers(0, 5, 4000).astype(float)
    shuffled = generator.permutation(5)[generator.integers(0, 5, 1000)].astype(float)
    (found,) = shifts("c", before, shuffled, kind="category")
    assert not found.material
    (moved,) = shifts("c", before, np.where(generator.random(1000) < 0.2, 2.0, shuffled), kind="category")
    assert moved.material
    assert moved.p < 1e-6
    assert moved.subject == "share of category 2"


NAMES = [f"x{place}" for place in range(8)]


def sample(generator: Generator, n: int, *, rho: float = 0.6) -> np.ndarray:
    """Eight columns with heavy ties and holes, of which the first two go together."""
    rows = generator.normal(size=(n, 8))
    rows[:, 1] = rho * rows[:, 0] + np.sqrt(1 - rho**2) * rows[:, 1]
    rows[:, 2] = generator.poisson(1.0, n)
    rows[:, 3] = np.where(generator.random(n) < 0.7, 0, np.exp(rows[:, 0]))
    rows[generator.random(n) < 0.2, 4] = np.nan
    return rows


def test_rank_correlations_are_spearmans_and_their_errors_those_of_a_bootstrap() -> None:
    generator = np.random.default_rng(1)
    ranks = np.argsort(np.argsort(sample(generator, 800)[:, :2], axis=0), axis=0).astype(float)
    found = Correlations.of(ranks)
    assert found.r[0, 1] == pytest.approx(spearmanr(ranks[:, 0], ranks[:, 1]).statistic)
    drawn = [Correlations.of(ranks[generator.integers(0, 800, 800)]).r[0, 1] for _ in range(400)]
    assert np.sqrt(found.variance[0, 1]) == pytest.approx(np.std(drawn), rel=0.15)


def test_a_correlation_that_flips_is_named_though_no_column_moved_alone() -> None:
    generator = np.random.default_rng(2)
    pair, classifier = together(NAMES, sample(generator, 3000), sample(generator, 1000, rho=-0.6))
    assert (pair.column, pair.material, pair.p < 1e-9) == ("x0 x x1", True, True)
    assert (pair.before, pair.after) == pytest.approx((0.58, -0.58), abs=0.08)
    assert classifier.material
    assert classifier.p < 1e-6
    assert {"x0", "x1"} & set(classifier.subject.removeprefix("told apart by ").split(", "))


def test_two_samples_of_one_world_are_not_told_apart() -> None:
    """Ten windows at the level of 1 % each: the chance of more than one false call of a kind is below 0.5 %."""
    calls = {"pair": 0, "classifier": 0}
    for seed in range(10):
        generator = np.random.default_rng(100 + seed)
        for shift in together(NAMES, sample(generator, 1500), sample(generator, 500)):
            calls[shift.part] += shift.p < 0.01
            assert not (shift.material and shift.p < 0.01)
    assert max(calls.values()) <= 1


def test_columns_without_values_or_alone_are_left_out() -> None:
    rows = np.full((300, 2), np.nan)
    assert together(["a", "b"], rows, rows) == []
    rows[:, 0] = np.arange(300)
    assert together(["a", "b"], rows, rows) == []


def test_columns_that_are_copies_have_no_pair_to_tell_of() -> None:
    rows = np.repeat(np.arange(400.0)[:, None], 2, axis=1)
    (pair, _classifier) = together(["a", "b"], rows, rows[::2])
    assert pair.p == 1
