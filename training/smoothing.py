"""Smoothing: the level of consecutive equal windows, read off nested ones, so that a request knows it too."""

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from features.errors import DefinitionError
from features.instants import format_duration, parse_duration
from training.stages import Array
from training.step import Lesson, Step

ADDITIVE = ("count_", "sum_")


class Smooth(Step):
    """`smooth`: one count or sum over windows of w, 2w, 3w ... becomes its smoothed amount per w.

    The differences of nested windows are consecutive windows of one length: the last week, the week before it, and so
    on. Their moving average, or their exponentially weighted one, is a level as of `at` that one request can compute:
    nothing of another row or of an earlier answer is needed.

    Attributes:
        columns: One feature's nested windows, ascending.
        method: `moving_average` over the newest `span` windows (default: all), or `exponential` with weight `alpha`
            for the newest, alpha (1 - alpha) for the one before it, and so on, divided by their sum.
    """

    step: Literal["smooth"] = "smooth"
    columns: tuple[str, ...] = Field(min_length=2)
    method: Literal["moving_average", "exponential"] = "moving_average"
    span: int | None = Field(None, ge=1)
    alpha: float = Field(0.5, gt=0, lt=1)

    raw: ClassVar[bool] = True

    @model_validator(mode="after")
    def _nested(self) -> Self:
        stems, windows = zip(*(_parts(name) for name in self.columns), strict=True)
        wanted = [windows[0] * (place + 1) for place in range(len(windows))]
        if len(set(stems)) > 1 or not stems[0].startswith(ADDITIVE):
            raise ValueError("`columns` are the windows of one count or sum, such as [count_any_7d, count_any_14d]")
        if list(windows) != wanted:
            text = ", ".join(format_duration(each) for each in wanted)
            raise ValueError(f"the windows must be {text}: equal steps, so that their differences are equal windows")
        if self.span is not None and self.span > len(windows):
            raise ValueError(f"`span` is at most {len(windows)}, the number of windows. Got {self.span}.")
        return self

    def learn(self, values: Array, names: tuple[str, ...]) -> Lesson:
        """The weights of the nested windows; one column, named by the shortest."""
        n = len(names)
        if self.method == "exponential":
            newest_first = self.alpha * (1 - self.alpha) ** np.arange(n)
        else:
            newest_first = (np.arange(n) < (self.span or n)).astype(np.float64)
        newest_first = newest_first / newest_first.sum()
        # Window j is nested[j] - nested[j - 1], so nested[j] carries its own weight less that of the next one.
        weights = (newest_first - np.append(newest_first[1:], 0.0))[:, None]
        return Lesson({"weights": weights, "bias": np.zeros(1)}, (f"smooth#{names[0]}",))


def _parts(name: str) -> tuple[str, int]:
    stem, _, window = name.rpartition("_")
    try:
        return stem, parse_duration(window)
    except DefinitionError:
        raise ValueError(f"{name!r} has no window, such as the 7d of count_any_7d") from None
