import pickle
from dataclasses import replace

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st

from features.errors import StudyError
from tests.training.matrices import matrix
from training.baselines import baselines
from training.boosting import PATIENCE, ROUNDS, Boosting
from training.calibration import Calibration, softmax
from training.preparation import Preparation
from training.propensity import Cost, calibrate, leaks, threshold
from training.training_set import TrainingSet
from training.validation import Confusion, judge

NAMES = ("recency_any_s", "count_any_7d", "noise_a_7d", "noise_b_7d")


def rows(n, seed):
    """A truth that trees and logistic regression can both learn; 10 % missing."""
    random = np.random.default_rng(seed)
    values = np.column_stack([random.exponential(1e5, n), random.poisson(3, n), random.normal(size=(n, 2))])
    margin = 1.2 - values[:, 0] / 6e4 + 0.3 * values[:, 1]
    y = (random.uniform(size=n) < 1 / (1 + np.exp(-margin))).astype(float)
    values[random.random(values.shape) < 0.1] = np.nan
    return TrainingSet(matrix(values, NAMES), y, np.zeros(n, np.int8), {})


@pytest.fixture(scope="module")
def grown():
    train, validation = rows(4_000, 1), rows(2_000, 2)
    return Boosting(train, validation, Preparation(NAMES)).grow({"learning_rate": 0.2, "max_depth": 3}, seed=1)


def test_growing_stops_at_the_best_round_and_every_stored_tree_counts(grown):
    booster = xgb.Booster(model_file=bytearray(grown.text.encode()))
    test = rows(3_000, 3)
    x = test.matrix.values.astype(np.float32)
    whole = booster.predict(xgb.DMatrix(x, feature_names=list(NAMES)), output_margin=True)
    assert grown.rounds == booster.num_boosted_rounds() == grown.forest.n_trees < ROUNDS - PATIENCE
    assert np.array_equal(grown.forest.margins(x), whole)


