"""Funnel: how far people get on a way of several steps, within a time, and where they leave it."""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.feature import Feature
from features.behaviour.schema import MISSING, StateSchema
from features.behaviour.table import (
    CODE,
    COLUMN,
    DETAIL,
    OPTION,
    PART,
    STAT,
    STREAM,
    Family,
    Source,
    Table,
    User,
    asked,
)
from features.behaviour.words import Names, Words
from features.document import Duration
from features.instants import SECOND

STATS = ("funnel_furthest", "funnel_dropoff", "funnel_step_s", "funnel_since_incomplete_s")
FURTHEST, DROPOFF, STEP_S = 0, 1, 2
LEFT, LEFT_STEP, LEFT_AT, FIRST = range(4)
"""Places in a stream's tally: when the newest incomplete attempt began, the last step that it took, and when. For each
step there follow when the newest attempt that took it began, how long after the step before it took it, the event by
which the attempt looked at last did, and where the step's kind has the first member after the event looked at last,
and after the attempt looked at last."""
BEGAN, TOOK, NEXT, AFTER, NEAR, PER_STEP = range(6)


class Funnel(Declaration):
    """`{funnel: [product_viewed, product_added, order_completed], within: 1d, as: buying, windows: [7d, 30d]}`."""

    funnel: Annotated[Names, Field(min_length=2)]
    within: Duration
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`funnel_furthest_<name>_<window>`, `funnel_dropoff_...`, `funnel_step_2_s_...` and so on."""
        called = self.name or f"{self.funnel[0]}_{self.funnel[-1]}"
        yield self._feature(f"funnel_since_incomplete_{called}_s", STATS[-1], words, 0)
        for text, window in self.windows:
            for stat in STATS[:STEP_S]:
                yield self._feature(f"{stat}_{called}_{text}", stat, words, window)
            for step in range(2, len(self.funnel) + 1):
                name = f"funnel_step_{step}_s_{called}_{text}"
                yield self._feature(name, STATS[STEP_S], words, window, step - 1, f"{step} ({self.funnel[step - 1]})")

    def _feature(self, name: str, stat: str, words: Words, window: int, part: int = 0, said: str = "") -> Feature:
        steps = self.steps(self.funnel, words, least=2)
        among = ", ".join(self.funnel)
        return Feature(
            name, "funnel", stat, among, window=window, option=self.within, steps=steps, part=part, said=said
        )


@compiled_inside
def funnel(user: User, at: int, table: Table, out: Floats) -> None:
    """The windows ask when an attempt began."""
    for stream in range(len(table.sources)):
        tally = user.tally[place(stream)]
        _attempts(user, at, stream, table)
        for window in range(len(table.windows)):
            since = at - table.windows[place(window)] if table.windows[place(window)] else MISSING
            begin, end = asked(stream, window, table)
            for each in range(begin, end):
                out[place(table.features[place(each), COLUMN])] = _value(tally, at, since, each, table)


@compiled_inside
def _attempts(user: User, at: int, stream: int, table: Table) -> None:
    """From the newest attempt back, until every step that can be taken was, and an attempt was left incomplete."""
    tally, n = user.tally[place(stream)], table.sources[place(stream), CODE]
    tally[LEFT] = MISSING
    for step in range(n):
        cell, kind = place(FIRST + step * PER_STEP), place(_kind(step, stream, table))
        tally[cell + place(BEGAN)], tally[cell + place(NEXT)] = MISSING, user.n
        tally[cell + place(AFTER)] = tally[cell + place(NEAR)] = user.ends[kind]
    kind, taken = place(_kind(0, stream, table)), 0
    first, j = user.firsts[kind, place(user.firsts.shape[1] - 1)], user.ends[kind]
    while j > first and (taken < n or tally[LEFT] == MISSING):
        j -= 1
        taken = max(taken, _follow(user, at, user.members[place(j)], stream, table))
        if taken < n and tally[LEFT] != MISSING:
            j = _hopeful(user, first, j, taken, stream, table)


@compiled_inside
def _kind(step: int, stream: int, table: Table) -> int:
    return int(table.details[place(table.sources[place(stream), DETAIL] + step)])


@compiled_inside
def _follow(user: User, at: int, attempt: int, stream: int, table: Table) -> int:
    """How many steps an attempt took, each by the first event after the step before.

    Of attempts that wait for the same event the newest goes on: where the next attempt is as far before it, this one
    is over. Attempts come from the newest back.
    """
    tally, n = user.tally[place(stream)], table.sources[place(stream), CODE]
    within, began = table.sources[place(stream), OPTION], user.ts[place(attempt)]
    step, k, took, until = 0, attempt, 0, user.n
    while True:
        cell = place(FIRST + step * PER_STEP)
        until, tally[cell + place(NEXT)] = tally[cell + place(NEXT)], k
        if tally[cell + place(BEGAN)] == MISSING:
            tally[cell + place(BEGAN)], tally[cell + place(TOOK)] = began, took
        step += 1
        if step == n:
            return int(n)
        following = _after(user, k, tally, step, _kind(step, stream, table))
        if following > until or following == user.n or user.ts[place(following)] - began > within:
            break
        k, took = following, user.ts[place(following)] - user.ts[place(k)]
    now = user.ts[place(until)] - 1 if until < user.n else at
    if tally[LEFT] == MISSING and now - began >= within:
        tally[LEFT], tally[LEFT_STEP], tally[LEFT_AT] = began, step - 1, user.ts[place(k)]
    return step


@compiled_inside
def _after(user: User, k: int, tally: Ints, step: int, kind: int) -> int:
    """The first event of a step after event k, none of which is after the one looked for before; n without one."""
    cell = place(FIRST + step * PER_STEP + AFTER)
    j = tally[cell]
    while j > user.begins[place(kind)] and user.members[place(j - 1)] > k:
        j -= 1
    tally[cell] = j
    return int(user.members[place(j)]) if j < user.ends[place(kind)] else user.n


@compiled_inside
def _hopeful(user: User, first: int, j: int, step: int, stream: int, table: Table) -> int:
    """Behind the newest attempt before the j-th that has an event of a step in time after it; `first` without one.

    The others do not take the step, and keep none of those before from it: whatever they take comes after the event by
    which these have to.
    """
    tally, within, kind = user.tally[place(stream)], table.sources[place(stream), OPTION], _kind(step, stream, table)
    cell, begin, end = place(FIRST + step * PER_STEP + NEAR), user.begins[place(kind)], user.ends[place(kind)]
    last = tally[cell]
    while j > first:
        attempt = user.members[place(j - 1)]
        while last > begin and user.members[place(last - 1)] > attempt:
            last -= 1
        if last < end and user.ts[place(user.members[place(last)])] - user.ts[place(attempt)] <= within:
            break
        while j > first and (last == begin or user.members[place(j - 1)] >= user.members[place(last - 1)]):
            j -= 1
    tally[cell] = last
    return int(j)


@compiled_inside
def _value(tally: Ints, at: int, since: int, feature: int, table: Table) -> float:
    """A feature of the attempts that began after `since`."""
    stat, n = table.features[place(feature), STAT], table.sources[place(table.features[place(feature), STREAM]), CODE]
    if stat == FURTHEST:
        taken = 0
        while taken < n and tally[place(FIRST + taken * PER_STEP + BEGAN)] > since:
            taken += 1
        return float(taken)
    if stat == STEP_S:
        cell = place(FIRST + table.features[place(feature), PART] * PER_STEP)
        return tally[cell + place(TOOK)] / SECOND if tally[cell + place(BEGAN)] > since else np.nan
    if tally[LEFT] <= since:
        return np.nan
    return float(tally[LEFT_STEP] + 2) if stat == DROPOFF else (at - tally[LEFT_AT]) / SECOND


def _cells(source: Source) -> int:
    return FIRST + PER_STEP * len(source.kinds)


def _source(feature: Feature, _schema: StateSchema) -> Source:
    return Source(feature.steps, code=len(feature.steps), option=feature.option, joins=True)


FAMILY = Family("funnel", (Funnel,), STATS, _source, _cells)
