"""The parts of a margin against XGBoost's own."""

import numpy as np
import pytest
import xgboost as xgb

from tests.training.test_trees import booster, rows
from training.contributions import contributions, paths_of
from training.trees import Forest


@pytest.mark.parametrize(("depth", "n_trees"), [(1, 5), (3, 40), (6, 60)])
def test_the_parts_are_those_of_xgboost(depth, n_trees):
    """20 % of the values are missing, features come back along a path, and many values tie with a threshold."""
    x, y = rows(400, 7, seed=depth)
    trained = booster(x, y, n_trees, max_depth=depth)
    forest = Forest.from_json(bytes(trained.save_raw("json")))
    found = contributions(forest, paths_of(forest), x[:60])
    wanted = trained.predict(xgb.DMatrix(x[:60]), pred_contribs=True)
    # XGBoost adds in float32: its own parts miss its own margin by as much.
    limit = 1e-6 * np.maximum(1.0, np.abs(wanted).sum(axis=1, keepdims=True))
    assert (np.abs(found - wanted) <= limit).all()
    np.testing.assert_allclose(found.sum(axis=1), forest.margins(x[:60]), rtol=0, atol=1e-5)


def test_one_row_gives_the_bits_it_gives_among_many():
    x, y = rows(300, 5, seed=9)
    forest = Forest.from_json(bytes(booster(x, y, 20).save_raw("json")))
    paths = paths_of(forest)
    many = contributions(forest, paths, x)
    for row in (0, 17, 299):
        np.testing.assert_array_equal(contributions(forest, paths, x[row : row + 1])[0], many[row])
