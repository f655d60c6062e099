"""Outliers: values beyond what is usual, capped; rows that hold them, left out of the fit."""

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from training.stages import Array
from training.step import Lesson, Step, present

FARTHEST = np.finfo(np.float64).max
"""A fence that nothing reaches."""


class Cap(Step):
    """`cap`: values beyond two quantiles of the training rows become those quantiles."""

    step: Literal["cap"] = "cap"
    low: float = Field(0.005, ge=0, le=1)
    high: float = Field(0.995, ge=0, le=1)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"`low` must be below `high`. Got {self.low:g} and {self.high:g}.")
        return self

    def learn(self, values: Array, names: tuple[str, ...]) -> Lesson:
        """The two quantiles of every column."""
        low, high = np.array([_quantiles(column, (self.low, self.high)) for column in values.T]).T
        return Lesson({"low": low, "high": high})


class Iqr(Step):
    """`iqr`: only rows within Tukey's fences, `k` interquartile ranges beyond the quartiles, are fitted on.

    A column whose quartiles are equal has no fences: otherwise whoever did anything at all would be an outlier.

    Attributes:
        k: 1.5 is Tukey's outlier, 3 his far-out one.
        served: What becomes of a value beyond the fences once the model is fitted: capped to them, or passed as it is.
    """

    step: Literal["iqr"] = "iqr"
    k: float = Field(1.5, gt=0)
    served: Literal["cap", "pass"] = "cap"

    def learn(self, values: Array, names: tuple[str, ...]) -> Lesson:
        """The fences, and the rows within them; a missing value is beyond none."""
        low, high = np.array([self._fences(column) for column in values.T]).T
        kept = ~((values < low) | (values > high)).any(axis=1)
        if self.served == "pass":
            low, high = np.full_like(low, -FARTHEST), np.full_like(high, FARTHEST)
        return Lesson({"low": low, "high": high}, kept=kept, told=f"fitted on {kept.mean():.1%} of the rows")

    def _fences(self, column: Array) -> tuple[float, float]:
        first, third = _quantiles(column, (0.25, 0.75))
        if first == third:
            return -FARTHEST, FARTHEST
        return first - self.k * (third - first), third + self.k * (third - first)


def _quantiles(column: Array, shares: tuple[float, float]) -> tuple[float, float]:
    seen = present(column)
    if not len(seen):
        return 0.0, 0.0
    low, high = np.quantile(seen, shares)
    return float(low), float(high)
