"""The benchmark's features as one SQL statement for DuckDB, written as the Polars expressions are."""

from features.instants import DAY, MINUTE

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
