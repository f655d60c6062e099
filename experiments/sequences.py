"""Sequences: two or three events in a row, and how much more, or less, of the outcome follows who did them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log1p
from typing import Self

import numpy as np
from numpy.typing import NDArray

from experiments.inference import Estimate, Summary, fold, holm
from experiments.occurrences import Occurrences
from experiments.signals import FEWEST_OUTCOMES

LEAST_SHARE, LEAST_USERS = 0.01, 30
"""Users that a sequence needs to be compared."""
ALPHA = 0.05


@dataclass(frozen=True)
class Counts:
    """Sums over users, bucket by bucket.

    Attributes:
        users: How many there are.
        total: Of the outcome.
        squares: Of the outcome.
        of: Per sequence of places: (users who did it, sum of their outcomes, sum of the squares, who had any).
        positive: Users whose outcome is not 0.
    """

    users: int
    total: float
    squares: float
    positive: int
    of: Mapping[tuple[int, ...], tuple[float, ...]]

    @classmethod
    def of_bucket(cls, seen: Occurrences, outcome: Mapping[str, float]) -> Self:
        """Of the persons who have an outcome.

        Args:
            seen: Events before the outcome.
            outcome: By user.
        """
        y = np.array([outcome.get(user, np.nan) for user in seen.users], np.float64)
        own = seen.take(~np.isnan(y)[seen.person])
        there = y[~np.isnan(y)]
        found: dict[tuple[int, ...], tuple[float, ...]] = {}
        for n in (2, 3):
            found |= _grams(own, n, y)
        return cls(len(there), float(there.sum()), float((there**2).sum()), int((there != 0).sum()), found)

    def __add__(self, other: Self) -> Self:
        """Of the users of both."""
        none = (0.0,) * 4
        both = {
            key: tuple(a + b for a, b in zip(self.of.get(key, none), other.of.get(key, none), strict=True))
            for key in {**self.of, **other.of}
        }
        users, positive = self.users + other.users, self.positive + other.positive
        return type(self)(users, self.total + other.total, self.squares + other.squares, positive, both)


def _grams(seen: Occurrences, n: int, y: NDArray[np.float64]) -> dict[tuple[int, ...], tuple[float, ...]]:
    """Runs of n events of one session; the same event several times in a row is one."""
    first = seen.first_of_session
    turned = np.append(True, seen.event[1:] != seen.event[:-1])[: len(first)] | first
    turns, starts = seen.take(turned), first[turned]
    if len(turns) < n:
        return {}
    width = len(seen.names)
    whole = np.ones(len(turns) - n + 1, np.bool_)
    code = np.zeros(len(whole), np.int64)
    for step in range(n):
        end = len(turns) - n + 1 + step
        code = code * width + turns.event[step:end]
        whole &= ~starts[step:end] if step else True
    persons = turns.person[: len(whole)]
    both = np.unique(np.stack([code[whole], persons[whole]]), axis=1)
    codes, places = np.unique(both[0], return_inverse=True)
    mine = y[both[1]]
    sums = [np.bincount(places, weights) for weights in (np.ones(len(mine)), mine, mine**2, (mine != 0).astype(float))]
    keys = zip(*(codes // width**power % width for power in reversed(range(n))), strict=True)
    return {
        tuple(map(int, key)): tuple(map(float, row)) for key, row in zip(keys, zip(*sums, strict=True), strict=True)
    }


@dataclass(frozen=True)
class Trail:
    """A sequence against everybody who did not do it.

    Attributes:
        steps: Names of the events.
        share: Of the users.
        inside: Mean outcome of those who did it.
        lift: Relative to the others (0.5: half as much again), with its 95 % interval.
        adjusted: Its p after Holm's correction over all sequences compared.
    """

    steps: tuple[str, ...]
    share: float
    inside: float
    lift: Estimate
    adjusted: float

    @property
    def strength(self) -> float:
        """The lift on its logarithmic scale, in standard errors; below 0 where the outcome is less."""
        return log1p(self.lift.value) / self.lift.error if self.lift.error > 0 else 0.0

    @property
    def holds(self) -> bool:
        """After correction."""
        return self.adjusted < ALPHA

    def __str__(self) -> str:
        return " > ".join(self.steps)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {**vars(self), "steps": list(self.steps), "lift": vars(self.lift), "holds": self.holds}


def compared(counts: Counts, names: Sequence[str]) -> list[Trail]:
    """Every sequence of enough users, from what most surely goes with more of the outcome to what goes with less."""
    rows = []
    for key, (n, total, squares, positive) in counts.of.items():
        rest = counts.users - n
        enough = min(n, rest) >= max(LEAST_USERS, LEAST_SHARE * counts.users)
        if not enough or min(positive, counts.positive - positive) < FEWEST_OUTCOMES:
            continue
        arm = _summary(n, total, squares)
        found = fold(arm, _summary(rest, counts.total - total, counts.squares - squares))
        if found is not None:
            rows.append((key, n, arm.mean, found))
    adjusted = holm([found.p for *_, found in rows])
    made = [
        Trail(tuple(names[place] for place in key), n / counts.users, mean, found, p)
        for (key, n, mean, found), p in zip(rows, adjusted, strict=True)
    ]
    return sorted(made, key=lambda each: (-each.strength, len(each.steps)))


def _summary(n: float, total: float, squares: float) -> Summary:
    mean = total / n
    return Summary(int(n), mean, max(0.0, squares - n * mean * mean) / (n - 1))


def distinct(found: Sequence[Trail], most: int) -> list[Trail]:
    """The first so many of which no two have a step from one event to the next in common."""
    kept: list[Trail] = []
    for each in found:
        parts = set(pairwise(each.steps)) | {each.steps}
        if not any(set(pairwise(other.steps)) & parts for other in kept):
            kept.append(each)
    return kept[:most]
