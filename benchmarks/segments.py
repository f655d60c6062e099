"""A hundred segments of everybody in a log on disk, by DuckDB SQL of the same conditions; of one user; and as plans.

`python -m benchmarks.segments [--small] [--json] [--folder FOLDER]`. The log is compacted, DuckDB's own table filled in
the same order, before anything is timed; both then read from disk, on all cores. Members are compared one by one;
ratios are of processor seconds taken in one run. In FOLDER log and table are made once, and found again.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from benchmarks import report, scale, shop
from benchmarks.report import Figure, at_least, at_most, note
from experiments.enrolment import Enrolment
from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.events.log import EventLog
from features.events.plan import Codes
from features.events.rows import Rows
from features.instants import DAY, HOUR, format_duration
from features.project import Project
from features.segments.segment_set import SegmentSet, Truths
from features.segments.snapshots import Columns, Work, taken

FEATURES = [{"count": list(shop.EVENTS), "windows": ["30d"]}]
HORIZON = 90 * DAY
TABLE, MEMORY = "events.duckdb", "8GB"
"""DuckDB's file, and what it may take of memory."""

Said = tuple[str, dict[str, object], str]
"""A name, a condition, and the same condition as SQL."""


def main() -> int:
    """Measure, print, and say by the exit code whether the targets hold."""
    options = report.arguments(__doc__ or "", folder=True)
    n_events, block = (1_000_000, 100_000) if options.small else (100_000_000, 1_000_000)
    said = [*counts(), *comparisons(), *percentiles(), *sequences()]
    features = FeatureSet.from_dict({"features": FEATURES}, shop.PLAN, Codes.of(shop.PLAN), bound=1_000_000)
    declared = {"segments": {name: {"when": when} for name, when, _ in said}}
    segments = SegmentSet.from_dict(declared, shop.PLAN, Codes.of(shop.PLAN), features)
    features = features.on(features.schema.union(segments.schema))
    segments = segments.on(features.schema)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        log = filled(folder, n_events, block)
        note(f"{n_events:,} events, {len(segments)} segments")
        figures = one_user(features, segments)
        figures += everybody(log, folder / TABLE, features, segments, said)
        figures += planned(folder, declared)
    return report.report(figures, as_json=options.json)


def filled(folder: Path, n_events: int, block: int) -> EventLog:
    """A compacted log, and DuckDB's table of the same events, by user and time."""
    log = EventLog(folder / ".ethogram" / "log", shop.PLAN, key=b"benchmark")
    if not list(log.parts):
        scale.write(log.path, n_events, block=block)
    log.compact()
    with duckdb.connect(folder / TABLE) as connection:
        if not connection.sql("SHOW TABLES").fetchall():
            kinds = ", ".join(f"'{event}'" for event in shop.EVENTS)
            columns = '"user" VARCHAR, event kind, ts BIGINT, id BIGINT, product_id VARCHAR'
            connection.execute(f"CREATE TYPE kind AS ENUM ({kinds}); CREATE TABLE events ({columns})")
            for frame in log.map(stored):
                connection.register("block", frame)
                connection.execute("INSERT INTO events SELECT * FROM block")
    return log


def stored(rows: Rows) -> pl.DataFrame:
    """The columns of DuckDB's table."""
    return rows.bucket.read(rows.folder, ["user", "event", "ts", "id", "p_product_id"])


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
    """Eight: at or above the frozen value that so many do not exceed; as SQL, what is compared with it."""
    for event, q in product(shop.EVENTS, (50, 80)):
        when = {"percentile": {"feature": f"count_{event}_30d", "gte": q}}
        yield f"top_{event}_{q}", when, f"{event}_30"


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


