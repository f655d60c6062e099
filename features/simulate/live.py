"""Live day: the day after the simulated period, with an A/B test whose effect is planted."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import DefinitionError
from features.simulate.arms import assign
from features.simulate.messages import SignIns, message_frame
from features.simulate.people import People, draw_people
from features.simulate.segment import json_lines
from features.simulate.shop import Shop
from features.simulate.timing import MILLISECOND
from features.simulate.truth import Truth
from features.simulate.types import ACTIONS
from features.simulate.visits import Visits, run_sessions

EXPERIMENT = "checkout_button"
CONTROL, TREATMENT = "A", "B"
LIVE_STREAM = 10**9  # random numbers and message ids of their own
PERSONALISATION = 2  # bit of the consent mask
EXPOSED_AFTER = 400 * MILLISECOND  # of the first action; the second is never that quick
PERSUADED = ("product_added", "cart_viewed", "checkout_started", "payment_info_entered", "order_completed")
"""What somebody does more in a session whom arm B wins over."""
_ORDER = ACTIONS.index("order_completed")


@dataclass(frozen=True)
class Planted:
    """The effect that a test of the live day should find.

    Attributes:
        control: Mean chance of an order in a user's day under arm A, over everybody in the test.
        lift: Relative effect of arm B; the same for every user.
    """

    control: float
    lift: float

    @property
    def difference(self) -> float:
        """Of arm B's mean chance and arm A's."""
        return self.control * self.lift

    def to_dict(self) -> dict[str, float]:
        """The figures by name."""
        return {"control": self.control, "lift": self.lift, "difference": self.difference}

    def __str__(self) -> str:
        return f"planted: {self.control:.2%} of arm A order, {self.difference:+.2%} ({self.lift:+.0%}) in arm B"


@dataclass(frozen=True)
class LiveDay:
    """One day of users who all come at least once and see an experiment.

    Attributes:
        frame: Messages in order of time; canonical columns.
        table: One row a user: user, variant (A, the control, or B), converted (0 or 1), revenue, sessions, and what is
            known from the 28 days before: sessions_before, revenue_before.
        planted: The true effect.
    """

    frame: pl.DataFrame
    table: pl.DataFrame
    planted: Planted

    def lines(self, *, users: int | None = None) -> list[str]:
        """Segment-shaped JSON texts in order of time, of the first so many users of the table (default: all)."""
        chosen = self.table["user"].head(self.table.height if users is None else users)
        frame = self.frame.filter(pl.col("user_id").is_in(chosen.implode()))
        return json_lines(frame, sent=False).to_list()

    def messages(self, *, users: int | None = None) -> Iterator[dict[str, object]]:
        """The same as parsed JSON: what a client sends to the door."""
        return (json.loads(line) for line in self.lines(users=users))

    def write(self, folder: Path | str) -> None:
        """messages.ndjson, and outcomes.csv as `ethogram ab analyze` reads it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "messages.ndjson").write_text("\n".join(self.lines()) + "\n", encoding="utf-8")
        self.table.write_csv(folder / "outcomes.csv")


def live_day(shop: Shop, truth: Truth, *, users: int | None = None, lift: float = 0.3, salt: str = "live") -> LiveDay:
    """The day that begins at `shop.end`, for people who have signed in and whom a page may be personalised for.

    Everybody in it comes at least once (a mail went out). The arm is B where `assign(salt, user)` is at least 0.5.
    Whoever would not order in arm B is won over with the chance that makes everybody's own chance of an order exactly
    1 + lift times what it is in arm A.

    Args:
        shop: As it was simulated.
        truth: Of the same shop.
        users: How many of them; default all, drawn at random.
        lift: Relative effect on the chance of an order.
        salt: Of the assignment.

    Raises:
        DefinitionError: nobody can be in the test, or the lift makes a chance larger than 1.
    """
    rng = shop.generator(7)
    chosen = _eligible(shop, truth.people, rng, users)
    if not chosen.height:
        raise DefinitionError("nobody of the simulated shop has signed in. Hint: simulate more users or days.")
    parts = []
    for first, last in shop.chunks:
        rows = chosen.filter(pl.col("person").is_between(first, last, closed="left"))
        if rows.height:
            parts.append(_chunk(shop, rows, first, last, lift, salt))
    frames, tables, chances = zip(*parts, strict=True)
    table = chosen.select("user").join(pl.concat(tables), on="user", how="left", maintain_order="left")
    planted = Planted(float(np.concatenate(chances).mean()), lift)
    return LiveDay(pl.concat(frames, how="diagonal").sort("ts", "message_id"), table, planted)