def test_the_same_seed_grows_the_same_trees():
    train, validation = rows(1_000, 1), rows(500, 2)
    params = {"learning_rate": 0.3, "subsample": 0.7}
    texts = [Boosting(train, validation, Preparation(NAMES)).grow(params, seed=seed).text for seed in (5, 5, 6)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("classes", [(), ("low", "middle", "high")])
def test_the_mean_of_boosters_is_one_booster_with_the_mean_of_their_margins(classes):
    parts = [rows(1_500, seed) for seed in (1, 2)]
    if classes:
        said = {"classes": list(classes)}
        parts = [replace(each, y=each.y + (each.matrix.values[:, 2] > 0.5), provenance=said) for each in parts]
    boosting = Boosting(*parts, Preparation(NAMES))
    tried = [{"max_depth": 2, "learning_rate": 0.3}, {"max_depth": 4, "subsample": 0.6}, {"reg_lambda": 30.0}]
    grown = [boosting.grow(params, seed=seed) for seed, params in enumerate(tried)]
    mean, x = boosting.mean(grown, judged=True), boosting.x[1]
    assert mean.rounds == sum(each.rounds for each in grown)
    wanted = np.mean([each.forest.margins(x) for each in grown], axis=0)
    assert np.allclose(mean.forest.margins(x), wanted, atol=2e-6)
    chances = softmax(wanted) if classes else np.column_stack([1 / (1 + np.exp(wanted)), 1 / (1 + np.exp(-wanted))])
    assert mean.log_loss == pytest.approx(-np.log(chances[range(len(x)), boosting.y[1].astype(int)]).mean(), abs=1e-5)
    assert mean.log_loss < max(each.log_loss for each in grown)
    assert np.array_equal(boosting.mean(grown[:1]).forest.margins(x), grown[0].forest.margins(x))


def test_what_the_round_watcher_raises_ends_the_growing():
    class EnoughError(Exception):
        pass

    def stop(round_, _loss):
        if round_ == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        Boosting(rows(500, 1), rows(500, 2), Preparation(NAMES)).grow({}, seed=1, on_round=stop)


def test_the_finalists_trees_are_remembered_each_under_its_own_seed():
    boosting = Boosting(rows(500, 1), rows(500, 2), Preparation(NAMES))
    grown = boosting.grow({"max_depth": 2}, seed=1)
    assert boosting.grow({"max_depth": 2}, seed=1) is grown
    assert boosting.grow({"max_depth": 3}, seed=1).text != grown.text
    assert boosting.grow({"max_depth": 2, "subsample": 0.5}, seed=2).text != grown.text
    assert pickle.loads(pickle.dumps(boosting)).grow({"max_depth": 2}, seed=1).text == grown.text  # noqa: S301 - our own


def test_model_and_baselines_are_near_the_truth_and_far_from_chance(grown):
    test = rows(4_000, 3)
    found = judge(
        test.y,
        {"model": _probability(grown, test), **baselines(rows(4_000, 1), test, NAMES)},
        test.matrix.users,
        replicates=50,
    )
    assert list(found) == ["model", "logistic regression", "random forest", "rule: recency_any_s"]
    assert found["model"]["roc_auc"].value > found["rule: recency_any_s"]["roc_auc"].value > 0.6
    assert found["model"]["roc_auc"].value > found["logistic regression"]["roc_auc"].value > 0.65
    assert found["random forest"]["roc_auc"].value > 0.65
    assert found["model"]["calibration_error"].value < 0.04


def _probability(grown, test):
    margins = grown.forest.margins(test.matrix.values.astype(np.float32))
    return calibrate("none", margins, test.y).probability(margins)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_calibration_mends_margins_that_are_too_bold(method):
    random = np.random.default_rng(1)
    truth = random.normal(size=6_000)
    y = (random.uniform(size=6_000) < 1 / (1 + np.exp(-truth))).astype(float)
    margins = (3 * truth + 1).astype(np.float32)
    calibration = calibrate(method, margins[:3_000], y[:3_000])
    users = np.arange(3_000).astype(object)
    found = judge(
        y[3_000:],
        {name: each.probability(margins[3_000:]) for name, each in (("raw", Calibration()), ("mended", calibration))},
        users,
        replicates=0,
    )
    assert found["mended"]["calibration_error"].value < 0.05 < 0.1 < found["raw"]["calibration_error"].value
    if method == "platt":
        assert calibration.slope == pytest.approx(1 / 3, abs=0.03)
        assert found["mended"]["roc_auc"].value == pytest.approx(found["raw"]["roc_auc"].value)


def test_calibration_mends_the_margins_of_several_classes():
    random = np.random.default_rng(1)
    truth = random.normal(size=(8_000, 3))
    y = np.array([random.choice(3, p=p) for p in softmax(truth)]).astype(float)
    margins = (2.5 * truth + [0.0, 1.0, -1.0]).astype(np.float32)
    calibration = calibrate("platt", margins[:4_000], y[:4_000])
    assert calibration == Calibration.from_dict(calibration.to_dict())
    told = {"raw": Calibration().probability(margins[4_000:]), "mended": calibration.probability(margins[4_000:])}
    found = judge(y[4_000:], told, np.arange(4_000).astype(object), replicates=20)
    assert found["mended"]["calibration_error"].value < 0.02 < 0.08 < found["raw"]["calibration_error"].value
    assert calibration.slope == pytest.approx(0.4, abs=0.03)


def test_margins_that_rank_nothing_are_left_alone():
    y = np.array([0.0, 1.0] * 50)
    assert calibrate("platt", -y.astype(np.float32), y).method == "none"


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=60))
def test_the_f1_threshold_is_the_best_of_all(pairs):
    y, p = np.array([a for a, _ in pairs], float), np.array([b / 20 for _, b in pairs])
    if y.sum():

        def f1(limit):
            c = Confusion.at(limit, y, p)
            return 2 * c.true_positive / (2 * c.true_positive + c.false_positive + c.false_negative)

        assert f1(threshold(y, p)) == pytest.approx(max(f1(limit) for limit in np.unique(p)))


def test_the_cost_threshold_follows_from_calibrated_probabilities():
    assert threshold(np.ones(1), np.ones(1), Cost(false_positive=1, false_negative=4)) == pytest.approx(0.2)


def test_a_feature_that_knows_the_answer_is_found_even_among_missing_values():
    data = rows(1_000, 1)
    told = matrix(np.column_stack([data.matrix.values, np.where(data.y > 0, np.nan, 1.0)]), [*NAMES, "count_told_7d"])
    assert list(leaks(TrainingSet(told, data.y, data.parts, {}), (*NAMES, "count_told_7d"))) == ["count_told_7d"]
    assert leaks(data, NAMES) == {}


def test_one_class_alone_is_refused():
    data = rows(100, 1)
    with pytest.raises(StudyError, match="0 of 100 rows are positive"):
        Boosting(TrainingSet(data.matrix, np.zeros(100), data.parts, {}), data, Preparation(NAMES))
