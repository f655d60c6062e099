"""Against scikit-learn's own encoders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction import FeatureHasher
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import murmurhash3_32

from tests.training.matrices import matrix
from training.stages import murmur
from training.steps import fit


def categories(n, seed, kinds=(6, 9)):
    random = np.random.default_rng(seed)
    return np.column_stack([random.integers(0, k, n) * random.integers(0, 2, n) for k in kinds]).astype(float)


def test_a_column_per_value_and_for_missing_ones_is_scikit_learn_s():
    train, served = categories(400, 1), categories(100, 2)
    train[::10, 0], served[::7] = np.nan, np.nan
    train[5:9, 1], served[3, 1] = np.nan, 77
    ours = fit(matrix(train), [{"one_hot": {"columns": ["f0", "f1"]}}])
    theirs = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(train)
    assert np.array_equal(ours.apply(served), theirs.transform(served))
    assert ours.outputs[:2] == ("f0=0", "f0=1")
    assert ours.outputs[-1] == "f1=missing"
    assert ours.apply(np.array([[0.0, 77.0]])).sum() == 1  # an unknown value is nowhere


def test_rare_values_share_a_column_with_unknown_ones():
    values = np.repeat([3.0, 1, 4, 0, 5], [50, 40, 30, 20, 10])[:, None]
    ours = fit(matrix(values), [{"one_hot": {"columns": ["f0"], "most": 3}}])
    theirs = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=4, sparse_output=False).fit(values)
    served = np.array([[0.0], [1], [3], [4], [5], [99]])
    assert ours.outputs == ("f0=1", "f0=3", "f0=4", "f0=other")
    assert np.array_equal(ours.apply(served), theirs.transform(served))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_the_hash_is_murmurhash3(ids):
    array = np.array(ids, np.int64)
    assert murmur(array).tolist() == [murmurhash3_32(each.tobytes()) for each in array]


@pytest.mark.parametrize("n", [2, 8, 100])
def test_hashed_columns_are_those_of_scikit_learn(n):
    ids = np.random.default_rng(1).integers(0, 1 << 40, 500)
    ours = fit(matrix(ids[:, None]), [{"hash": {"columns": ["f0"], "n": n}}])
    theirs = FeatureHasher(n, input_type="string").transform([[np.int64(each).tobytes()] for each in ids])
    assert np.array_equal(ours.apply(ids[:, None].astype(float)), theirs.toarray())
    assert ours.outputs[0] == "f0#0"
    assert not ours.apply(np.array([[np.nan]])).any()
