import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import DefinitionError
from tests.training.matrices import matrix
from training.steps import fit

WEEKS = ["count_any_7d", "count_any_14d", "count_any_21d", "count_any_4w"]


def smoothed(weeks, **options):
    """Our level for a user whose amounts per week, oldest first, are these."""
    nested = np.cumsum(weeks[::-1])[None].astype(float)
    fitted = fit(matrix(nested, WEEKS), [{"smooth": {"columns": WEEKS, **options}}])
    assert fitted.outputs == ("smooth#count_any_7d",)
    return fitted.apply(nested)[0, 0]


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4), st.integers(1, 4), st.floats(0.05, 0.95))
def test_the_level_is_that_of_pandas_over_the_consecutive_weeks(weeks, span, alpha):
    series = pd.Series(weeks, dtype=float)
    assert smoothed(weeks, span=span) == pytest.approx(series.rolling(span).mean().iloc[-1], abs=1e-9)
    wanted = series.ewm(alpha=alpha, adjust=True).mean().iloc[-1]
    assert smoothed(weeks, method="exponential", alpha=alpha) == pytest.approx(wanted, abs=1e-9)


def test_without_a_span_all_windows_count_alike():
    assert smoothed([4, 0, 8, 0]) == 3


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["count_any_7d", "count_any_30d"], "the windows must be 7d, 14d"),
        (["count_any_14d", "count_any_7d"], "the windows must be 14d, 28d"),
        (["mean_x_7d", "mean_x_14d"], "the windows of one count or sum"),
        (["count_any_7d", "count_view_14d"], "the windows of one count or sum"),
        (["count_any_7d", "recency_any_s"], "'recency_any_s' has no window"),
    ],
)
def test_only_nested_windows_of_one_count_or_sum_can_be_smoothed(columns, words):
    with pytest.raises(DefinitionError, match=words):
        fit(matrix([[1.0, 2.0]], columns), [{"smooth": {"columns": columns}}])
