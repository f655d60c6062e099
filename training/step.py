"""Step: what every declared part of a preparation is: options, and what it learns of training rows."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from features.document import Definition
from training.stages import Array, Learned

MOST_ROWS = 20_000
"""Rows that an expensive step learns from, spread evenly over those there are."""


@dataclass(frozen=True)
class Lesson:
    """What a step learned.

    Attributes:
        learned: What its stage needs: plain numbers.
        outputs: The columns that come out; None: those that came in, each changed by itself.
        kept: Shape (n_rows,): the training rows that what follows is fitted on; None: all.
        told: What a reader wants to know; empty for nothing.
    """

    learned: Learned
    outputs: tuple[str, ...] | None = None
    kept: NDArray[np.bool_] | None = None
    told: str = ""


class Step(Definition):
    """A declared step.

    Attributes:
        columns: What it takes; `all` there are.
    """

    columns: Literal["all"] | tuple[str, ...] = "all"

    raw: ClassVar[bool] = False
    """Whether it reads numbers as the features give them: only others that do may stand before it."""
    complete: ClassVar[bool] = False
    """Whether it needs every value: an `impute` must stand before it."""
    equal: ClassVar[bool] = False
    """Whether it needs columns of one size: a scaling step must stand before it."""

    def learn(self, values: Array, names: tuple[str, ...]) -> Lesson:
        """From training rows of shape (n_rows, n_columns)."""
        raise NotImplementedError


def present(column: Array) -> Array:
    """The values that are there."""
    return column[~np.isnan(column)]


def some(values: Array) -> Array:
    """At most MOST_ROWS of the rows."""
    if len(values) <= MOST_ROWS:
        return values
    return values[np.linspace(0, len(values) - 1, MOST_ROWS).astype(np.int64)]
