"""Recovery: how well the types can be told apart by who knows the planted chains and rhythms: the best there is."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.instants import DAY, HOUR, MINUTE, SECOND, to_datetime
from features.simulate.shop import Shop
from features.simulate.types import ACTIONS, END, LEVELS, NAMES, START, TYPES, hour_chances
from features.simulate.visits import first_of_run

GAP = 30 * MINUTE
"""Ends a session, as seen from outside."""
LEVEL_SHARES = (0.3, 0.35, 0.2, 0.15)
"""Of sessions: the level itself is not seen."""
UNLIKELY = 1e-4
"""For a move that a type never makes: two sessions across midnight may look like one."""


def type_posterior(shop: Shop, events: pl.DataFrame) -> pl.DataFrame:
    """The chance that each user is of each type, given what they did and when, under the true parameters.

    Args:
        shop: The shop that made the events; the parameters are its own.
        events: Columns user, event, ts (microseconds UTC), in any order; other events than `ACTIONS` are left out.

    Returns:
        Columns user, then one per type; rows sum to 1.
    """
    events = events.filter(pl.col("event").is_in(ACTIONS)).sort("user", "ts")
    places = {name: place for place, name in enumerate(ACTIONS)}
    action = events["event"].replace_strict(places, return_dtype=pl.Int64).to_numpy()
    user = events["user"].rle_id().to_numpy().astype(np.int64)
    ts = events["ts"].to_numpy()
    first = first_of_run(user) | (np.diff(ts, prepend=ts[:1]) > GAP)
    session = np.cumsum(first) - 1
    scores = _chains(shop, session, action, first, ts) + _rhythm(ts[first])
    total = np.zeros((int(user[-1]) + 1 if len(user) else 0, len(TYPES)))
    np.add.at(total, user[first], scores)
    np.add.at(total, user[~first], _pace(shop, ts, first))
    total += np.log([kind.share for kind in TYPES])
    chances = np.exp(total - total.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    return pl.DataFrame(
        {"user": events["user"].unique(maintain_order=True), **dict(zip(NAMES, chances.T, strict=True))}
    )


def most_likely(posterior: pl.DataFrame) -> pl.DataFrame:
    """Columns user and type: the likeliest of each row of a posterior."""
    best = posterior.select(NAMES).to_numpy().argmax(axis=1)
    return posterior.select("user", type=pl.Series(NAMES, dtype=pl.String).gather(best))


def _chains(
    shop: Shop, session: NDArray[np.int64], action: NDArray[np.int64], first: NDArray[np.bool_], ts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Log-likelihood of each session's moves under each type, the level unknown, shape (n_sessions, n_types)."""
    before = np.where(first, START, np.concatenate([[0], action[:-1]])[: len(action)])
    last = np.concatenate([first[1:], [True]])[: len(first)]
    phase = np.array([shop.phase(int(day)) for day in range(shop.days + 30)])[(ts - shop.start) // DAY]
    logs = np.log(np.maximum(shop.chains, UNLIKELY))
    n = int(session[-1]) + 1 if len(session) else 0
    likelihood = np.zeros((n, len(TYPES), LEVELS))
    for kind in range(len(TYPES)):
        for level in range(LEVELS):
            log = logs[:, kind, level]
            moves = log[phase, before, action] + np.where(last, log[phase, action, END], 0)
            likelihood[:, kind, level] = np.bincount(session, moves, n)
    likelihood += np.log(LEVEL_SHARES)
    top = likelihood.max(axis=2, initial=-np.inf)
    return np.asarray(top + np.log(np.exp(likelihood - top[:, :, None]).sum(axis=2)))


def _rhythm(starts: NDArray[np.int64]) -> NDArray[np.float64]:
    hours = np.log([hour_chances(kind) for kind in TYPES])[:, starts // HOUR % 24]
    monday = (starts // DAY + to_datetime(0).weekday()) % 7
    return np.asarray((hours + np.log([kind.weekdays for kind in TYPES])[:, monday]).T)


def _pace(shop: Shop, ts: NDArray[np.int64], first: NDArray[np.bool_]) -> NDArray[np.float64]:
    step = np.log(np.maximum(np.diff(ts, prepend=ts[:1])[~first] / SECOND, 0.25))[:, None]
    phase = np.array([shop.phase(int(day)) for day in range(shop.days + 30)])[(ts[~first] - shop.start) // DAY]
    median, spread = np.log(shop.paces[phase, :, 0]), shop.paces[phase, :, 1]
    return np.asarray(-0.5 * ((step - median) / spread) ** 2 - np.log(spread))
