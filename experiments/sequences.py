"""Sequences: two or three events in a row, and how much more, or less, of the outcome follows who did them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log1p

import numpy as np
import polars as pl

from experiments.inference import Estimate, Summary, fold, holm
from experiments.occurrences import Occurrences
from experiments.plain import Plain
from experiments.signals import FEWEST_OUTCOMES

LEAST_SHARE, LEAST_USERS = 0.01, 30
"""Users that a sequence needs to be compared."""
ALPHA = 0.05


STEPS = ("first", "second", "third")


def counts(seen: Occurrences, outcome: Mapping[str, float]) -> pl.DataFrame:
    """Sums over the persons who have an outcome, a row a sequence; `joined` adds those of several buckets up.

    Two or three events in a row of one session are a sequence; the same event several times in a row is one.

    Args:
        seen: Events before the outcome.
        outcome: By user.

    Returns:
        Columns first, second, third (places in `seen.names`, null behind the last; all null: everybody), users who did
        it, sum of their outcomes, sum of the squares, and how many had any.
    """
    y = pl.Series("y", [outcome.get(user) for user in seen.users], pl.Float64)
    events = {"person": seen.person, "session": np.cumsum(seen.first_of_session), "first": seen.event}
    turned = pl.col("first").ne_missing(pl.col("first").shift()) | (pl.col("session") != pl.col("session").shift())
    following = [pl.col("first").shift(-step).over("session").alias(STEPS[step]) for step in (1, 2)]
    threes = pl.DataFrame(events).filter(turned).with_columns(following).drop("session")
    twos = threes.with_columns(third=pl.lit(None, pl.Int64))
    everybody = pl.DataFrame({"person": np.arange(len(y))}).with_columns(pl.lit(None, pl.Int64).alias(s) for s in STEPS)
    found = pl.concat([everybody, twos.drop_nulls("second"), threes.drop_nulls("third")]).unique()
    told = found.with_columns(y.gather(found["person"])).drop_nulls("y")
    sums = {"users": pl.len(), "total": pl.sum("y"), "squares": (pl.col("y") ** 2).sum()}
    return told.group_by(STEPS).agg(**sums, positive=(pl.col("y") != 0).sum())


def joined(buckets: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The sums of all buckets."""
    return pl.concat(buckets).group_by(STEPS).sum()


@dataclass(frozen=True)
class Trail(Plain):
    """A sequence against everybody who did not do it.

    Attributes:
        steps: Names of the events.
        share: Of the users.
        inside: Mean outcome of those who did it.
        lift: Relative to the others (0.5: half as much again), with its 95 % interval.
        adjusted: Its p after Holm's correction over all sequences compared.
    """

    MORE = ("holds",)

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


def compared(sums: pl.DataFrame, names: Sequence[str]) -> list[Trail]:
    """Every sequence of enough users, from what most surely goes with more of the outcome to what goes with less."""
    rows = sums.sort(STEPS, nulls_last=False).rows()
    if not rows:
        return []
    *_, users, total, squares, positive = rows[0]  # of everybody
    tested = []
    for *steps, n, mine, squared, some in rows[1:]:
        enough = min(n, users - n) >= max(LEAST_USERS, LEAST_SHARE * users)
        if not enough or min(some, positive - some) < FEWEST_OUTCOMES:
            continue
        arm = Summary.of_sums(n, mine, squared)
        found = fold(arm, Summary.of_sums(users - n, total - mine, squares - squared))
        if found is not None:
            tested.append((tuple(names[step] for step in steps if step is not None), n / users, arm.mean, found))
    adjusted = holm([found.p for *_, found in tested])
    made = [Trail(*each, p) for each, p in zip(tested, adjusted, strict=True)]
    return sorted(made, key=lambda each: (-each.strength, len(each.steps)))


def distinct(found: Sequence[Trail]) -> list[Trail]:
    """Those with no step from one event to the next in common with one before."""
    kept: list[Trail] = []
    for each in found:
        parts = set(pairwise(each.steps)) | {each.steps}
        if not any(set(pairwise(other.steps)) & parts for other in kept):
            kept.append(each)
    return kept
