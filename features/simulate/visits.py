"""Visits: the process itself, day by day: who comes when, what they do in a session and how fast, how interest moves.

On a day a person makes a Poisson number of sessions; each runs the chain of their type at their level of that morning.
Overnight the level moves by the best that happened: an order, something in the cart, a visit, or nothing. So the future
depends on the past through the level alone, which makes the chance of an order within days exact (`propensity`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.instants import DAY, MINUTE, SECOND
from features.simulate.people import People
from features.simulate.shop import Shop
from features.simulate.types import ACTIONS, END, LEVELS, MAX_STEPS, START, TYPES, hour_chances

ORDERED, CARTED, VISITED, IDLE = range(4)
"""The best of a day."""

MOVES = np.array(
    [
        [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]],
        [[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]],
        [[0.7, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0.1, 0.9]],
        [[1, 0, 0, 0], [0.05, 0.95, 0, 0], [0, 0.06, 0.94, 0], [0, 0, 0.08, 0.92]],
    ]
)
"""Chances of the next day's level, by (best of the day, level)."""

_ORDER, _ADD = ACTIONS.index("order_completed"), ACTIONS.index("product_added")


@dataclass(frozen=True)
class Visits:
    """Everything that a chunk of people did.

    Attributes:
        person: Row of the people, per session.
        day: Per session.
        level: Of interest on the morning of the session.
        session: Per action, the session's place; actions are in order of (session, step).
        action: Place in ACTIONS.
        levels: Shape (days + 1, n people): level on each morning, the last one after the last day; -1 before arrival.
    """

    person: NDArray[np.int64]
    day: NDArray[np.int64]
    level: NDArray[np.int64]
    session: NDArray[np.int64]
    action: NDArray[np.int64]
    levels: NDArray[np.int8]


def simulate_visits(shop: Shop, people: People, *, days: range | None = None) -> Visits:
    """All sessions of a chunk of people over the simulated days, or over others."""
    days = range(shop.days) if days is None else days
    rng = shop.generator(2, people.stream)
    levels = np.full((len(days) + 1, len(people)), -1, np.int8)
    level = people.level.copy()
    sessions, actions, n_sessions = [], [], 0
    for place, day in enumerate(days):
        here = people.arrival <= day
        levels[place] = np.where(here, level, -1)
        rate = people.rate * shop.traffic(day)[people.kind, level]
        counts = np.where(here, rng.poisson(rate) + (people.arrival == day), 0)
        person = np.repeat(np.arange(len(people)), counts)
        session, action = run_sessions(shop, rng, day, people.kind[person], level[person])
        best = _best(len(people), person, session, action)
        sessions.append((person, np.full(len(person), day), level[person]))
        actions.append((session + n_sessions, action))
        n_sessions += len(person)
        level = np.where(here, next_levels(rng, best, level), level)
    levels[-1] = np.where(people.arrival < days.stop, level, -1)
    person, on, of = (np.concatenate(each) for each in zip(*sessions, strict=True))
    session, action = (np.concatenate(each) for each in zip(*actions, strict=True))
    return Visits(person, on, of, session, action, levels)


def run_sessions(
    shop: Shop, rng: np.random.Generator, day: int, kind: NDArray[np.int64], level: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The actions of one session per row: (row, action), in order of (row, step)."""
    cumulative = np.cumsum(shop.chains[shop.phase(day)], axis=-1).reshape(-1, START + 1, END + 1)
    chain = kind * LEVELS + level
    alive, at = np.arange(len(kind)), np.full(len(kind), START)
    rows, taken = [], []
    for _ in range(MAX_STEPS):
        draw = rng.random(len(alive))
        at = np.minimum((cumulative[chain[alive], at] < draw[:, None]).sum(axis=1), END)
        on = at != END
        alive, at = alive[on], at[on]
        if not len(alive):
            break
        rows.append(alive)
        taken.append(at)
    if not rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    row, action = np.concatenate(rows), np.concatenate(taken)
    order = np.argsort(row, kind="stable")
    return row[order], action[order]


def _best(
    n: int, person: NDArray[np.int64], session: NDArray[np.int64], action: NDArray[np.int64]
) -> NDArray[np.int64]:
    best = np.full(n, IDLE)
    best[person] = VISITED
    best[person[session[action == _ADD]]] = CARTED
    best[person[session[action == _ORDER]]] = ORDERED
    return best


def next_levels(rng: np.random.Generator, best: NDArray[np.int64], level: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tomorrow's level of interest, per person."""
    cumulative = np.cumsum(MOVES, axis=-1)[best, level]
    return np.asarray(np.minimum((cumulative < rng.random(len(level))[:, None]).sum(axis=1), LEVELS - 1))


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
