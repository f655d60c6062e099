"""Journeys: what many persons did, in sums that add up bucket by bucket: reach, hours, transitions, funnel, returns."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.occurrences import Occurrences
from features.instants import DAY

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PERIODS = 13
"""Periods of retention that are looked at."""
HOURS = 168
MOST_POINTS = 200_000
MOST_STEPS = 6
"""Of a proposed funnel, the goal included."""
BACK, FEWEST = 0.9, 30
"""Share of those who come back that tells active from dormant, and buyers that must still be watched for the curve."""


@dataclass(frozen=True)
class Asked:
    """What is asked of the journeys.

    Attributes:
        names: Of the events, in the order of their places.
        first: First `ts` of the log.
        last: Last `ts` of the log.
        goal: The event that is a purchase; None: there is none.
        steps: The funnel's events, in order.
        place: Two properties that are where on a page; empty for none.
    """

    names: tuple[str, ...]
    first: int
    last: int
    goal: str | None = None
    steps: tuple[str, ...] = ()
    place: tuple[str, ...] = ()

    @property
    def period(self) -> int:
        """Of retention: a week, or 30 days where the log is long; microseconds."""
        return 7 * DAY if self.last - self.first <= 26 * 7 * DAY else 30 * DAY

    @property
    def n_cohorts(self) -> int:
        """Periods that the log touches."""
        return (self.last - self.first) // self.period + 1


@dataclass(frozen=True)
class Journeys:
    """Sums over persons.

    Attributes:
        persons: How many.
        events: Shape (n_names,).
        reach: Shape (n_names,): persons who did it.
        hours: Shape (n_names, 168): events by local hour since Monday.
        transitions: Shape (n_names + 1, n_names + 1): from event to next event of the same session; the last row is the
            session's begin, the last column its end.
        passed: Shape (n_steps,): persons who came as far as each step of the funnel, in order.
        waits: Per step but the first, hours since the one before.
        returns: Days between a purchase and the next one; purchases within half an hour are one.
        open: Days since the last purchase at the end of the log.
        due: Shape (n_cohorts, PERIODS): persons whose period is over, by when they first came.
        active: Shape (n_cohorts, PERIODS): those of them who did something in it.
        points: Shape (n, 2), at most MOST_POINTS: where on a page.
    """

    persons: int
    events: Ints
    reach: Ints
    hours: Ints
    transitions: Ints
    passed: Ints
    waits: tuple[Floats, ...]
    returns: Floats
    open: Floats
    due: Ints
    active: Ints
    points: Floats

    @classmethod
    def of(cls, seen: Occurrences, asked: Asked) -> Self:
        """Of everything that these persons did."""
        n = len(asked.names)
        passed, waits = _passed(seen, [asked.names.index(step) for step in asked.steps])
        returns, still = _returns(seen, asked)
        due, active = _retention(seen, asked)
        return cls(
            persons=len(seen.users),
            events=np.bincount(seen.event, minlength=n),
            reach=np.bincount(np.unique(seen.person * n + seen.event) % n, minlength=n),
            hours=np.bincount(seen.event * HOURS + seen.hour_of_week, minlength=n * HOURS).reshape(n, HOURS),
            transitions=_transitions(seen, n),
            passed=passed,
            waits=waits,
            returns=returns,
            open=still,
            due=due,
            active=active,
            points=_points(seen, asked),
        )

    def __add__(self, other: Self) -> Self:
        """Of the persons of both."""
        sums: dict[str, Any] = {}
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if each.name == "points":
                sums[each.name] = np.concatenate([mine, theirs])[:MOST_POINTS]
            elif each.name in ("returns", "open"):
                sums[each.name] = np.concatenate([mine, theirs])
            elif each.name == "waits":
                sums[each.name] = tuple(np.concatenate(pair) for pair in zip(mine, theirs, strict=True))
            else:
                sums[each.name] = mine + theirs
        return type(self)(**sums)


def _transitions(seen: Occurrences, n: int) -> Ints:
    first = seen.first_of_session
    came = np.where(first, n, np.roll(seen.event, 1))
    counts = np.bincount(came * (n + 1) + seen.event, minlength=(n + 1) ** 2).reshape(n + 1, n + 1)
    last = np.roll(first, -1)
    counts[:, n] = np.bincount(seen.event[last], minlength=n + 1)
    return counts


def _passed(seen: Occurrences, steps: Sequence[int]) -> tuple[Ints, tuple[Floats, ...]]:
    """How far everybody came, each step at its first chance behind the one before."""
    reached = np.full(len(seen.users), -1)
    passed: list[int] = []
    waits: list[Floats] = []
    for step in steps:
        able = np.flatnonzero((seen.event == step) & (np.arange(len(seen)) > reached[seen.person]))
        who, places = np.unique(seen.person[able], return_index=True)
        now = able[places]
        if passed:
            waits.append((seen.ts[now] - seen.ts[reached[who]]) / (DAY / 24))
        reached = np.full(len(seen.users), len(seen))
        reached[who] = now
        passed.append(len(who))
    return np.array(passed, np.int64), tuple(waits)


def _returns(seen: Occurrences, asked: Asked) -> tuple[Floats, Floats]:
    if asked.goal is None:
        return np.empty(0), np.empty(0)
    bought = seen.take(seen.event == asked.names.index(asked.goal))
    bought = bought.take(bought.first_of_session)
    same = bought.person[1:] == bought.person[:-1]
    last = np.append(~same, True)[: len(bought)]
    return np.diff(bought.ts)[same] / DAY, (asked.last - bought.ts[last]) / DAY


def _retention(seen: Occurrences, asked: Asked) -> tuple[Ints, Ints]:
    shape, width = (asked.n_cohorts, PERIODS), asked.period
    who, places = np.unique(seen.person, return_index=True)
    began = np.zeros(len(seen.users), np.int64)
    began[who] = seen.ts[places]
    cohort = (began - asked.first) // width
    over = (asked.last - began) // width  # whole periods that each person has had
    due = np.zeros(shape, np.int64)
    for period in range(PERIODS):
        due[:, period] = np.bincount(cohort[who[over[who] > period]], minlength=shape[0])
    age = (seen.ts - began[seen.person]) // width
    counts = (age < PERIODS) & (age < over[seen.person])
    both = np.unique(seen.person[counts] * PERIODS + age[counts])
    cells = cohort[both // PERIODS] * PERIODS + both % PERIODS
    return due, np.bincount(cells, minlength=shape[0] * PERIODS).reshape(shape)


def _points(seen: Occurrences, asked: Asked) -> Floats:
    if not asked.place:
        return np.empty((0, 2))
    points = np.column_stack([seen.values[name] for name in asked.place])
    return points[~np.isnan(points).any(axis=1)]


def propose_steps(seen: Occurrences, goal: str) -> tuple[str, ...]:
    """A funnel to `goal`: what comes before it in most of the sessions that reach it, in the order in which it comes.

    Args:
        seen: Some persons' events.
        goal: The last step.
    """
    names, target = seen.names, seen.names.index(goal)
    columns = {"person": seen.person, "session": np.cumsum(seen.first_of_session), "event": seen.event}
    events = pl.DataFrame(columns).with_columns(place=pl.int_range(pl.len()).over("session"))
    reach = dict(events.group_by("event").agg(pl.n_unique("person")).iter_rows())
    ends = events.filter(pl.col("event") == target).group_by("session").agg(end=pl.min("place"))
    before = events.join(ends, on="session").filter(pl.col("place") < pl.col("end"))
    depth = before.group_by("session", "event").agg(pl.min("place") / pl.first("end"))
    led = depth.group_by("event").agg(pl.len(), pl.mean("place")).filter(pl.col("len") >= 0.5 * ends.height)
    steps: list[int] = []
    for event in led.sort("place", "event")["event"].to_list():
        if not steps or reach[event] < reach[steps[-1]]:
            steps.append(event)
    while len(steps) >= MOST_STEPS:  # the step that fewest are lost at says least
        lost = [1 - reach[b] / reach[a] for a, b in pairwise([*steps, target])]
        del steps[int(np.argmin(lost[:-1])) + 1]
    return (*(names[step] for step in steps), goal)


@dataclass(frozen=True)
class Cut:
    """Where active ends and dormant begins.

    Attributes:
        days: Whole days since the last purchase.
        share: Of those who come back at all within `horizon` days, how many have by then.
        horizon: Days that the log can answer.
        curve: Shape (n, 2): days, and the share of all buyers who have come back by then (Kaplan and Meier).
    """

    days: int
    share: float
    horizon: float
    curve: Floats

    @property
    def rising(self) -> bool:
        """Whether the curve still rises in the last quarter of its days by a tenth of itself or more."""
        late = self.curve[self.curve[:, 0] <= 0.75 * self.horizon, 1]
        return not len(late) or bool(late[-1] < 0.9 * self.curve[-1, 1])


def dormant(returns: Floats, still: Floats) -> Cut | None:
    """The day by which nine in ten of those who come back have come back.

    Buyers who have not come back yet count as long as they were watched (Kaplan and Meier 1958); leaving them out would
    make every interval look short.

    Args:
        returns: Days until a purchase followed.
        still: Days without one, up to the end of the log.

    Returns:
        None with fewer than FEWEST returns.
    """
    if len(returns) < FEWEST:
        return None
    days, counts = np.unique(np.ceil(returns), return_counts=True)
    ends = np.sort(np.concatenate([returns, still]))
    at_risk = len(ends) - np.searchsorted(ends, days - 1, side="right")
    kept = at_risk >= FEWEST
    days, counts, at_risk = days[kept], counts[kept], at_risk[kept]
    back = 1 - np.cumprod(1 - counts / at_risk)
    place = int(np.searchsorted(back, BACK * back[-1]))
    curve = np.column_stack([days, back])
    return Cut(int(days[place]), float(back[place] / back[-1]), float(days[-1]), curve)
