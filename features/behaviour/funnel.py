"""Funnel: how far people get on a way of several steps, within a time, and where they leave it."""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.schema import MISSING
from features.behaviour.table import (
    CODE,
    COLUMN,
    OF_STREAM,
    OPTION,
    PART,
    STAT,
    STEP,
    STREAM,
    Family,
    Feature,
    Source,
    Table,
    User,
    asked,
    enters,
    of_steps,
)
from features.behaviour.words import Names, Words
from features.document import Duration
from features.instants import SECOND

STATS = ("funnel_furthest", "funnel_dropoff", "funnel_step_s", "funnel_since_incomplete_s")
FURTHEST, DROPOFF, STEP_S = 0, 1, 2
LEFT, LEFT_STEP, LEFT_AT, FIRST = range(4)
"""Places in a stream's tally: the newest incomplete attempt, the last step that it took, and when. For each step there
follow the newest attempt that took it, when, and how long after the step before. An attempt is the place of its first
event, -1 without one."""
ATTEMPT, TAKEN_AT, TOOK, PER_STEP = range(4)


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
    """One pass from the oldest event on; the windows ask when an attempt began.

    Attempts take steps in the order in which they began, so for each step only the newest that took it is kept: of
    those that wait for the same event it is the one that goes on.
    """
    for stream in range(len(table.sources)):
        tally = user.tally[place(stream)]
        tally[LEFT] = -1
        for step in range(table.sources[place(stream), CODE]):
            tally[place(FIRST + step * PER_STEP + ATTEMPT)] = -1
    for k in range(user.past, user.n):
        code = place(user.codes[place(k)])
        for each in range(table.places[code + place(1)] - 1, table.places[code] - 1, -1):
            if enters(user, k, each, table):
                stream, step = table.entries[place(each), OF_STREAM], table.entries[place(each), STEP]
                n, within = table.sources[place(stream), CODE], table.sources[place(stream), OPTION]
                _take(user.ts, k, step, n, within, user.tally[place(stream)])
    for stream in range(len(table.sources)):
        for step in range(table.sources[place(stream), CODE] - 1):
            _leave(user.ts, at, step, table.sources[place(stream), OPTION], user.tally[place(stream)])
        for window in range(len(table.windows)):
            since = at - table.windows[place(window)] if table.windows[place(window)] else MISSING
            begin, end = asked(stream, window, table)
            for each in range(begin, end):
                out[place(table.features[place(each), COLUMN])] = _value(user, at, since, each, table)


@compiled_inside
def _take(ts: Ints, k: int, step: int, n: int, within: int, tally: Ints) -> None:
    """Event k is one of n steps: it begins an attempt, or the one that waits for it goes on."""
    cell, attempt, took, now = place(FIRST + step * PER_STEP), k, 0, ts[place(k)]
    if step > 0:
        before = cell - place(PER_STEP)
        attempt, took = tally[before + place(ATTEMPT)], now - tally[before + place(TAKEN_AT)]
        if attempt < 0 or attempt == tally[cell + place(ATTEMPT)] or now - ts[place(attempt)] > within:
            return
    if step < n - 1:
        _leave(ts, now - 1, step, within, tally)
    tally[cell + place(ATTEMPT)], tally[cell + place(TAKEN_AT)], tally[cell + place(TOOK)] = attempt, now, took


@compiled_inside
def _leave(ts: Ints, now: int, step: int, within: int, tally: Ints) -> None:
    """Where the time of the attempt that waits after a step is over by `now`, it is incomplete."""
    cell = place(FIRST + step * PER_STEP)
    attempt = tally[cell + place(ATTEMPT)]
    waits = attempt > tally[LEFT] and attempt != tally[cell + place(PER_STEP + ATTEMPT)]
    if waits and now - ts[place(attempt)] >= within:
        tally[LEFT], tally[LEFT_STEP], tally[LEFT_AT] = attempt, step, tally[cell + place(TAKEN_AT)]


@compiled_inside
def _value(user: User, at: int, since: int, feature: int, table: Table) -> float:
    """A feature of the attempts that began after `since`."""
    tally, stream, stat = user.tally, table.features[feature, STREAM], table.features[feature, STAT]
    if stat == FURTHEST:
        taken = 0
        while taken < table.sources[stream, CODE] and _began(user, stream, FIRST + taken * PER_STEP, since):
            taken += 1
        return float(taken)
    if stat == STEP_S:
        step = FIRST + table.features[feature, PART] * PER_STEP
        return tally[stream, step + TOOK] / SECOND if _began(user, stream, step, since) else np.nan
    if not _began(user, stream, LEFT, since):
        return np.nan
    return float(tally[stream, LEFT_STEP] + 2) if stat == DROPOFF else (at - tally[stream, LEFT_AT]) / SECOND


@compiled_inside
def _began(user: User, stream: int, cell: int, since: int) -> bool:
    """Whether there is an attempt in a cell, and it began after `since`."""
    attempt = user.tally[stream, cell]
    return bool(attempt >= 0 and user.ts[attempt] > since)


def _cells(source: Source) -> int:
    return FIRST + PER_STEP * len(source.kinds)


FAMILY = Family("funnel", (Funnel,), STATS, of_steps, _cells)
