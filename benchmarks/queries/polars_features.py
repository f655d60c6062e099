"""The benchmark's features as lazy Polars expressions.

Written for speed: every window is a sum over a comparison, distinct values and days are grouped once by their latest
instant, and sessions are numbered by one pass over the sorted frame.
"""

import math

import polars as pl

from features.instants import DAY, HOUR, MINUTE

RECENCY = ("any", "product_viewed", "order_completed")


def features(events: pl.LazyFrame, *, at: int, windows: dict[str, int], kinds: tuple[str, ...]) -> pl.LazyFrame:
    """A row per user, sorted by user.

    Args:
        events: Columns user, event, ts, product_id, revenue; sorted by (user, ts).
        at: As of.
        windows: Name to microseconds.
        kinds: Event names.
    """
    horizon = max(windows.values())
    recent = events.filter((pl.col("ts") <= at) & (pl.col("ts") > at - horizon))
    within = {name: pl.col("ts") > at - window for name, window in windows.items()}
    viewed = recent.filter(pl.col("event") == "product_viewed")
    frames = [
        recent.group_by("user").agg([*_totals(within, kinds), *_recency(at)]),
        _latest(viewed, "product_id", "distinct_product_viewed_product_id", at, windows),
        _latest(recent.with_columns(day=pl.col("ts") // DAY), "day", "active_days_any", at, windows),
        _sessions(recent, at, windows),
    ]
    people = events.select("user").unique()
    for frame in frames:
        people = people.join(frame, on="user", how="left")
    counted = [f"count_{kind}_{name}" for kind in ("any", *kinds) for name in windows]
    summed = [f"sum_order_completed_revenue_{name}" for name in windows]
    others = [
        f"{what}_{name}"
        for what in ("distinct_product_viewed_product_id", "active_days_any", "sessions")
        for name in windows
    ]
    return people.with_columns(pl.col(counted + summed + others).fill_null(0)).sort("user")


def wide(
    events: pl.LazyFrame, *, at: int, windows: dict[str, int], kinds: tuple[str, ...], pairs: list[tuple[str, str]],
    bands: dict[str, list[int]],
) -> pl.LazyFrame:  # fmt: skip
    """`features`, and a hundred more of other families.

    Args:
        events: As for `features`.
        at: As of.
        windows: Name to microseconds.
        kinds: Event names.
        pairs: What follows what directly, within sessions.
        bands: Name to hours.
    """
    horizon, gap = max(windows.values()), 30 * MINUTE
    ever = events.filter(pl.col("ts") <= at)
    same = pl.col("user") == pl.col("user").shift(-1)
    recent = ever.filter(pl.col("ts") > at - horizon).with_columns(
        to_next=pl.when(same).then(pl.col("ts").shift(-1) - pl.col("ts")),
        following=pl.when(same).then(pl.col("event").shift(-1)),
    )
    stay = pl.when(pl.col("to_next").is_not_null()).then(pl.min_horizontal("to_next", gap))
    stay = stay.otherwise(pl.when(at - pl.col("ts") >= gap).then(gap))
    columns = [_decayed(at, pl.lit(1.0)).alias("decayed_count_any_7d")]
    columns.append(_decayed(at, pl.col("revenue")).alias("decayed_sum_order_completed_revenue_7d"))
    for name, window in windows.items():
        within = pl.col("ts") > at - window
        money = pl.when(within & (pl.col("event") == "order_completed")).then("revenue").drop_nulls()
        stats = {"std": money.std(ddof=0), "median": money.median(), "first": money.first(), "last": money.last()}
        columns += [stat.alias(f"{what}_order_completed_revenue_{name}") for what, stat in stats.items()]
        mine, stays = pl.when(within).then("ts"), pl.when(within).then(stay)
        columns += [
            ((mine.max() - mine.min()) / 1e6 / (within.sum().cast(pl.Float64) - 1)).alias(
                f"mean_interval_any_s_{name}"
            ),
            (stays.sum() / 1e6).alias(f"dwell_any_s_{name}"),
            (stays.mean() / 1e6).alias(f"mean_dwell_any_s_{name}"),
        ]
        for one, other in pairs:
            found = within & (pl.col("event") == one) & (pl.col("following") == other) & (pl.col("to_next") <= gap)
            columns.append(found.sum().alias(f"ngram_{one}_{other}_{name}"))
        if window >= 30 * DAY:
            weekday, hour = (pl.col("ts") // DAY + 3) % 7, pl.col("ts") % DAY // HOUR
            asked = {f"weekday_share_any_{day}": weekday == k for k, day in enumerate(WEEKDAYS)}
            asked |= {f"hour_share_any_{band}": (hour >= low) & (hour < high) for band, (low, high) in bands.items()}
            columns += [
                ((is_it & within).sum() / within.sum()).alias(f"{what}_{name}") for what, is_it in asked.items()
            ]
    orders = recent.filter(pl.col("event") == "order_completed")
    frames = [
        features(events, at=at, windows=windows, kinds=kinds),
        recent.group_by("user").agg(columns),
        ever.group_by("user").agg(
            pl.len().alias("count_any_lifetime"),
            (pl.col("event") == "order_completed").sum().alias("count_order_completed_lifetime"),
            pl.col("revenue").sum().alias("sum_order_completed_revenue_lifetime"),
            ((at - pl.col("ts").min()) / 1e6).alias("tenure_any_s"),
        ),
        _latest(
            recent.filter(pl.col("event") == "product_added"),
            "product_id",
            "distinct_product_added_product_id",
            at,
            windows,
        ),
        _latest(orders.with_columns(day=pl.col("ts") // DAY), "day", "active_days_order_completed", at, windows),
        _sessions(recent, at, windows, gap=120 * MINUTE, called="_long"),
    ]
    people = frames[0]
    for frame in frames[1:]:
        people = people.join(frame, on="user", how="left")
    zero = (
        "^(count|sum)_.*_lifetime$",
        "^decayed_.*$",
        "^dwell_.*$",
        "^ngram_.*$",
        "^distinct_.*$",
        "^active_days_.*$",
        "^sessions_.*$",
    )
    return people.with_columns(pl.col(*zero).fill_null(0)).sort("user")


WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _decayed(at: int, value: pl.Expr) -> pl.Expr:
    return (value * (-(at - pl.col("ts")) * (math.log(2) / (7 * DAY))).exp()).sum()


def _latest(events: pl.LazyFrame, key: str, called: str, at: int, windows: dict[str, int]) -> pl.LazyFrame:
    """How many keys were met in each window."""
    latest = events.filter(pl.col(key).is_not_null()).group_by("user", key).agg(pl.col("ts").max())
    counts = [(pl.col("ts") > at - window).sum().alias(f"{called}_{name}") for name, window in windows.items()]
    return latest.group_by("user").agg(counts)


def _totals(within: dict[str, pl.Expr], kinds: tuple[str, ...]) -> list[pl.Expr]:
    columns = []
    for name, mask in within.items():
        columns.append(mask.sum().alias(f"count_any_{name}"))
        columns += [((pl.col("event") == kind) & mask).sum().alias(f"count_{kind}_{name}") for kind in kinds]
        money = pl.when(mask & (pl.col("event") == "order_completed")).then("revenue")
        columns += [
            getattr(money, stat)().alias(f"{stat}_order_completed_revenue_{name}")
            for stat in ("sum", "mean", "min", "max")
        ]
    return columns


def _recency(at: int) -> list[pl.Expr]:
    latest = {kind: pl.col("ts") if kind == "any" else pl.when(pl.col("event") == kind).then("ts") for kind in RECENCY}
    return [((at - ts.max()) / 1e6).alias(f"recency_{kind}_s") for kind, ts in latest.items()]


def _sessions(
    recent: pl.LazyFrame, at: int, windows: dict[str, int], *, gap: int = 30 * MINUTE, called: str = ""
) -> pl.LazyFrame:
    starts = (pl.col("user") != pl.col("user").shift()) | (pl.col("ts") - pl.col("ts").shift() > gap)
    runs = (
        recent.select("user", "ts", starts.fill_null(True).cum_sum().alias("run"))
        .group_by("run")
        .agg(pl.col("user").first(), pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last"), pl.len())
        .filter(at - pl.col("last") > gap)
    )
    columns = []
    for name, window in windows.items():
        mine = pl.col("last") > at - window
        minutes = (pl.col("last") - pl.col("first")) / MINUTE
        columns += [
            mine.sum().alias(f"sessions{called}_{name}"),
            pl.when(mine).then(minutes).mean().alias(f"session_minutes{called}_{name}"),
            pl.when(mine).then(pl.col("len").cast(pl.Float64)).mean().alias(f"session_depth{called}_{name}"),
            pl.when(mine).then((pl.col("len") == 1).cast(pl.Float64)).mean().alias(f"bounce_share{called}_{name}"),
        ]
    return runs.group_by("user").agg(columns)
