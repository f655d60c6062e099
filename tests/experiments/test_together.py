"""Together: correlations against SciPy and a bootstrap, a classifier against its null, what only both see."""

import numpy as np
import pytest
from numpy.random import Generator
from scipy.stats import spearmanr

from experiments.together import Correlations, together

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
