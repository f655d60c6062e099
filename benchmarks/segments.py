"""A hundred segments: against the same conditions as DuckDB SQL, of one user, and as a plan of everybody in a log.

`python -m benchmarks.segments [--small] [--json]`. Members are compared one by one before anything is timed; ratios are
of processor seconds taken in one run.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from benchmarks import report, shop
from benchmarks.features import parts
from benchmarks.report import Figure, at_least, at_most, note
from experiments.enrolment import Enrolment
from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.events.plan import Codes
from features.instants import DAY, HOUR, format_duration
from features.project import Project
from features.segments.segment_set import SegmentSet
from features.segments.snapshots import taken

FEATURES = [{"count": list(shop.EVENTS), "windows": ["30d"]}]
HORIZON = 90 * DAY
Said = tuple[str, dict[str, object], str]
"""A name, a condition, and the same condition as SQL."""


def main() -> int:
    """Measure, print, and say by the exit code whether the targets hold."""
    options = report.arguments(__doc__ or "")
    n_events, n_users = (1_000_000, 10_000) if options.small else (20_000_000, 1_000_000)
    said = [*counts(), *comparisons(), *percentiles(), *sequences()]
    features = FeatureSet.from_dict({"features": FEATURES}, shop.PLAN, Codes.of(shop.PLAN), bound=1_000_000)
    declared = {"segments": {name: {"when": when} for name, when, _ in said}}
    segments = SegmentSet.from_dict(declared, shop.PLAN, Codes.of(shop.PLAN), features)
    features = features.on(features.schema.union(segments.schema))
    segments = segments.on(features.schema)
    events = shop.events(n_events, n_users)
    note(f"{len(events):,} events of {events['user'].n_unique():,} users, {len(segments)} segments")
    figures = [*everybody(events, features, segments, said), *one_user(features, segments)]
    with tempfile.TemporaryDirectory() as folder:
        figures += planned(events, declared, Path(folder))
    return report.report(figures, as_json=options.json)


def counts() -> Iterator[Said]:
    """Sixty: so many events of a kind within a window."""
    for event, days, least in product(shop.EVENTS, (1, 3, 7, 30, 90), (1, 3, 10)):
        sql = f"count(*) FILTER (event = '{event}' AND ts > {shop.AT - days * DAY}) >= {least}"
        yield f"{event}_{days}_{least}", {"did": {"event": event, "count": {"gte": least}, "last": f"{days}d"}}, sql


def comparisons() -> Iterator[Said]:
    """Twenty: viewed, not bought, and so many times as much viewed as bought."""
    for days, factor in product((1, 3, 7, 30, 90), (2, 5, 10, 20)):
        window = f"ts > {shop.AT - days * DAY}"
        viewed, bought = (
            f"count(*) FILTER (event = '{each}' AND {window})" for each in ("product_viewed", "order_completed")
        )
        left, right = ({"event": each, "last": f"{days}d"} for each in ("product_viewed", "order_completed"))
        when = {"compare": {"left": left, "op": "gt", "right": right, "factor": factor}}
        yield f"looks_{days}_{factor}", when, f"{viewed} > {factor} * {bought}"


def percentiles() -> Iterator[Said]:
    """Eight: at or above the value that so many do not exceed."""
    for event, q in product(shop.EVENTS, (50, 80)):
        when = {"percentile": {"feature": f"count_{event}_30d", "gte": q}}
        bound = f"(SELECT quantile_disc({event}_30, {q / 100}) FROM figures)"  # noqa: S608 - our own names
        yield f"top_{event}_{q}", when, f"{event}_30 >= {bound}"


def sequences() -> Iterator[Said]:
    """Twelve: the same product twice within hours, and then not for days."""
    for hours, days in product((1, 6, 24, 72), (1, 7, 14)):
        steps = [
            {"event": "product_viewed"},
            {"event": "product_viewed", "within": f"{hours}h"},
            {"not": {"event": "product_viewed"}, "within": f"{days}d"},
        ]
        when = {"sequence": {"match": "any", "same": ["product_id"], "steps": steps}}
        due = f"second + {days * DAY}"
        sql = f"bool_or(second - ts <= {hours * HOUR} AND {due} <= {shop.AT} AND (third IS NULL OR third > {due}))"
        yield f"again_{format_duration(hours * HOUR)}_{days}", when, sql


def query(said: list[Said]) -> str:
    """All conditions as one statement: aggregates of users, percentiles of aggregates, and runs of the same product."""
    known = f"ts <= {shop.AT} AND ts > {shop.AT - HORIZON}"
    plain = [(name, sql) for name, when, sql in said if "did" in when or "compare" in when]
    cuts = [(name, sql) for name, when, sql in said if "percentile" in when]
    runs = [(name, sql) for name, when, sql in said if "sequence" in when]
    month = [f"count(*) FILTER (event = '{each}' AND ts > {shop.AT - 30 * DAY}) AS {each}_30" for each in shop.EVENTS]
    after = 'OVER (PARTITION BY "user", product_id ORDER BY ts, id)'
    listed = ", ".join(f'{sql} AS "{name}"' for name, sql in plain)
    return f"""
        WITH figures AS (SELECT "user", {", ".join(month)}, {listed} FROM events WHERE {known} GROUP BY "user"),
        viewed AS (
            SELECT "user", ts, lead(ts, 1) {after} AS second, lead(ts, 2) {after} AS third
            FROM events WHERE {known} AND event = 'product_viewed' AND product_id IS NOT NULL
        ),
        again AS (SELECT "user", {", ".join(f'{sql} AS "{name}"' for name, sql in runs)} FROM viewed GROUP BY "user")
        SELECT figures."user", {", ".join(f'"{name}"' for name, _ in plain)},
            {", ".join(f'{sql} AS "{name}"' for name, sql in cuts)},
            {", ".join(f'coalesce("{name}", false) AS "{name}"' for name, _ in runs)}
        FROM figures LEFT JOIN again ON figures."user" = again."user" ORDER BY figures."user"
    """  # noqa: S608 - our own names


def everybody(events: pl.DataFrame, features: FeatureSet, segments: SegmentSet, said: list[Said]) -> list[Figure]:
    """Everybody in memory, in the layout that each likes best."""
    histories = shop.histories(events, features)
    active = events.filter(pl.col("ts") <= shop.AT, pl.col("ts") > shop.AT - HORIZON)["user"].unique()
    inside = np.isin(histories.users, np.array([f"user-{user:08}" for user in active.to_list()], object))
    histories = histories.take(np.flatnonzero(inside))
    fitted = segments.fitted(taken(segments, histories, shop.AT, features=features.compute(histories, shop.AT)))
    connection, statement = duckdb.connect(), query(said)
    connection.execute("CREATE TABLE events AS SELECT * FROM events")

    def ours() -> np.ndarray:
        matrix = features.compute(histories, shop.AT)
        return fitted.evaluate(histories, shop.AT, features=matrix).values

    def theirs() -> pl.DataFrame:
        return pl.DataFrame(connection.sql(statement).to_arrow_table())

    found, wanted = ours() > 0, theirs()
    for place, name in enumerate(fitted.names):
        np.testing.assert_array_equal(found[:, place], wanted[name].to_numpy(), err_msg=name)
    note("DuckDB: every segment has the same members")
    mine, rival = seconds(ours), seconds(theirs)
    return [
        Figure("everybody: segments", mine, "s CPU"),
        Figure("everybody: DuckDB", rival, "s CPU"),
        at_least("everybody: DuckDB / segments", rival / mine, "x", 10),
    ]


def one_user(features: FeatureSet, segments: SegmentSet) -> list[Figure]:
    """One user of 200 events, from the state's bytes to every truth."""
    state = shop.histories(shop.events(200, 1), features).state(0)

    def answer() -> None:
        one = Histories.from_states(features.schema, ["somebody"], [state])
        segments.evaluate(one, shop.AT, features=features.compute(one, shop.AT))

    answer()
    return [
        at_most("one user, features and segments", seconds(lambda: [answer() for _ in range(500)]) * 2, "ms CPU", 0.2)
    ]


def planned(events: pl.DataFrame, declared: dict[str, object], folder: Path) -> list[Figure]:
    """`segments plan` of a log on disk that was compacted before."""
    parts(events, folder / ".ethogram" / "log").compact()
    for name, said in (
        ("plan.yaml", shop.PLAN.model_dump(mode="json", exclude_none=True)),
        ("features.yaml", {"features": FEATURES}),
    ):
        (folder / name).write_text(json.dumps(said))
    (folder / "segments.yaml").write_text(json.dumps(declared))
    (folder / "ethogram.yaml").write_text("version: 1\nname: bench\nbound: 1000000\n")
    started = time.perf_counter()
    plan = Enrolment.plan(Project.find(folder), at=shop.AT)
    taken_s = time.perf_counter() - started
    note(f"{sum(line.after for line in plan.lines):,} memberships")
    return [at_most("plan, wall", taken_s, "s", 60)]


def seconds(work: Callable[[], object], *, runs: int = 3) -> float:
    """Processor seconds of all threads, the best of some runs."""
    found = []
    for _ in range(runs):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


if __name__ == "__main__":
    raise SystemExit(main())
