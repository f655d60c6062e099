"""The benchmark's features as lazy Polars expressions.

Written for speed: every window is a sum over a comparison, distinct values and days are grouped once by their latest
instant, and sessions are numbered by one pass over the sorted frame.
"""

import polars as pl

from features.instants import DAY, MINUTE

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
    frames = [
        recent.group_by("user").agg([*_totals(within, kinds), *_recency(at)]),
        recent.filter(pl.col("event") == "product_viewed", pl.col("product_id").is_not_null())
        .group_by("user", "product_id")
        .agg(pl.col("ts").max())
        .group_by("user")
        .agg(mask.sum().alias(f"distinct_product_viewed_product_id_{name}") for name, mask in within.items()),
        recent.group_by("user", pl.col("ts") // DAY * DAY)
        .agg(pl.col("ts").max().alias("latest"))
        .group_by("user")
        .agg(
            (pl.col("latest") > at - window).sum().alias(f"active_days_any_{name}") for name, window in windows.items()
        ),
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


def _sessions(recent: pl.LazyFrame, at: int, windows: dict[str, int]) -> pl.LazyFrame:
    starts = (pl.col("user") != pl.col("user").shift()) | (pl.col("ts") - pl.col("ts").shift() > 30 * MINUTE)
    runs = (
        recent.select("user", "ts", starts.fill_null(True).cum_sum().alias("run"))
        .group_by("run")
        .agg(pl.col("user").first(), pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last"), pl.len())
        .filter(at - pl.col("last") > 30 * MINUTE)
    )
    columns = []
    for name, window in windows.items():
        mine = pl.col("last") > at - window
        minutes = (pl.col("last") - pl.col("first")) / MINUTE
        columns += [
            mine.sum().alias(f"sessions_{name}"),
            pl.when(mine).then(minutes).mean().alias(f"session_minutes_{name}"),
            pl.when(mine).then(pl.col("len").cast(pl.Float64)).mean().alias(f"session_depth_{name}"),
            pl.when(mine).then((pl.col("len") == 1).cast(pl.Float64)).mean().alias(f"bounce_share_{name}"),
        ]
    return runs.group_by("user").agg(columns)
