"""Parts: what a row is for: to learn from, to choose by, to judge on; or why it is none."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PARTS = ("train", "validation", "test")
"""A row's part is the place in this list."""
TRAIN, VALIDATION, TEST = range(3)

EMBARGO, INCOMPLETE = -1, -2
"""Rows that are left out and counted: their label would reach into the next part, or is not complete yet."""


class Candidates(NamedTuple):
    """Rows that there would be if everybody were in the population.

    Attributes:
        rows: Shape (n,), rows of the histories, repeated where a person has several.
        at: Shape (n,), microseconds UTC.
        parts: Shape (n,), places in PARTS, or EMBARGO, or INCOMPLETE.
    """

    rows: NDArray[np.int64]
    at: NDArray[np.int64]
    parts: NDArray[np.int8]

    def take(self, chosen: NDArray[np.bool_]) -> "Candidates":
        """These."""
        return Candidates(self.rows[chosen], self.at[chosen], self.parts[chosen])

    @classmethod
    def joined(cls, several: Sequence["Candidates"]) -> "Candidates":
        """One after the other."""
        none = cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8))
        rows, at, parts = zip(none, *several, strict=True)
        return cls(np.concatenate(rows), np.concatenate(at), np.concatenate(parts))
