"""Live day: what comes after the simulated period, with an A/B test whose effect is planted."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.draws import place
from features.errors import DefinitionError
from features.instants import DAY
from features.simulate.messages import SignIns, message_frame
from features.simulate.people import People, draw_people
from features.simulate.propensity import order_chance, visit_chance
from features.simulate.shop import Shop
from features.simulate.truth import POPULATION_DAYS, Truth
from features.simulate.types import ACTIONS
from features.simulate.visits import MILLISECOND, Visits, simulate_visits
from features.simulate.writing import json_lines

EXPERIMENT = "checkout_button"
CONTROL, TREATMENT = "A", "B"
ARM_B_FROM = 0.5
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
    """What happens after the simulated period, with an experiment in it.

    Attributes:
        frame: Messages in order of time; canonical columns.
        table: One row a user who came: user, variant (A, the control, or B), converted (0 or 1), revenue, sessions,
            and what is known from the 28 days before: sessions_before, revenue_before.
        people: Whom an application may ask about, in random order: signed in, personalisation not refused, came within
            the 30 days before the end, whether they came in the live days or not.
        end: The midnight after.
        planted: The true effect.
    """

    frame: pl.DataFrame
    table: pl.DataFrame
    people: pl.Series
    end: int
    planted: Planted

    def lines(self, *, users: int | None = None) -> list[str]:
        """Segment-shaped JSON texts in order of time, of the first so many of `people` (default: all)."""
        chosen = self.people if users is None else self.people.head(users)
        return json_lines(self.frame.filter(pl.col("user_id").is_in(chosen.implode())), sent=False).to_list()

    def messages(self, *, users: int | None = None) -> Iterator[dict[str, object]]:
        """The same as parsed JSON: what a client sends to the door."""
        return (json.loads(line) for line in self.lines(users=users))

    def write(self, folder: Path | str) -> None:
        """messages.ndjson, and outcomes.csv as `ethogram ab analyze` reads it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "messages.ndjson").write_text("\n".join(self.lines()) + "\n", encoding="utf-8")
        self.table.write_csv(folder / "outcomes.csv")


@dataclass(frozen=True)
class _Test:
    """How the live days are run."""

    days: range
    everybody: bool
    lift: float
    salt: str
    exposures: bool


def live_day(
    shop: Shop,
    truth: Truth,
    *,
    users: int | None = None,
    days: int = 1,
    everybody: bool = True,
    lift: float = 0.3,
    salt: str = "live",
    exposures: bool = True,
) -> LiveDay:
    """The day, or days, from `shop.end` on, for people who have signed in and do not refuse personalisation.

    The arm is B where `place(salt, user)` is at least 0.5; it is seen on the first visit. Who came and would not order
    in arm B is won over with the chance that makes everybody's own chance of an order, given that they come, exactly
    1 + lift times what it is in arm A.

    Args:
        shop: As it was simulated.
        truth: Of the same shop.
        users: How many of them; default all, drawn at random.
        days: Live days. Over a week enough people come by themselves for the effect to be found.
        everybody: A mail goes out, and all come on the first day: enough to find the effect in one day, but nobody's
            behaviour is what it was before. False: people come as they always do.
        lift: Relative effect on the chance of an order.
        salt: Of the assignment.
        exposures: Whether seeing the experiment is a message too. It counts as an event of its session: whoever
            watches for drift sees one-event sessions become rare.

    Raises:
        DefinitionError: nobody can be in the test, or the lift makes a chance larger than 1.
    """
    chosen = _eligible(shop, truth, users)
    if not chosen.height or days < 1:
        raise DefinitionError(
            f"{chosen.height} people have signed in, for {days} live days. Hint: simulate more of them."
        )
    test = _Test(range(shop.days, shop.days + days), everybody, lift, salt, exposures)
    parts = []
    for first, last in shop.chunks:
        rows = chosen.filter(pl.col("person").is_between(first, last, closed="left"))
        if rows.height:
            parts.append(_chunk(shop, rows, first, last, test))
    frames, tables, chances = zip(*parts, strict=True)
    tested = pl.concat(tables)
    active = chosen.filter(
        (pl.col("recency_d") + days <= POPULATION_DAYS) | pl.col("user").is_in(tested["user"].implode())
    )
    return LiveDay(
        frame=pl.concat(frames, how="diagonal").sort("ts", "message_id"),
        table=chosen.select("user").join(tested, on="user", maintain_order="left"),
        people=active["user"],
        end=shop.end + days * DAY,
        planted=Planted(float(np.concatenate(chances).mean()), lift),
    )


