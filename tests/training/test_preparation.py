import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from features.errors import BundleError, StudyError
from tests.training.matrices import matrix
from training.preparation import Preparation

ALL = ("impute", "cap", "log", "standardise")


def test_missing_becomes_the_median_but_a_missing_recency_becomes_the_longest_seen():
    rows = matrix([[1, 5], [3, np.nan], [np.nan, 9]], ["sum_x_7d", "recency_x_s"])
    prepared = Preparation.fit(rows, ["impute"]).transform(rows)
    assert prepared.tolist() == [[1, 5], [3, 9], [2, 9]]


def test_log_keeps_signs():
    rows = matrix([[np.e - 1], [1 - np.e], [0.0]])
    assert Preparation.fit(rows, ["log"]).transform(rows).ravel() == pytest.approx([1, -1, 0])


def test_standardised_training_rows_have_mean_zero_and_deviation_one():
    rows = matrix(np.random.default_rng(1).normal(3, 7, (500, 4)))
    prepared = Preparation.fit(rows, ["standardise"]).transform(rows)
    assert prepared.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-12)
    assert prepared.std(axis=0) == pytest.approx(np.ones(4))


def test_a_constant_or_empty_column_is_harmless():
    rows = matrix([[4.0, np.nan], [4.0, np.nan]])
    assert Preparation.fit(rows, ALL).transform(rows).tolist() == [[0, 0], [0, 0]]


def test_new_rows_change_nothing_that_was_learned():
    train, later = matrix([[0.0], [10.0]]), matrix([[1e9]])
    fitted = Preparation.fit(train, ["cap", "standardise"])
    before = fitted.transform(train)
    assert fitted.transform(later).max() <= 1.0
    assert np.array_equal(fitted.transform(train), before)


floats = st.floats(-1e9, 1e9) | st.just(np.nan)


@given(arrays(np.float64, (12, 3), elements=floats), st.permutations(range(12)))
def test_a_row_alone_gives_what_it_gives_among_others_after_a_round_trip_through_json(values, order):
    fitted = Preparation.fit(matrix(values), ALL)
    again = Preparation.from_dict(json.loads(json.dumps(fitted.to_dict())))
    whole = fitted.apply(values)
    assert not np.isnan(whole).any()
    for row in order[:4]:
        assert np.array_equal(again.apply(values[row : row + 1])[0], whole[row])


def test_unknown_steps_and_features_are_named_with_the_nearest():
    rows = matrix([[1.0]], ["count_any_7d"])
    with pytest.raises(StudyError, match="did you mean 'standardise'"):
        Preparation.fit(rows, ["standardize"])
    with pytest.raises(StudyError, match="did you mean 'count_any_7d'"):
        Preparation.fit(rows, [], names=["count_any_70d"])


def test_a_damaged_description_is_refused():
    with pytest.raises(BundleError, match="'log10'"):
        Preparation.from_dict({"names": ["a"], "steps": [{"step": "log10"}]})
    with pytest.raises(BundleError, match="'impute'"):
        Preparation.from_dict({"names": ["a"], "steps": [{"step": "impute", "fill": [1, 2]}]})
