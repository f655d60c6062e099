"""Our metrics against scikit-learn's, and the intervals against what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from features.errors import StudyError
from training.validation import METRICS, Confusion, Ranking, judge


def sample(n, seed, ties=False):
    random = np.random.default_rng(seed)
    p = random.uniform(0.01, 0.99, n)
    p = p.round(1).clip(0.05, 0.95) if ties else p
    return (random.uniform(size=n) < p).astype(float), p, np.array([f"u{i}" for i in range(n)], dtype=object)


@given(st.integers(20, 400), st.integers(0, 10_000), st.booleans())
def test_points_equal_scikit_learn(n, seed, ties):
    y, p, users = sample(n, seed, ties)
    if 0 < y.sum() < n:
        found = judge(y, {"m": p}, users, replicates=0)["m"]
        assert found["roc_auc"].value == pytest.approx(metrics.roc_auc_score(y, p))
        assert found["average_precision"].value == pytest.approx(metrics.average_precision_score(y, p))
        assert found["log_loss"].value == pytest.approx(metrics.log_loss(y, p))
        assert found["brier"].value == pytest.approx(metrics.brier_score_loss(y, p))


@given(st.integers(20, 200), st.integers(0, 10_000), st.booleans())
def test_a_weighting_equals_repeating_rows(n, seed, ties):
    y, p, _ = sample(n, seed, ties)
    weights = np.random.default_rng(seed).integers(0, 4, n).astype(float)
    chosen = np.repeat(np.arange(n), weights.astype(int))
    if 0 < y[chosen].sum() < len(chosen):
        found = Ranking.of(y, p).metrics(weights[None])
        repeated = Ranking.of(y[chosen], p[chosen]).metrics(np.ones((1, len(chosen))))
        for name in METRICS:
            if name != "calibration_error":  # its bins are those of the full sample
                assert found[name][0] == pytest.approx(repeated[name][0])


def test_lift_and_calibration_error_by_hand():
    p = np.repeat([0.9, 0.5, 0.1], [10, 40, 50])
    y = np.concatenate([np.ones(9), [0], np.ones(20), np.zeros(20), np.ones(5), np.zeros(45)])
    found = judge(y, {"m": p}, np.arange(100).astype(object), replicates=0)["m"]
    assert found["lift_top_decile"].value == pytest.approx((9 / 10) / (34 / 100))
    assert found["calibration_error"].value == pytest.approx(0.0, abs=1e-12)
    shifted = judge(y, {"m": p + 0.05}, np.arange(100).astype(object), replicates=0)["m"]
    assert shifted["calibration_error"].value == pytest.approx(0.05)


def test_ties_at_the_decile_are_shared():
    y, p = np.array([1.0] * 5 + [0.0] * 15), np.full(20, 0.3)
    assert judge(y, {"m": p}, np.arange(20).astype(object), replicates=0)["m"][
        "lift_top_decile"
    ].value == pytest.approx(1)


def test_intervals_cover_about_as_often_as_they_say():
    truth, hits = None, 0
    y, p, _ = sample(200_000, 1)
    truth = metrics.roc_auc_score(y, p)
    for seed in range(60):
        y, p, users = sample(300, seed + 100)
        interval = judge(y, {"m": p}, users, replicates=200, seed=seed)["m"]["roc_auc"]
        hits += interval.low <= truth <= interval.high
    assert 50 <= hits <= 60


def test_all_rows_of_a_user_are_drawn_together():
    y, p, _ = sample(400, 3)
    alone = judge(y, {"m": p}, np.arange(400).astype(object))["m"]["roc_auc"]
    fours = judge(np.repeat(y, 4), {"m": np.repeat(p, 4)}, np.repeat(np.arange(400), 4).astype(object))["m"]["roc_auc"]
    pretended = judge(np.repeat(y, 4), {"m": np.repeat(p, 4)}, np.arange(1600).astype(object))["m"]["roc_auc"]
    assert fours.high - fours.low == pytest.approx(alone.high - alone.low, rel=0.15)
    assert pretended.high - pretended.low < 0.7 * (alone.high - alone.low)


def test_a_paired_difference_is_tighter_than_two_intervals():
    y, p, users = sample(2_000, 4)
    worse = np.clip(p + np.random.default_rng(1).normal(0, 0.1, 2_000), 0, 1)
    found = judge(y, {"model": p, "baseline": worse}, users)
    difference = found["model"].minus(found["baseline"])["roc_auc"]
    assert difference.value == pytest.approx(found["model"]["roc_auc"].value - found["baseline"]["roc_auc"].value)
    assert difference.low > 0
    widths = [found[name]["roc_auc"].high - found[name]["roc_auc"].low for name in found]
    assert difference.high - difference.low < 0.8 * sum(widths)


def test_the_same_seed_gives_the_same_intervals():
    y, p, users = sample(500, 5)
    assert judge(y, {"m": p}, users, seed=3)["m"].to_dict() == judge(y, {"m": p}, users, seed=3)["m"].to_dict()
    assert judge(y, {"m": p}, users, seed=3)["m"].to_dict() != judge(y, {"m": p}, users, seed=4)["m"].to_dict()


def test_one_class_or_no_probability_is_refused():
    with pytest.raises(StudyError, match="0 of 3 rows are positive"):
        judge(np.zeros(3), {"m": np.zeros(3)}, np.arange(3).astype(object))
    with pytest.raises(StudyError, match="'m' are not 2 probabilities"):
        judge(np.array([0.0, 1.0]), {"m": np.array([0.5, np.nan])}, np.arange(2).astype(object))


def test_the_confusion_matrix_counts():
    confusion = Confusion.at(0.5, np.array([1, 1, 0, 0, 1.0]), np.array([0.5, 0.4, 0.6, 0.1, 0.9]))
    assert (confusion.true_positive, confusion.false_positive) == (2, 1)
    assert (confusion.false_negative, confusion.true_negative) == (1, 1)
    assert (confusion.precision, confusion.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_of_a_calibration_error_holds_its_value_and_chance_has_less_of_it(seed):
    random = np.random.default_rng(seed)
    p = random.uniform(0.02, 0.4, 1_500)
    y = (random.random(1_500) < p).astype(float)
    users = np.arange(1_500).astype(object)
    found = judge(y, {"true": p, "bold": np.clip(2 * p, 0, 1)}, users, replicates=200)
    for each in found.values():
        error = each["calibration_error"]
        assert error.low <= error.value <= error.high
    plain = judge(y, {"true": p}, users, replicates=0)["true"]["calibration_error"].value
    assert found["true"]["calibration_error"].value < 0.8 * plain
    assert found["bold"]["calibration_error"].value == pytest.approx(p.mean(), abs=0.03)
