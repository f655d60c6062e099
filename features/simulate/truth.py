"""Truth: who is of which type, who will order, what is wrong with the data; for tests and the demo."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.instants import DAY
from features.simulate.messages import SignIns
from features.simulate.people import People
from features.simulate.propensity import WITHIN_DAYS, order_chance, roc_auc
from features.simulate.shop import Shop
from features.simulate.types import ACTIONS, NAMES
from features.simulate.visits import Visits

RECENT_DAYS = 28
POPULATION_DAYS = 30
"""Figures of a cut are about people who came in so many days before it."""


@dataclass(frozen=True)
class Truth:
    """What was planted in a simulated shop.

    Attributes:
        people: One row a person: person, user (the id that identity resolution ends with), ids (all of them), type,
            rate, level (on the morning after the last day), sessions_28d and revenue_28d (of the last 28 days),
            arrival and joined (instants; joined is null for who never signs in), consent (mask or null).
        propensity: One row a person and cut, for people who came before it: user, type, cut, propensity (true chance
            of an order within 7 days), ordered (whether they did; null where that lies after the period), recency_d
            (days since the last day with a visit), level, joined (whether they had signed in, or never will).
        planted: Counts by what they are of.
    """

    people: pl.DataFrame
    propensity: pl.DataFrame
    planted: Counter[str]

    @classmethod
    def concat(cls, parts: Iterable["Truth"]) -> "Truth":
        """The truth of several chunks of people."""
        parts = list(parts)
        planted: Counter[str] = sum((part.planted for part in parts), Counter())
        people, propensity = (pl.concat([getattr(part, name) for part in parts]) for name in ("people", "propensity"))
        return cls(people, propensity, planted)

    def write(self, folder: Path) -> None:
        """truth.parquet, propensity.parquet and planted.json in a folder of their own."""
        folder.mkdir(parents=True, exist_ok=True)
        self.people.write_parquet(folder / "truth.parquet")
        self.propensity.write_parquet(folder / "propensity.parquet")
        (folder / "planted.json").write_text(json.dumps(dict(sorted(self.planted.items())), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Truth":
        """What `write` wrote."""
        planted = Counter(json.loads((folder / "planted.json").read_text()))
        return cls(pl.read_parquet(folder / "truth.parquet"), pl.read_parquet(folder / "propensity.parquet"), planted)

    @property
    def cuts(self) -> list[int]:
        """The instants that the propensity is known of; the last one is the end of the period."""
        return self.propensity["cut"].unique().sort().to_list()

    @property
    def judged(self) -> list[int]:
        """The cuts of which it is known who ordered within the 7 days after."""
        return self.propensity.filter(pl.col("ordered").is_not_null())["cut"].unique().sort().to_list()

    def difficulty(self, cut: int) -> "Difficulty":
        """Ceiling and floor of predicting an order within 7 days of a cut."""
        return difficulty(self.propensity, cut)


@dataclass(frozen=True)
class Difficulty:
    """Between which figures a model must lie.

    Attributes:
        cut: Microseconds UTC.
        n: People who came in the 30 days before.
        base_rate: Share of them that ordered within 7 days.
        ceiling: ROC-AUC of the true chance: nothing can be better but by luck.
        floor: ROC-AUC of one rule: who came last orders first.
    """

    cut: int
    n: int
    base_rate: float
    ceiling: float
    floor: float

    def to_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)

    def __str__(self) -> str:
        figures = f"ROC-AUC between {self.floor:.3f} (recency alone) and {self.ceiling:.3f} (the true chance)"
        return f"{figures}; {self.n:,} people, {self.base_rate:.1%} of them order"


def difficulty(propensity: pl.DataFrame, cut: int) -> Difficulty:
    """Ceiling and floor at a cut whose seven days lie within the period."""
    rows = propensity.filter(
        pl.col("cut") == cut, pl.col("recency_d") <= POPULATION_DAYS, pl.col("joined"), pl.col("ordered").is_not_null()
    )
    ordered = rows["ordered"].to_numpy()
    ceiling = roc_auc(rows["propensity"].to_numpy(), ordered)
    floor = roc_auc(-rows["recency_d"].to_numpy().astype(float), ordered)
    return Difficulty(cut, rows.height, float(ordered.mean()) if rows.height else float("nan"), ceiling, floor)


def cut_days(shop: Shop) -> list[int]:
    """Days of the cuts: weekly, back from the end of the period and back from the day before it.

    A study's cuts are among the latter: its label must lie within the log, whose last event comes before midnight.
    """
    return sorted({day for last in (shop.days, shop.days - 1) for day in range(last, 0, -WITHIN_DAYS)})


def truth_of(shop: Shop, people: People, visits: Visits, signed: SignIns, frame: pl.DataFrame) -> Truth:
    """The truth about a chunk of people; `frame` are their messages."""
    who = _people(shop, people, visits, signed, frame)
    ordered = _ordered_days(shop, people, visits)
    last = np.full((len(people), shop.days + 1), -1, np.int64)
    np.maximum.at(last, (visits.person, visits.day + 1), visits.day)
    last = np.maximum.accumulate(last, axis=1)
    cuts = [_cut(shop, people, visits, who, ordered, last[:, day], day) for day in cut_days(shop)]
    return Truth(who, pl.concat(cuts), Counter(_counts(frame)))


def _people(shop: Shop, people: People, visits: Visits, signed: SignIns, frame: pl.DataFrame) -> pl.DataFrame:
    links = frame.filter(pl.col("event") == "identify").select("person", joined="ts")
    recent = visits.day >= shop.days - RECENT_DAYS
    spent = (
        frame.filter(pl.col("ts") >= shop.end - RECENT_DAYS * DAY)
        .group_by("person")
        .agg(revenue_28d=pl.col("p_revenue").sum())
    )
    known = signed.session >= 0
    second = signed.alias >= 0
    user = [people.user_ids[row] if known[row] else people.tokens[row, 0] for row in range(len(people))]
    ids = [
        [
            *([people.user_ids[row]] if known[row] else []),
            people.tokens[row, 0],
            *([people.tokens[row, 1]] if second[row] else []),
        ]
        for row in range(len(people))
    ]
    columns = {
        "person": pl.Series(people.number),
        "user": pl.Series(user, dtype=pl.String),
        "ids": pl.Series(ids, dtype=pl.List(pl.String)),
        "type": pl.Series(NAMES, dtype=pl.String).gather(people.kind),
        "rate": pl.Series(people.rate),
        "level": pl.Series(visits.levels[-1].astype(np.int64)),
        "sessions_28d": pl.Series(np.bincount(visits.person[recent], minlength=len(people))),
        "arrival": pl.Series(shop.start + people.arrival * DAY),
        "consent": pl.Series(people.consent).cast(pl.Int8).set(pl.Series(people.consent < 0), None),
    }
    who = pl.DataFrame(columns).join(links, on="person", how="left", maintain_order="left")
    return who.join(spent, on="person", how="left", maintain_order="left").with_columns(
        pl.col("revenue_28d").fill_null(0)
    )


def _ordered_days(shop: Shop, people: People, visits: Visits) -> NDArray[np.bool_]:
    days = np.zeros((len(people), shop.days), np.bool_)
    orders = visits.session[visits.action == ACTIONS.index("order_completed")]
    days[visits.person[orders], visits.day[orders]] = True
    return days


def _cut(
    shop: Shop,
    people: People,
    visits: Visits,
    who: pl.DataFrame,
    ordered: NDArray[np.bool_],
    last: NDArray[np.int64],
    day: int,
) -> pl.DataFrame:
    here = np.flatnonzero(people.arrival < day)
    level = visits.levels[day].astype(np.int64)[here]
    cut = shop.start + day * DAY
    complete = day + WITHIN_DAYS <= shop.days
    did = (
        pl.Series(ordered[here, day : day + WITHIN_DAYS].any(axis=1))
        if complete
        else pl.repeat(None, len(here), dtype=pl.Boolean, eager=True)
    )
    rows = who[here]
    return rows.select("user", "type").with_columns(
        cut=pl.lit(cut),
        propensity=pl.Series(order_chance(shop, people.take(here), level, day)),
        ordered=did,
        recency_d=pl.Series(day - last[here]),
        level=pl.Series(level),
        joined=rows["joined"].is_null() | (rows["joined"] < cut),
    )


def _counts(frame: pl.DataFrame) -> dict[str, int]:
    counts = {"events": frame.height, "people": frame["person"].n_unique()}
    for name in ("identify", "alias", "order_completed", "order_refunded"):
        counts[name] = int((frame["event"] == name).sum())
    return {**counts, "consent_statements": int(frame["consent"].is_not_null().sum())}
