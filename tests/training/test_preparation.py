"""What every step has in common: order, columns, freezing, one row alone, and words about mistakes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from features.errors import BundleError, DefinitionError, StudyError
from tests.training.matrices import matrix
from training.preparation import KNOWN, Preparation
from training.stages import Stage
from training.steps import Declared, completed, fit, fit_rows

NAMES = ("count_a_7d", "count_a_14d", "mode_b_7d")
EVERY = {
    "impute": "impute",
    "impute by mode": {"impute": {"method": "mode"}},
    "impute iteratively": {"impute": {"method": "iterative"}},
    "cap": {"cap": {"low": 0.1, "high": 0.9}},
    "iqr": {"iqr": {"k": 9}},
    "iqr, passed": {"iqr": {"k": 9, "served": "pass"}},
    "log": "log",
    "power": "power",
    "standardise": "standardise",
    "robust": "robust",
    "min_max": "min_max",
    "smooth": {"smooth": {"columns": ["count_a_7d", "count_a_14d"], "method": "exponential", "alpha": 0.3}},
    "one_hot": {"one_hot": {"columns": ["mode_b_7d"], "most": 2}},
    "hash": {"hash": {"columns": ["mode_b_7d"], "n": 4}},
    "pca": {"pca": {"components": 2}},
    "autoencoder": {"autoencoder": {"components": 2, "hidden": 4, "rounds": 3}},
}
"""Every step, with what must stand before it added by `chain`."""


def chain(step):
    """A step behind those that it needs."""
    if "pca" in step or "autoencoder" in step:
        return ["impute", "standardise", step]
    return [step]


def sample(n=80, seed=1):
    """Two nested counts and a category, some missing."""
    random = np.random.default_rng(seed)
    week = random.poisson(4, n).astype(float)
    values = np.column_stack([week, week + random.poisson(3, n), random.integers(0, 5, n)])
    values[random.random(values.shape) < 0.1] = np.nan
    return matrix(values, NAMES)


def again(fitted):
    """What a bundle gives back."""
    return Preparation.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))


def test_every_step_is_tried_here():
    assert {next(iter(each)) if isinstance(each, dict) else each for each in EVERY.values()} == KNOWN


@pytest.mark.parametrize("step", EVERY.values(), ids=list(EVERY))
def test_a_row_alone_gives_to_the_bit_what_it_gives_among_many_after_a_round_trip_through_json(step):
    fitted, values = fit(sample(), chain(step)), sample(40, seed=2).values
    values[0] = 1e7
    whole, read = fitted.apply(values), again(fitted)
    assert whole.shape == (40, len(fitted.outputs))
    assert len(set(fitted.outputs)) == len(fitted.outputs)
    for row in range(40):
        assert np.array_equal(read.apply(values[row : row + 1])[0], whole[row], equal_nan=True)


@pytest.mark.parametrize("step", EVERY.values(), ids=list(EVERY))
def test_what_was_learned_does_not_change_with_what_is_served_and_is_learned_again_alike(step):
    fitted = fit(sample(), chain(step))
    before = json.dumps(fitted.to_dict())
    fitted.apply(sample(30, seed=5).values)
    assert json.dumps(fitted.to_dict()) == before == json.dumps(fit(sample(), chain(step)).to_dict())


floats = st.floats(-1e9, 1e9) | st.just(np.nan)


@given(arrays(np.float64, (12, 3), elements=floats), st.permutations(range(12)))
def test_any_numbers_are_prepared_without_a_gap_and_alone_as_among_others(values, order):
    fitted = fit(matrix(values), ["impute", "cap", "log", "power", "standardise", {"pca": {"components": 2}}])
    whole = fitted.apply(values)
    assert np.isfinite(whole).all()
    for row in order[:4]:
        assert np.array_equal(again(fitted).apply(values[row : row + 1])[0], whole[row])


def test_steps_may_take_some_columns_and_what_they_make_stands_behind_the_rest():
    rows = matrix([[1.0, 5.0, 2.0], [3.0, 6.0, 4.0]], ["a", "b", "c"])
    steps = [{"one_hot": {"columns": ["b"]}}, {"min_max": {"columns": ["c"]}}]
    fitted = fit(rows, steps)
    assert fitted.outputs == ("a", "c", "b=5", "b=6")
    assert fitted.transform(rows).tolist() == [[1, 0, 1, 0], [3, 1, 0, 1]]


def test_a_constant_or_empty_column_is_harmless():
    rows = matrix([[0.1, np.nan]] * 50)
    steps = ["impute", "cap", "log", "power", "standardise", "robust", "min_max"]
    fitted = fit(rows, steps)
    assert fitted.transform(rows).tolist() == [[0, 0]] * 50
    assert np.abs(fitted.apply(np.array([[0.2, 1.0]]))).max() < 2  # rounding is no spread to divide by


def test_filters_choose_what_later_steps_and_the_model_are_fitted_on():
    rows = matrix([[value] for value in [*np.arange(20.0), 1e6]])
    fitted, kept = fit_rows(rows, ["iqr", "min_max"])
    assert kept.tolist() == [True] * 20 + [False]
    assert fitted.transform(rows)[:20].max() == 1.0
    assert fitted.told == ("iqr: fitted on 95.2% of the rows",)
    wide = matrix(np.random.default_rng(1).normal(size=(500, 4)))
    with pytest.raises(StudyError, match="the filters of the preparation leave"):
        fit(wide, [{"iqr": {"k": 0.1}}])


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (["standardize"], "unknown preparation step 'standardize'. Hint: did you mean 'standardise'"),
        ([{"cap": {"lo": 0.1}}], "unknown key 'lo'. Hint: did you mean 'low'"),
        ([{"cap": {"low": 0.9, "high": 0.1}}], "`low` must be below `high`"),
        ([{"impute": {"method": "mean"}}], "'median', 'mode' or 'iterative'"),
        ([{"cap": {}, "log": {}}], "a step is a name"),
        ([["log"]], "a step is a name"),
        (["standardise", {"pca": {"components": 2}}], "'pca' needs every value: put 'impute' before it"),
        (["impute", "autoencoder"], "'autoencoder' needs columns of one size: put 'standardise' before it"),
        (["log", {"hash": {"columns": ["f0"]}}], "'hash' reads features as they are: put it before 'log'"),
        (["impute", {"pca": {"components": 2, "share": 0.5}}], "pca is {components: 5} or {share: 0.9}"),
    ],
)
def test_mistakes_are_named(steps, words):
    with pytest.raises(DefinitionError, match=words):
        fit(matrix([[1.0]]), steps)


def test_unknown_columns_and_no_rows_are_named():
    rows = matrix([[1.0]], ["count_any_7d"])
    with pytest.raises(StudyError, match="did you mean 'count_any_7d'"):
        fit(rows, [], names=["count_any_70d"])
    with pytest.raises(StudyError, match="did you mean 'count_any_7d'"):
        fit(rows, [{"log": {"columns": ["count_any_17d"]}}])
    with pytest.raises(StudyError, match="no rows"):
        fit(matrix(np.empty((0, 1))), [])


def test_an_impute_is_added_behind_the_steps_that_read_features_as_they_are():
    declared = Declared.from_dict({"preparation": [EVERY["one_hot"], "log"]}).preparation
    assert [each.step for each in completed(declared)] == ["one_hot", "impute", "log"]
    assert completed(completed(declared)) == completed(declared)


def test_a_damaged_description_is_refused():
    fine = fit(sample(), [EVERY["one_hot"], "impute"]).to_dict()
    damages = [
        lambda stages: stages[0].update(step="one_hat"),
        lambda stages: stages[0]["columns"].append("mode_c_7d"),
        lambda stages: stages[0]["outputs"].append("mode_b_7d=9"),
        lambda stages: stages[0]["learned"].pop("kind"),
        lambda stages: stages[1]["learned"]["fill"].append(1.0),
    ]
    for damage in damages:
        copy = json.loads(json.dumps(fine))
        damage(copy["steps"])
        with pytest.raises(BundleError, match="cannot be read"):
            Preparation.from_dict(copy)
    assert isinstance(Preparation.from_dict(fine).stages[0], Stage)


def test_serving_a_preparation_needs_no_training_library(tmp_path):
    path = tmp_path / "preparation.json"
    steps = [
        EVERY["smooth"],
        EVERY["one_hot"],
        EVERY["impute iteratively"],
        "power",
        "standardise",
        {"pca": {"components": 3}},
        EVERY["autoencoder"],
    ]
    path.write_text(json.dumps(fit(sample(), [*steps[:5], "standardise", steps[6]]).to_dict()))
    program = f"""
import sys, json
for name in ("sklearn", "scipy", "pandas", "xgboost", "matplotlib"):
    sys.modules[name] = None
import numpy as np
from training.preparation import Preparation
print(Preparation.from_dict(json.load(open({str(path)!r}))).apply(np.array([[1.0, np.nan, 2.0]])).shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 2)"
