"""The walk against XGBoost itself, bit for bit."""

import json

import numpy as np
import pytest
import xgboost as xgb

from features.errors import BundleError
from training.trees import Forest


def rows(n, columns, seed, missing=0.2):
    """Rounded normals, so that many values tie with a threshold, and holes."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, columns)).round(1).astype(np.float32)
    x[random.random(x.shape) < missing] = np.nan
    y = np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) ** 2 + random.normal(size=n) > 1.0
    return x, y.astype(int)


def booster(x, y, n_trees, **params):
    options = {
        "objective": "binary:logistic",
        "max_depth": 6,
        "eta": 0.1,
        "tree_method": "hist",
        "seed": 1,
        "nthread": 2,
    }
    return xgb.train({**options, **params}, xgb.QuantileDMatrix(x, label=y), num_boost_round=n_trees)


def assert_same_bits(trained, x):
    forest = Forest.from_json(bytes(trained.save_raw("json")))
    wanted = trained.predict(xgb.DMatrix(x), output_margin=True)
    assert np.array_equal(forest.margins(x).view(np.int32), wanted.view(np.int32))
    return forest


def test_margins_are_xgboost_s_to_the_bit_with_missing_values_and_ties():
    x, y = rows(20_000, 20, 1)
    forest = assert_same_bits(booster(x, y, 200), x)
    assert forest.n_trees == 200
    ties = np.intersect1d(forest.value[forest.left >= 0], x[~np.isnan(x)])
    assert len(ties) > 0


@pytest.mark.integration
@pytest.mark.parametrize("n_trees", [500, 1000])
def test_a_thousand_trees_agree_as_well(n_trees):
    x, y = rows(20_000, 20, 2)
    assert_same_bits(booster(x, y, n_trees, eta=0.02), x)


def test_the_margins_of_every_class_are_xgboost_s_to_the_bit():
    x, y = rows(5_000, 8, 4)
    y = y + (np.nan_to_num(x[:, 2]) > 0.5)
    forest = assert_same_bits(booster(x, y, 60, objective="multi:softprob", num_class=3), x)
    assert forest.margins(x).shape == (5_000, 3)
    for place in range(3):
        assert np.array_equal(forest.only(place).margins(x), forest.margins(x)[:, place])


def test_thresholds_are_met_from_both_sides_in_float32():
    x, y = rows(2_000, 3, 3, missing=0.1)
    trained = booster(x, y, 30)
    forest = Forest.from_json(bytes(trained.save_raw("json")))
    edges = np.unique(forest.value[forest.left >= 0])
    around = np.concatenate([np.nextafter(edges, np.float32(-9)), edges, np.nextafter(edges, np.float32(9))])
    grid = np.stack([around, np.roll(around, 7), np.roll(around, 13)], axis=1).astype(np.float32)
    assert_same_bits(trained, grid)


@pytest.mark.parametrize("base_score", [0.001, 0.123, 0.37, 0.5, 0.9, 0.9997])
def test_the_base_score_becomes_the_margin_that_xgboost_starts_from(base_score):
    x, y = rows(300, 2, 4)
    assert_same_bits(booster(x, y, 3, base_score=base_score), x)


@pytest.mark.parametrize(
    "params",
    [
        {"scale_pos_weight": 6.5},
        {"objective": "reg:squarederror"},
        {"num_parallel_tree": 3, "subsample": 0.5, "colsample_bynode": 0.5},
        {"grow_policy": "lossguide", "max_leaves": 17, "max_depth": 0},
        {"max_delta_step": 1, "gamma": 2.0},
        {"tree_method": "exact"},
    ],
)
def test_other_ways_of_growing_agree(params):
    x, y = rows(1_000, 5, 5)
    options = {"max_depth": 4, "eta": 0.3, "seed": 2, "objective": "binary:logistic", **params}
    assert_same_bits(xgb.train(options, xgb.DMatrix(x, label=y), num_boost_round=12), x)


def test_a_cut_booster_counts_exactly_the_trees_that_it_stores():
    x, y = rows(2_000, 5, 6)
    whole = booster(x, y, 40)
    forest = assert_same_bits(whole[:17], x)
    assert forest.n_trees == 17


def test_a_constant_model_of_stumps_without_splits_is_walked():
    x = np.zeros((10, 1), np.float32)
    assert_same_bits(booster(x, np.array([0, 1] * 5), 2), x)


def test_one_row_gives_what_it_gives_among_many():
    x, y = rows(500, 6, 7)
    forest = Forest.from_json(bytes(booster(x, y, 50).save_raw("json")))
    assert [forest.margins(x[i : i + 1])[0] for i in range(50)] == forest.margins(x)[:50].tolist()


def test_what_the_walk_does_not_cover_is_refused():
    x, y = rows(400, 3, 8, missing=0)
    dart = booster(x, y, 2, booster="dart")
    codes = xgb.DMatrix(np.abs(x).round(), label=y, feature_types=["c", "q", "q"], enable_categorical=True)
    categorical = xgb.train({"objective": "binary:logistic", "max_cat_to_onehot": 1}, codes, num_boost_round=3)
    for trained, word in ((dart, "booster"), (categorical, "categorical")):
        with pytest.raises(BundleError, match=word):
            Forest.from_json(bytes(trained.save_raw("json")))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"learner": {}}', "not json"])
def test_other_files_are_refused(text):
    with pytest.raises(BundleError, match="not an XGBoost JSON model"):
        Forest.from_json(text)


def test_rows_of_another_width_are_refused():
    x, y = rows(100, 3, 9)
    forest = Forest.from_json(json.dumps(json.loads(booster(x, y, 2).save_raw("json"))))
    with pytest.raises(BundleError, match="3 columns"):
        forest.margins(x[:, :2])