def _eligible(shop: Shop, truth: Truth, users: int | None) -> pl.DataFrame:
    may = pl.col("consent").is_null() | ((pl.col("consent").cast(pl.Int64) & PERSONALISATION) != 0)
    people = truth.people.filter(pl.col("joined").is_not_null(), may)
    recency = truth.propensity.filter(pl.col("cut") == shop.end).select("user", "recency_d")
    order = shop.generator(7).permutation(people.height)
    chosen = people[order[: people.height if users is None else users]]
    return chosen.join(recency, on="user", how="left", maintain_order="left")


def _chunk(
    shop: Shop, rows: pl.DataFrame, first: int, last: int, test: _Test
) -> tuple[pl.DataFrame, pl.DataFrame, NDArray[np.float64]]:
    rows = rows.sort("person")
    people = draw_people(shop, first, last).take(rows["person"].to_numpy() - first)
    came = np.full(len(people), test.days.start if test.everybody else -1)
    people = replace(people, stream=LIVE_STREAM + first, arrival=came, level=rows["level"].to_numpy())
    visits = simulate_visits(shop, people, days=test.days)
    treated = np.array([place(test.salt, user) >= ARM_B_FROM for user in rows["user"]])
    visits, chance = _won_over(shop, people, visits, treated, test)
    n, nobody = len(visits.person), np.full(len(people), -1)
    signed = SignIns(nobody, np.ones(n, np.bool_), nobody, np.zeros(n, np.bool_))
    frame = message_frame(shop, people, visits, signed)
    arms = rows.select("person", "user", variant=pl.Series(np.where(treated, TREATMENT, CONTROL)))
    seen = _exposures(frame, arms) if test.exposures else frame.clear()
    return pl.concat([frame, seen], how="diagonal"), _table(rows, arms, frame, visits), chance


def _won_over(
    shop: Shop, people: People, visits: Visits, treated: NDArray[np.bool_], test: _Test
) -> tuple[Visits, NDArray[np.float64]]:
    """The visits with the orders that arm B brings, and everybody's chance of an order in arm A if they come."""
    day, within = test.days.start, len(test.days)
    chance = order_chance(shop, people, people.level, day, within=within, coming=test.everybody)
    if not test.everybody:
        chance /= visit_chance(shop, people, people.level, day, within=within)
    if test.lift < 0 or ((1 + test.lift) * chance).max() > 1:
        raise DefinitionError(f"a lift keeps every chance of an order between 0 and 1. Got {test.lift!r}.")
    came, ordered = np.zeros((2, len(people)), np.bool_)
    came[visits.person] = True
    ordered[visits.person[visits.session[visits.action == _ORDER]]] = True
    draw = shop.generator(8, people.stream).random(len(people))
    won = np.flatnonzero(treated & came & ~ordered & (draw < test.lift * chance / (1 - chance)))
    last = np.full(len(people), -1)
    np.maximum.at(last, visits.person, np.arange(len(visits.person)))
    session, action = _persuaded(visits.session, visits.action, last_session=last[won])
    return replace(visits, session=session, action=action), chance[came]


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
    """One row a user who came."""
    orders = frame.filter(pl.col("event") == "order_completed").group_by("person")
    spent = orders.agg(converted=pl.lit(1, pl.Int64), revenue=pl.col("p_revenue").sum().round(2))
    sessions = pl.Series(np.bincount(visits.person, minlength=rows.height))
    before = rows.select("person", sessions_before="sessions_28d", revenue_before=pl.col("revenue_28d").round(2))
    table = arms.with_columns(sessions=sessions).filter(pl.col("sessions") > 0)
    for more in (spent, before):
        table = table.join(more, on="person", how="left", maintain_order="left")
    columns = ["user", "variant", "converted", "revenue", "sessions", "sessions_before", "revenue_before"]
    return table.with_columns(pl.col("converted", "revenue").fill_null(0)).select(columns)
