"""The benchmark's features as one SQL statement for DuckDB, written as the Polars expressions are."""

import math

from features.instants import DAY, HOUR, MINUTE

RECENCY = ("any", "product_viewed", "order_completed")


def features(events: str, *, at: int, windows: dict[str, int], kinds: tuple[str, ...]) -> str:
    """The statement; a row per user, sorted by user.

    Args:
        events: A table, or `read_parquet(...)`: columns user, event, ts, product_id, revenue.
        at: As of.
        windows: Name to microseconds.
        kinds: Event names.
    """
    horizon = max(windows.values())
    totals, distinct, days, sessions = [], [], [], []
    for name, window in windows.items():
        after = at - window
        totals.append(f"count(*) FILTER (ts > {after}) AS count_any_{name}")
        totals += [f"count(*) FILTER (event = '{kind}' AND ts > {after}) AS count_{kind}_{name}" for kind in kinds]
        for stat, call in (("sum", "sum"), ("mean", "avg"), ("min", "min"), ("max", "max")):
            value = f"{call}(revenue) FILTER (event = 'order_completed' AND ts > {after})"
            value = f"coalesce({value}, 0)" if stat == "sum" else value
            totals.append(f"{value} AS {stat}_order_completed_revenue_{name}")
        distinct.append(f"count(*) FILTER (latest > {after}) AS distinct_product_viewed_product_id_{name}")
        days.append(f"count(*) FILTER (latest > {after}) AS active_days_any_{name}")
        sessions += [
            f"count(*) FILTER (last > {after}) AS sessions_{name}",
            f"avg((last - first) / {float(MINUTE)}) FILTER (last > {after}) AS session_minutes_{name}",
            f"avg(n) FILTER (last > {after}) AS session_depth_{name}",
            f"avg((n = 1)::DOUBLE) FILTER (last > {after}) AS bounce_share_{name}",
        ]
    for kind in RECENCY:
        only = "" if kind == "any" else f" FILTER (event = '{kind}')"
        totals.append(f"({at} - max(ts){only}) / 1e6 AS recency_{kind}_s")
    zeros = ", ".join(
        f"coalesce({column}, 0) AS {column}"
        for column in (each.rsplit(" AS ", 1)[1] for each in totals + distinct + days + sessions)
        if column.startswith(("count_", "sum_", "distinct_", "active_days_", "sessions_"))
    )
    return f"""
WITH people AS (SELECT DISTINCT "user" FROM {events}),
recent AS MATERIALIZED (
    SELECT "user", event, ts, product_id, revenue FROM {events} WHERE ts <= {at} AND ts > {at - horizon}
),
totals AS (SELECT "user", {", ".join(totals)} FROM recent GROUP BY "user"),
latest_products AS (
    SELECT "user", product_id, max(ts) AS latest FROM recent
    WHERE event = 'product_viewed' AND product_id IS NOT NULL GROUP BY "user", product_id
),
distincts AS (SELECT "user", {", ".join(distinct)} FROM latest_products GROUP BY "user"),
latest_days AS (SELECT "user", ts // {DAY} AS day, max(ts) AS latest FROM recent GROUP BY "user", day),
days AS (SELECT "user", {", ".join(days)} FROM latest_days GROUP BY "user"),
steps AS (
    SELECT "user", ts, coalesce(ts - lag(ts) OVER (PARTITION BY "user" ORDER BY ts) > {30 * MINUTE}, true) AS starts
    FROM recent
),
numbered AS (
    SELECT "user", ts, sum(starts::INTEGER) OVER (PARTITION BY "user" ORDER BY ts ROWS UNBOUNDED PRECEDING) AS run
    FROM steps
),
runs AS (
    SELECT "user", run, min(ts) AS first, max(ts) AS last, count(*) AS n FROM numbered GROUP BY "user", run
    HAVING {at} - max(ts) > {30 * MINUTE}
),
sessions AS (SELECT "user", {", ".join(sessions)} FROM runs GROUP BY "user")
SELECT * REPLACE ({zeros})
FROM people LEFT JOIN totals USING ("user") LEFT JOIN distincts USING ("user") LEFT JOIN days USING ("user")
    LEFT JOIN sessions USING ("user")
ORDER BY "user"
"""  # noqa: S608 - made of our own names and numbers


WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
GAP = 30 * MINUTE


