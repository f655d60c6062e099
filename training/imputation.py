"""Imputation: what stands for a missing value."""

import warnings
from typing import Literal

import numpy as np
from pydantic import Field

from training.stages import Array
from training.step import Lesson, Step, present, some

NEVER = "recency_"
"""A missing recency means "never": longer ago than anybody's, not as long ago as the middle one's."""


class Impute(Step):
    """`impute`: missing values become the column's median or mode, or what the row's other values suggest.

    Attributes:
        method: `iterative` regresses each column on `nearest` others, round after round (van Buuren and
            Groothuis-Oudshoorn 2011; scikit-learn's IterativeImputer over Bayesian ridge regression).
        rounds: Of the iterative method.
        nearest: Columns that a column is regressed on, drawn by their correlation with it.
        seed: Of that draw.
    """

    step: Literal["impute"] = "impute"
    method: Literal["median", "mode", "iterative"] = "median"
    rounds: int = Field(5, ge=1, le=50)
    nearest: int = Field(10, ge=1, le=100)
    seed: int = Field(0, ge=0)

    def learn(self, values: Array, names: tuple[str, ...]) -> Lesson:
        """The fills, and for `iterative` the regressions in the order of their use."""
        fill = np.array([self._fill(present(column), name) for column, name in zip(values.T, names, strict=True)])
        chain = self._chain(some(values), names, fill) if self.method == "iterative" and len(names) > 1 else {}
        return Lesson({"fill": fill, **chain})

    def _fill(self, seen: Array, name: str) -> float:
        if not len(seen):
            return 0.0
        if name.startswith(NEVER):
            return float(seen.max())
        if self.method == "mode":
            found, counts = np.unique(seen, return_counts=True)
            return float(found[counts.argmax()])
        return float(np.median(seen))

    def _chain(self, values: Array, names: tuple[str, ...], fill: Array) -> dict[str, Array]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - makes the next import possible
        from sklearn.impute import IterativeImputer

        never = np.array([name.startswith(NEVER) for name in names])
        values = np.where(np.isnan(values) & (never | np.isnan(values).all(axis=0)), fill, values)
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        imputer = IterativeImputer(
            max_iter=self.rounds,
            n_nearest_features=min(self.nearest, len(names) - 1),
            initial_strategy="median",
            min_value=low,
            max_value=np.maximum(high, np.nextafter(low, np.inf)),  # it refuses a constant column
            random_state=self.seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            imputer.fit(values)
        chain = [each for each in imputer.imputation_sequence_ if not never[each.feat_idx]]
        return {
            "column": np.array([each.feat_idx for each in chain], np.float64),
            "others": np.array([each.neighbor_feat_idx for each in chain], np.float64),
            "weights": np.array([each.estimator.coef_ for each in chain], np.float64),
            "bias": np.array([each.estimator.intercept_ for each in chain], np.float64),
            "low": low,
            "high": high,
        }