def _eligible(shop: Shop, people: pl.DataFrame, rng: np.random.Generator, users: int | None) -> pl.DataFrame:
    may = (pl.col("consent").cast(pl.Int64) & PERSONALISATION) != 0
    people = people.filter(pl.col("joined").is_not_null(), may | pl.col("consent").is_null())
    order = rng.permutation(people.height)
    return people[order[: people.height if users is None else users]]


def _chunk(
    shop: Shop, rows: pl.DataFrame, first: int, last: int, lift: float, salt: str
) -> tuple[pl.DataFrame, pl.DataFrame, NDArray[np.float64]]:
    rows = rows.sort("person")
    people = draw_people(shop, first, last).take(rows["person"].to_numpy() - first)
    people = replace(people, stream=LIVE_STREAM + first)
    treated = np.array([assign(salt, user) >= 0.5 for user in rows["user"]])
    visits, chance = _visits(shop, people, rows["level"].to_numpy(), treated, lift)
    n = len(visits.person)
    nobody = np.full(len(people), -1)
    signed = SignIns(nobody, np.ones(n, np.bool_), nobody, np.zeros(n, np.bool_))
    frame = message_frame(shop, people, visits, signed).filter(pl.col("event") != "order_refunded")
    arms = rows.select("person", "user", variant=pl.Series(np.where(treated, TREATMENT, CONTROL)))
    exposures = _exposures(frame, arms)
    return pl.concat([frame, exposures], how="diagonal"), _table(rows, arms, frame, visits), chance


def _visits(
    shop: Shop, people: People, level: NDArray[np.int64], treated: NDArray[np.bool_], lift: float
) -> tuple[Visits, NDArray[np.float64]]:
    rng, day = shop.generator(8, people.stream), shop.days
    rate = people.rate * shop.traffic(day)[people.kind, level]
    person = np.repeat(np.arange(len(people)), 1 + rng.poisson(rate))
    session, action = run_sessions(shop, rng, day, people.kind[person], level[person])
    once = shop.outcomes[shop.phase(day)][people.kind, level, 0]
    chance = 1 - (1 - once) * np.exp(-rate * once)
    if ((1 + lift) * chance).max() > 1 or lift < 0:
        raise DefinitionError(f"a lift keeps every chance of an order between 0 and 1. Got {lift!r}.")
    ordered = np.zeros(len(people), np.bool_)
    ordered[person[session[action == _ORDER]]] = True
    won = treated & ~ordered & (rng.random(len(people)) < lift * chance / (1 - chance))
    session, action = _persuaded(
        session, action, last_session=np.searchsorted(person, np.flatnonzero(won), "right") - 1
    )
    empty = np.zeros((0, len(people)), np.int8)
    return Visits(person, np.full(len(person), day), level[person], session, action, empty), chance


def _persuaded(
    session: NDArray[np.int64], action: NDArray[np.int64], *, last_session: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    more = np.array([ACTIONS.index(name) for name in PERSUADED])
    session = np.concatenate([session, np.repeat(last_session, len(more))])
    action = np.concatenate([action, np.tile(more, len(last_session))])
    order = np.argsort(session, kind="stable")
    return session[order], action[order]


def _exposures(frame: pl.DataFrame, arms: pl.DataFrame) -> pl.DataFrame:
    first = frame.group_by("person", maintain_order=True).first()
    columns = ["person", "user_id", "anonymous_id", "user_agent", "ts", "received", "message_id", "p_variant"]
    return (
        first.join(arms.rename({"variant": "p_variant"}), on="person", maintain_order="left")
        .with_columns(pl.col("ts", "received") + EXPOSED_AFTER, pl.col("message_id") + "x")
        .select(*columns, event=pl.lit("experiment_viewed"), p_experiment=pl.lit(EXPERIMENT))
    )


def _table(rows: pl.DataFrame, arms: pl.DataFrame, frame: pl.DataFrame, visits: Visits) -> pl.DataFrame:
    orders = frame.filter(pl.col("event") == "order_completed").group_by("person")
    spent = orders.agg(converted=pl.lit(1, pl.Int64), revenue=pl.col("p_revenue").sum().round(2))
    sessions = pl.Series(np.bincount(visits.person, minlength=rows.height))
    before = rows.select("person", sessions_before="sessions_28d", revenue_before="revenue_28d")
    table = arms.with_columns(sessions=sessions).join(spent, on="person", how="left", maintain_order="left")
    columns = ["user", "variant", "converted", "revenue", "sessions", "sessions_before", "revenue_before"]
    return (
        table.join(before, on="person", maintain_order="left")
        .with_columns(
            pl.col("converted").fill_null(0), pl.col("revenue").fill_null(0.0), pl.col("revenue_before").round(2)
        )
        .select(columns)
    )
