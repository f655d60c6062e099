"""Timing: when sessions start and how fast their actions follow; a session never crosses midnight UTC."""

import numpy as np
from numpy.typing import NDArray

from features.instants import DAY, MINUTE, SECOND
from features.simulate.people import People
from features.simulate.shop import Shop
from features.simulate.types import TYPES, hour_chances
from features.simulate.visits import Visits

PAUSE = 35 * MINUTE
"""Between two sessions of a person on one day at least: more than the usual gap that ends a session."""
LONGEST = 100 * MINUTE
LAST = DAY - 10 * SECOND
SHORTEST_STEP, LONGEST_STEP = SECOND // 2, 20 * MINUTE
MILLISECOND = SECOND // 1000


def place(shop: Shop, people: People, visits: Visits) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Instants of sessions and of actions.

    Returns:
        (starts, ts): per session and per action, microseconds UTC on whole milliseconds. A person's sessions are in
        order of time, and their actions too.
    """
    rng = shop.generator(3, people.stream)
    elapsed, duration = _elapsed(shop, rng, people, visits)
    starts = _apart(visits, _starts(rng, people, visits), duration) + shop.start + visits.day * DAY
    starts -= starts % MILLISECOND
    return starts, starts[visits.session] + elapsed


def _elapsed(
    shop: Shop, rng: np.random.Generator, people: People, visits: Visits
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    person, day = visits.person[visits.session], visits.day[visits.session]
    phase = np.zeros(len(day), np.int64) if shop.shift is None else (day >= shop.shift.day).astype(np.int64)
    pace = shop.paces[phase, people.kind[person]]
    steps = pace[:, 0] * SECOND * np.exp(rng.normal(size=len(pace)) * pace[:, 1])
    first = first_of_run(visits.session)
    steps = np.where(first, 0, np.clip(steps, SHORTEST_STEP, LONGEST_STEP))
    total = np.cumsum(steps)
    since = total - total[first][np.cumsum(first) - 1]
    duration = np.zeros(len(visits.person))
    np.maximum.at(duration, visits.session, since)
    shrink = np.minimum(1, LONGEST / np.maximum(duration, 1))
    elapsed = (since * shrink[visits.session]).astype(np.int64) // MILLISECOND * MILLISECOND
    return elapsed, (duration * shrink).astype(np.int64)


def _starts(rng: np.random.Generator, people: People, visits: Visits) -> NDArray[np.int64]:
    cumulative = np.cumsum([hour_chances(kind) for kind in TYPES], axis=1)[people.kind[visits.person]]
    hour = np.minimum((cumulative < rng.random(len(visits.person))[:, None]).sum(axis=1), 23)
    return np.asarray(((hour + rng.random(len(hour))) * 60 * MINUTE).astype(np.int64))


def _apart(visits: Visits, start: NDArray[np.int64], duration: NDArray[np.int64]) -> NDArray[np.int64]:
    same_day = ~first_of_run(visits.person + visits.day * (int(visits.person.max(initial=0)) + 1))
    group = np.cumsum(~same_day)
    start = start[np.lexsort((start, group))]
    rank = np.arange(len(start)) - np.flatnonzero(~same_day)[group - 1] if len(start) else start
    for each in range(1, int(rank.max(initial=0)) + 1):
        late = np.flatnonzero(rank == each)
        start[late] = np.maximum(start[late], start[late - 1] + duration[late - 1] + PAUSE)
    before = np.full(len(start), LAST)
    for each in range(int(rank.max(initial=0)), -1, -1):
        here = np.flatnonzero(rank == each)
        start[here] = np.maximum(0, np.minimum(start[here], before[here] - duration[here]))
        if each:
            before[here - 1] = start[here] - PAUSE
    return start


def first_of_run(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each value differs from the one before it."""
    return np.concatenate([np.ones(min(1, len(values)), np.bool_), values[1:] != values[:-1]])
