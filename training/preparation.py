"""Preparation: everything that is learned from data before a model sees it; fitted once, then frozen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.matrix import FeatureMatrix
from features.errors import BundleError, StudyError, nearest

Array = NDArray[np.float64]
CAPS = (0.005, 0.995)
"""Quantiles of the training rows that `cap` clips to."""


def _impute_fit(values: Array, names: tuple[str, ...]) -> dict[str, Array]:
    with np.errstate(all="ignore"):
        present = ~np.isnan(values)
        fills = np.array(
            [_fill(column[seen], name) for column, seen, name in zip(values.T, present.T, names, strict=True)]
        )
    return {"fill": fills}


def _fill(column: Array, name: str) -> float:
    if not len(column):
        return 0.0
    # A missing recency means "never": longer ago than anybody's, not as long ago as the middle one's.
    return float(column.max() if name.startswith("recency_") else np.median(column))


def _impute(values: Array, fitted: Mapping[str, Array]) -> Array:
    return np.where(np.isnan(values), fitted["fill"], values)


def _cap_fit(values: Array, names: tuple[str, ...]) -> dict[str, Array]:
    low, high = (np.array([_quantile(column, share) for column in values.T]) for share in CAPS)
    return {"low": low, "high": high}


def _quantile(column: Array, share: float) -> float:
    column = column[~np.isnan(column)]
    return float(np.quantile(column, share)) if len(column) else 0.0


def _cap(values: Array, fitted: Mapping[str, Array]) -> Array:
    return np.clip(values, fitted["low"], fitted["high"])


def _log_fit(values: Array, names: tuple[str, ...]) -> dict[str, Array]:
    return {}


def _log(values: Array, fitted: Mapping[str, Array]) -> Array:
    return np.copysign(np.log1p(np.abs(values)), values)


def _standardise_fit(values: Array, names: tuple[str, ...]) -> dict[str, Array]:
    seen = [column[~np.isnan(column)] for column in values.T]
    mean = np.array([column.mean() if len(column) else 0.0 for column in seen])
    spread = np.array([column.std() if len(column) else 0.0 for column in seen])
    return {"mean": mean, "sd": np.where(spread > 0, spread, 1.0)}


def _standardise(values: Array, fitted: Mapping[str, Array]) -> Array:
    return (values - fitted["mean"]) / fitted["sd"]


STEPS: Mapping[str, tuple[Callable[[Array, tuple[str, ...]], dict[str, Array]], Callable[..., Array], str]] = {
    "impute": (_impute_fit, _impute, "missing becomes the median; a missing recency becomes the longest one seen"),
    "cap": (_cap_fit, _cap, "values beyond the 0.5 and 99.5 per cent quantiles become those quantiles"),
    "log": (_log_fit, _log, "sign(x) log(1 + |x|)"),
    "standardise": (_standardise_fit, _standardise, "mean 0 and standard deviation 1 on the training rows"),
}
"""Name: (what it learns, what it does, its meaning). A new step is two functions and a line here."""


@dataclass(frozen=True)
class Preparation:
    """Fitted steps over chosen columns; plain numbers that fit in JSON.

    Attributes:
        names: The columns it takes, in order.
        steps: Each a step's name and what it learned: arrays of shape (n_features,).
    """

    names: tuple[str, ...]
    steps: tuple[tuple[str, Mapping[str, Array]], ...] = ()

    @classmethod
    def fit(cls, matrix: FeatureMatrix, steps: Sequence[str], *, names: Sequence[str] | None = None) -> Self:
        """Learn the steps, each on what the ones before it give.

        Args:
            matrix: Training rows only.
            steps: Names among `STEPS`.
            names: Columns to keep (default: all).

        Raises:
            StudyError: an unknown step or feature, or no rows.
        """
        chosen = tuple(names) if names is not None else matrix.names
        _check(steps, chosen, matrix)
        values, fitted = matrix.select(chosen).values, []
        for step in steps:
            learn, apply, _ = STEPS[step]
            learned = learn(values, chosen)
            values = apply(values, learned)
            fitted.append((step, learned))
        return cls(chosen, tuple(fitted))

    def transform(self, matrix: FeatureMatrix) -> Array:
        """Prepared values, shape (n_rows, len(names)), float64; each row depends on itself alone."""
        return self.apply(matrix.select(self.names).values)

    def apply(self, values: Array) -> Array:
        """The same on bare values whose columns are `names`."""
        for step, learned in self.steps:
            values = STEPS[step][1](values, learned)
        return values

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        steps = [
            {"step": step, **{key: array.tolist() for key, array in learned.items()}} for step, learned in self.steps
        ]
        return {"names": list(self.names), "steps": steps}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The preparation that `to_dict` described.

        Raises:
            BundleError: it names a step that does not exist, or its numbers do not fit its columns.
        """
        names, steps = tuple(data["names"]), []
        for each in data["steps"]:
            learned = {key: np.array(value, np.float64) for key, value in each.items() if key != "step"}
            if each["step"] not in STEPS or any(array.shape != (len(names),) for array in learned.values()):
                raise BundleError(f"the preparation step {each['step']!r} cannot be read.")
            steps.append((str(each["step"]), learned))
        return cls(names, tuple(steps))


def _check(steps: Sequence[str], names: tuple[str, ...], matrix: FeatureMatrix) -> None:
    for step in steps:
        if step not in STEPS:
            raise StudyError(f"unknown preparation step {step!r}. {nearest(step, STEPS)}")
    for name in names:
        if name not in matrix.names:
            raise StudyError(f"unknown feature {name!r}. {nearest(name, matrix.names)}")
    if not len(matrix):
        raise StudyError("a preparation cannot be fitted on no rows.")