def wide(
    events: str, *, at: int, windows: dict[str, int], kinds: tuple[str, ...], pairs: list[tuple[str, str]],
    bands: dict[str, list[int]],
) -> str:  # fmt: skip
    """`features`, and a hundred more of other families; the arguments as for Polars."""
    horizon = max(windows.values())
    weight = f"exp((ts - {at}) * {math.log(2) / (7 * DAY)})"
    columns = [f"sum({weight}) AS decayed_count_any_7d"]
    columns.append(f"coalesce(sum(revenue * {weight}), 0) AS decayed_sum_order_completed_revenue_7d")
    added, days, sessions = [], [], []
    for name, window in windows.items():
        within = f"ts > {at - window}"
        bought = f"FILTER (event = 'order_completed' AND {within})"
        stats = {"std": "stddev_pop(revenue)", "median": "median(revenue)"}
        stats |= {"first": "arg_min(revenue, ts)", "last": "arg_max(revenue, ts)"}
        columns += [f"{call} {bought} AS {what}_order_completed_revenue_{name}" for what, call in stats.items()]
        mean = f"(max(ts) - min(ts) FILTER ({within})) / 1e6 / (count(*) FILTER ({within}) - 1)"
        columns += [
            f"CASE WHEN count(*) FILTER ({within}) > 1 THEN {mean} END AS mean_interval_any_s_{name}",
            f"coalesce(sum(stay) FILTER ({within}), 0) / 1e6 AS dwell_any_s_{name}",
            f"avg(stay) FILTER ({within}) / 1e6 AS mean_dwell_any_s_{name}",
        ]
        columns += [
            f"count(*) FILTER ({within} AND event = '{one}' AND following = '{other}' AND to_next <= {GAP})"
            f" AS ngram_{one}_{other}_{name}"
            for one, other in pairs
        ]
        asked = {f"weekday_share_any_{day}": f"(ts // {DAY} + 3) % 7 = {k}" for k, day in enumerate(WEEKDAYS)}
        hour = f"ts % {DAY} // {HOUR}"
        asked |= {
            f"hour_share_any_{band}": f"{hour} BETWEEN {low} AND {high - 1}" for band, (low, high) in bands.items()
        }
        columns += [
            f"avg(({test})::INTEGER) FILTER ({within}) AS {what}_{name}"
            for what, test in asked.items()
            if window >= 30 * DAY
        ]
        added.append(f"count(*) FILTER (latest > {at - window}) AS distinct_product_added_product_id_{name}")
        days.append(f"count(*) FILTER (latest > {at - window}) AS active_days_order_completed_{name}")
        after = f"FILTER (last > {at - window})"
        sessions += [
            f"count(*) {after} AS sessions_long_{name}",
            f"avg((last - first) / {float(MINUTE)}) {after} AS session_minutes_long_{name}",
            f"avg(n) {after} AS session_depth_long_{name}",
            f"avg((n = 1)::DOUBLE) {after} AS bounce_share_long_{name}",
        ]
    zeros = ", ".join(
        f"coalesce({column}, 0) AS {column}"
        for column in (each.rsplit(" AS ", 1)[1] for each in columns + added + days + sessions)
        if column.startswith(("ngram_", "dwell_", "decayed_", "distinct_", "active_days_", "sessions_"))
    )
    return f"""
WITH base AS ({features(events, at=at, windows=windows, kinds=kinds)}),
ever AS (
    SELECT "user", count(*) AS count_any_lifetime,
        count(*) FILTER (event = 'order_completed') AS count_order_completed_lifetime,
        coalesce(sum(revenue), 0) AS sum_order_completed_revenue_lifetime, ({at} - min(ts)) / 1e6 AS tenure_any_s
    FROM {events} WHERE ts <= {at} GROUP BY "user"
),
steps AS (
    SELECT "user", event, ts, product_id, revenue,
        lead(ts) OVER mine - ts AS to_next, lead(event) OVER mine AS following,
        CASE WHEN to_next IS NOT NULL THEN least(to_next, {GAP}) WHEN {at} - ts >= {GAP} THEN {GAP} END AS stay,
        coalesce(ts - lag(ts) OVER mine > {120 * MINUTE}, true) AS starts
    FROM {events} WHERE ts <= {at} AND ts > {at - horizon} WINDOW mine AS (PARTITION BY "user" ORDER BY ts)
),
recently AS MATERIALIZED (
    SELECT *, sum(starts::INTEGER) OVER (PARTITION BY "user" ORDER BY ts ROWS UNBOUNDED PRECEDING) AS run FROM steps
),
totals AS (SELECT "user", {", ".join(columns)} FROM recently GROUP BY "user"),
latest_added AS (
    SELECT "user", product_id, max(ts) AS latest FROM recently
    WHERE event = 'product_added' AND product_id IS NOT NULL GROUP BY "user", product_id
),
added AS (SELECT "user", {", ".join(added)} FROM latest_added GROUP BY "user"),
latest_bought AS (
    SELECT "user", ts // {DAY} AS day, max(ts) AS latest FROM recently
    WHERE event = 'order_completed' GROUP BY "user", day
),
bought AS (SELECT "user", {", ".join(days)} FROM latest_bought GROUP BY "user"),
runs AS (
    SELECT "user", run, min(ts) AS first, max(ts) AS last, count(*) AS n FROM recently GROUP BY "user", run
    HAVING {at} - max(ts) > {120 * MINUTE}
),
long AS (SELECT "user", {", ".join(sessions)} FROM runs GROUP BY "user")
SELECT * REPLACE ({zeros})
FROM base LEFT JOIN ever USING ("user") LEFT JOIN totals USING ("user") LEFT JOIN added USING ("user")
    LEFT JOIN bought USING ("user") LEFT JOIN long USING ("user")
ORDER BY "user"
"""  # noqa: S608 - made of our own names and numbers
