"""Messages: what the shop's tracking sends about a chunk of people, as columns of the canonical names."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.instants import DAY, HOUR
from features.simulate.people import AGENTS, COUNTRIES, JOINS, KNOWN, NEVER, People
from features.simulate.properties import fill_baskets, property_columns, text
from features.simulate.shop import Shop
from features.simulate.types import ACTIONS
from features.simulate.visits import MILLISECOND, Visits, first_of_run, place

SOURCES, FROM = ("search", "mail", "social"), (0.2, 0.1, 0.05)
"""Where sessions come from, and which share of them does; the others say nothing."""
CAMPAIGNS = ("brand", "gifts", "newsletter", "reminder", "season", "winback")
"""Two of each source."""
REFUNDED = 0.04
LATENCY_MS = (60, 1500)
IDENTIFY_AFTER, ALIAS_AFTER = 250 * MILLISECOND, 300 * MILLISECOND  # of the session's start; no action is that quick


@dataclass(frozen=True)
class SignIns:
    """Where people become known: per person a place among the sessions, or -1.

    Attributes:
        session: In which they sign in, after its first action.
        known: Per session, whether they are signed in at its end.
        alias: In which their second id is joined to the first.
        second: Per session, whether it runs under the second anonymous id, not signed in.
    """

    session: NDArray[np.int64]
    known: NDArray[np.bool_]
    alias: NDArray[np.int64]
    second: NDArray[np.bool_]


def sign_ins(people: People, visits: Visits) -> SignIns:
    """Who signs in when, and which sessions run under a second id."""
    person, places = visits.person, np.arange(len(visits.person))
    day = np.where(people.sign_in == JOINS, people.joins, 0)
    session = _first(len(people), person, (people.sign_in[person] != NEVER) & (visits.day >= day[person]))
    owners = (people.aliases >= 0) & (people.sign_in == KNOWN)
    later = (places > session[person]) & (visits.day >= people.aliases[person])
    alias = _first(len(people), person, owners[person] & later)
    second = (places < alias[person]) & (places > session[person]) & (visits.day % 2 == 1)
    known = (session[person] >= 0) & (places >= session[person]) & ~second
    return SignIns(session, known, alias, second)


def _first(n: int, person: NDArray[np.int64], eligible: NDArray[np.bool_]) -> NDArray[np.int64]:
    places = np.flatnonzero(eligible)
    first = np.full(n, len(person))
    np.minimum.at(first, person[places], places)
    return np.where(first == len(person), -1, first)


def message_frame(shop: Shop, people: People, visits: Visits, signed: SignIns) -> pl.DataFrame:
    """All messages of a chunk of people, clean, in order of (person, ts).

    Returns:
        Columns person (the number of who it is: truth, never written with the events), message_id, event, user_id,
        anonymous_id, previous_id, ts, received, consent, user_agent, then `p_<property>`.
    """
    rng = shop.generator(5, people.stream)
    starts, ts = place(shop, people, visits)
    tracks = _tracks(shop, rng, people, visits, signed, ts)
    parts = [
        tracks,
        _refunds(shop, rng, tracks),
        _identifies(rng, people, signed, starts),
        _aliases(people, signed, starts),
    ]
    frame = pl.concat(parts, how="diagonal").sort("person", "ts")
    lag = rng.integers(*LATENCY_MS, frame.height) * MILLISECOND
    return frame.with_columns(
        pl.format("m{}-{}", pl.lit(people.stream), pl.int_range(pl.len())).alias("message_id"),
        (pl.col("ts") + pl.Series(lag)).alias("received"),
        pl.Series(people.number[frame["person"].to_numpy()]).alias("person"),
    )


def _tracks(
    shop: Shop,
    rng: np.random.Generator,
    people: People,
    visits: Visits,
    signed: SignIns,
    ts: NDArray[np.int64],
) -> pl.DataFrame:
    session, person = visits.session, visits.person[visits.session]
    first = first_of_run(session)
    signing = first & (session == signed.session[person])
    device = np.where(signed.second | (rng.random(len(visits.person)) < 0.15), 1, 0)
    n_orders = int((visits.action == ACTIONS.index("order_completed")).sum())
    consent = np.where(first, people.consent[person], -1)
    columns = {
        "person": pl.Series(person),
        "event": text(ACTIONS, visits.action),
        "user_id": text(people.user_ids, np.where(signed.known[session] & ~signing, person, -1)),
        "anonymous_id": text(people.tokens.ravel().tolist(), 2 * person + signed.second[session]),
        "ts": pl.Series(ts),
        "consent": pl.Series(consent).cast(pl.Int8).set(pl.Series(consent < 0), None),
        "user_agent": text(AGENTS, people.agents[person, device[session]]),
        **_traffic(shop, people, session, first),
    }
    orders = [f"o{people.stream}-{number}" for number in range(n_orders)]
    basket = fill_baskets(shop, people, visits)
    return pl.DataFrame({**columns, **property_columns(shop, rng, visits.action, basket, orders=orders)})


def _traffic(shop: Shop, people: People, session: NDArray[np.int64], first: NDArray[np.bool_]) -> dict[str, pl.Series]:
    """Where a session came from, in what its first action says; random numbers of their own."""
    drawn = shop.generator(9, people.stream).random((int(session.max(initial=-1)) + 1, 2))[session]
    source = np.searchsorted(np.cumsum(FROM), drawn[:, 0], side="right")
    told = first & (source < len(SOURCES))
    campaign = 2 * source + (drawn[:, 1] < 0.5)
    return {
        "p_traffic_source": text(SOURCES, np.where(told, source, -1)),
        "p_campaign": text(CAMPAIGNS, np.where(told, campaign, -1)),
    }


def _refunds(shop: Shop, rng: np.random.Generator, tracks: pl.DataFrame) -> pl.DataFrame:
    orders = tracks.filter(pl.col("event") == "order_completed")
    delay = rng.integers(DAY, 6 * DAY, orders.height) // MILLISECOND * MILLISECOND
    refunds = orders.with_columns(ts=pl.col("ts") + pl.Series(delay))
    chosen = pl.Series(rng.random(orders.height) < REFUNDED) & (refunds["ts"] < shop.end - HOUR)
    columns = ["person", "user_id", "anonymous_id", "ts", "user_agent", "p_order_id", "p_refund"]
    refunds = refunds.with_columns(event=pl.lit("order_refunded"), p_refund=pl.col("p_revenue"))
    return refunds.filter(chosen).select("event", *columns)


def _identifies(rng: np.random.Generator, people: People, signed: SignIns, starts: NDArray[np.int64]) -> pl.DataFrame:
    who = np.flatnonzero(signed.session >= 0)
    names = [people.user_ids[person] for person in who]
    consent = people.consent[who]
    columns = {
        "person": pl.Series(who),
        "event": pl.repeat("identify", len(who), eager=True),
        "user_id": pl.Series(names, dtype=pl.String),
        "anonymous_id": pl.Series([people.tokens[person, 0] for person in who], dtype=pl.String),
        "ts": pl.Series(starts[signed.session[who]] + IDENTIFY_AFTER),
        "consent": pl.Series(consent).cast(pl.Int8).set(pl.Series(consent < 0), None),
        "user_agent": text(AGENTS, people.agents[who, 0]),
        "p_email": pl.Series([f"{name}@shop.example" for name in names], dtype=pl.String),
        "p_country": text(COUNTRIES, people.country[who]),
        "p_newsletter": pl.Series(rng.random(len(who)) < 0.4),
    }
    return pl.DataFrame(columns)


def _aliases(people: People, signed: SignIns, starts: NDArray[np.int64]) -> pl.DataFrame:
    who = np.flatnonzero(signed.alias >= 0)
    columns = {
        "person": pl.Series(who),
        "event": pl.repeat("alias", len(who), eager=True),
        "user_id": pl.Series([people.user_ids[person] for person in who], dtype=pl.String),
        "previous_id": pl.Series([people.tokens[person, 1] for person in who], dtype=pl.String),
        "ts": pl.Series(starts[signed.alias[who]] + ALIAS_AFTER),
        "user_agent": text(AGENTS, people.agents[who, 0]),
    }
    return pl.DataFrame(columns)
