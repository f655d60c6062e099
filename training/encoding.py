"""Encoding: columns whose numbers are names: categories by index, ids."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from training.stages import MISSING, OTHER, VALUE, Array
from training.step import Lesson, Step, present

WORDS = {MISSING: "missing", OTHER: "other"}


class OneHot(Step):
    """`one_hot`: a column of category indices becomes a column of 0 and 1 per value seen in training.

    Missing has a column of its own where training saw it; so have all values beyond the `most` frequent ones, with
    which an unknown value is counted when served. Where nothing of the kind was seen, the row is 0 everywhere.
    """

    step: Literal["one_hot"] = "one_hot"
    columns: tuple[str, ...] = Field(min_length=1)
    most: int = Field(20, ge=1, le=1000)

    raw: ClassVar[bool] = True

    def learn(self, values: Array, names: tuple[str, ...]) -> Lesson:
        """Per column that comes out (`<column>=<value>`, `=other`, `=missing`): its place, its kind, its value."""
        rows = [(place, *each) for place, column in enumerate(values.T) for each in self._kinds(column)]
        outputs = tuple(f"{names[place]}={WORDS.get(kind, f'{value:g}')}" for place, kind, value in rows)
        place, kind, value = np.array(rows, np.float64).T
        return Lesson({"column": place, "kind": kind, "value": value}, outputs)

    def _kinds(self, column: Array) -> list[tuple[int, float]]:
        found, counts = np.unique(present(column), return_counts=True)
        kept = np.sort(found[np.argsort(-counts, kind="stable")[: self.most]])
        kinds = [(VALUE, float(value)) for value in kept]
        kinds += [(OTHER, 0.0)] if len(found) > len(kept) else []
        return [*kinds, (MISSING, 0.0)] if np.isnan(column).any() else kinds


class Hash(Step):
    """`hash`: a column of ids becomes `n` columns, of which the id's hash chooses one and its sign.

    Nothing is learned, so ids that training never saw are told apart as well (Weinberger et al. 2009). The hash is
    MurmurHash3 of the id as a 64-bit integer, as in scikit-learn's FeatureHasher; missing is 0 everywhere.
    """

    step: Literal["hash"] = "hash"
    columns: tuple[str, ...] = Field(min_length=1)
    n: int = Field(8, ge=2, le=1024)

    raw: ClassVar[bool] = True

    def learn(self, values: Array, names: tuple[str, ...]) -> Lesson:
        """How many columns; they are called `<column>#<place>`."""
        outputs = tuple(f"{name}#{place}" for name in names for place in range(self.n))
        return Lesson({"n": np.array([float(self.n)])}, outputs)