def query(said: list[Said], bounds: Mapping[str, float]) -> str:
    """All conditions as one statement: aggregates of users, which bounds are laid at, and runs of the same product."""
    known = f"ts <= {shop.AT} AND ts > {shop.AT - HORIZON}"
    plain = [(name, sql) for name, when, sql in said if "did" in when or "compare" in when]
    cuts = [(name, f"{sql} >= {bounds[name]}") for name, when, sql in said if "percentile" in when]
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
        FROM figures LEFT JOIN again ON figures."user" = again."user"
    """  # noqa: S608 - our own names


def everybody(log: EventLog, table: Path, features: FeatureSet, segments: SegmentSet, said: list[Said]) -> list[Figure]:
    """Everybody in the log, and in DuckDB's table."""

    def part(work: Work, rows: Rows) -> Columns:
        histories = rows.histories(features.schema)
        return work(histories, features.compute(histories, shop.AT, threads=1), {})

    fitted = segments.fitted(taken(segments, lambda work: log.map(partial(part, work)), shop.AT))
    bounds = {each.name: cut.values[0] for each in fitted.segments for cut in fitted.compared(each)}
    connection = duckdb.connect(table, read_only=True, config={"memory_limit": MEMORY})
    statement = query(said, bounds)

    def ours() -> list[Truths]:
        return list(log.map(partial(truths, features, fitted)))

    def theirs() -> pl.DataFrame:
        return pl.DataFrame(connection.sql(statement).to_arrow_table())

    compare(ours(), theirs())
    mine, rival = seconds(ours), seconds(theirs)
    return [
        Figure("everybody, from disk: segments", mine, "s CPU"),
        Figure("everybody, from disk: DuckDB", rival, "s CPU"),
        at_least("everybody, from disk: DuckDB / segments", rival / mine, "x", 10),
    ]


def truths(features: FeatureSet, segments: SegmentSet, rows: Rows) -> Truths:
    """One bucket's, on one core; as everywhere, features are made where a segment asks one that is no count."""
    histories = rows.histories(features.schema)
    matrix = features.compute(histories, shop.AT, threads=1) if segments.inputs else None
    return segments.evaluate(histories, shop.AT, features=matrix, until=None, threads=1)


def compare(ours: list[Truths], theirs: pl.DataFrame) -> None:
    """Of everybody with an event in the last ninety days, whom alone SQL knows, every segment has the same members."""
    users = pl.DataFrame({"user": [user for each in ours for user in each.users.tolist()]}).with_row_index("row")
    rows = theirs.join(users, on="user", how="left", maintain_order="left")["row"].to_numpy()
    found = np.concatenate([each.values for each in ours])[rows] > 0
    for place, name in enumerate(ours[0].names):
        np.testing.assert_array_equal(found[:, place], theirs[name].to_numpy(), err_msg=name)
    note(f"DuckDB: every segment has the same members, {found.sum():,} memberships of {len(rows):,} users")


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


def planned(folder: Path, declared: dict[str, object]) -> list[Figure]:
    """`segments plan` of the same log: a first one, and after it was applied one of a day later."""
    for name, said in (
        ("plan.yaml", shop.PLAN.model_dump(mode="json", exclude_none=True) | {"too_fast": None}),
        ("features.yaml", {"features": FEATURES}),
        ("segments.yaml", declared),
        ("ethogram.yaml", {"version": 1, "name": "bench", "bound": 1_000_000}),
    ):
        (folder / name).write_text(json.dumps(said))
    shutil.rmtree(folder / ".ethogram" / "memberships", ignore_errors=True)
    figures = []
    for name, at in (("first", shop.AT - DAY), ("later", shop.AT)):
        cpu, wall, peak, n_members, n_changes = scale.confined(partial(plan, folder, at))
        note(f"{name} plan: {n_members:,} memberships, {n_changes:,} changes; at most {peak / 2**30:.1f} GiB")
        figures += [Figure(f"{name} plan, CPU", cpu, "s CPU"), at_most(f"{name} plan, wall", wall, "s", 60)]
    return figures


def plan(folder: Path, at: int) -> tuple[float, float, int, int, int]:
    """CPU seconds, seconds, bytes at most, memberships and changes of a plan in a process of its own; it is applied."""
    clock = time.process_time(), time.perf_counter()
    made = Enrolment.plan(Project.find(folder), at=at)
    cpu, wall, peak = time.process_time() - clock[0], time.perf_counter() - clock[1], scale.peak()
    made.apply()
    return cpu, wall, peak, sum(line.after for line in made.lines), made.changes.height


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
