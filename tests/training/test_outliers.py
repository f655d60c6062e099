import numpy as np
import pytest

from tests.training.matrices import matrix
from training.steps import fit, fit_rows


def test_caps_are_quantiles_of_the_training_rows_and_of_nothing_else():
    train = matrix(np.arange(101.0)[:, None])
    fitted = fit(train, [{"cap": {"low": 0.1, "high": 0.9}}])
    assert fitted.apply(np.array([[-5.0], [10.0], [50.5], [90.1], [np.nan]])).ravel() == pytest.approx(
        [10, 10, 50.5, 90, np.nan], nan_ok=True
    )
    assert fit(train, ["cap"]).apply(np.array([[1e9]])).tolist() == [[99.5]]


@pytest.mark.parametrize(("served", "wanted"), [("cap", 4.0), ("pass", 1e9)])
def test_rows_beyond_tukey_s_fences_are_not_fitted_on_and_served_values_are_capped_or_passed(served, wanted):
    # Quartiles 1 and 3 of the first column: the fences are -2 and 6; the second column has no spread.
    values = np.column_stack([np.tile([0.0, 1, 2, 3, 4], 20), np.repeat([0.0, 7.0], [90, 10])])
    values[0, 0], values[1, 0] = 100.0, np.nan
    fitted, kept = fit_rows(matrix(values), [{"iqr": {"served": served}}])
    assert np.flatnonzero(~kept).tolist() == [0]
    passed = fitted.apply(np.array([[1e9, 1e9]]))[0]
    assert passed[1] == 1e9
    assert passed[0] == (6.0 if served == "cap" else wanted)


def test_the_fences_widen_with_k():
    values = np.concatenate([np.tile([0.0, 1, 2, 3, 4], 20), [7.0]])[:, None]
    kept = [fit_rows(matrix(values), [{"iqr": {"k": k}}])[1].sum() for k in (1.5, 3)]
    assert kept == [100, 101]
