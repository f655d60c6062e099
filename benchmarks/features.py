"""The same features by the kernels, Polars and DuckDB: in memory, and end to end from Parquet, compaction included.

`python -m benchmarks.features [--small] [--json]`. Ratios are of seconds taken in one run, best of five warm ones.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numba
import numpy as np
import polars as pl

from benchmarks import report, shop
from benchmarks.queries import duckdb_features, polars_features
from benchmarks.report import Figure, at_least, note
from features.behaviour.feature_set import FeatureSet
from features.behaviour.matrix import FeatureMatrix
from features.events.batch import EventBatch
from features.events.log import EventLog

QUERY = {"at": shop.AT, "windows": shop.WINDOWS, "kinds": shop.EVENTS}
RUNS = 5


def main() -> int:
    """Measure, print, and say by the exit code whether the targets hold."""
    options = report.arguments(__doc__ or "")
    n_events = 1_000_000 if options.small else 20_000_000
    features = shop.feature_set()
    versions = f"Python {sys.version.split()[0]}, numba {numba.__version__}, polars {pl.__version__}"
    note(f"{versions}, duckdb {duckdb.__version__}; {os.cpu_count()} cores")
    events = shop.events(n_events, n_events // 100)
    note(f"{len(events):,} events of {events['user'].n_unique():,} users, {len(features)} features")
    figures = [compile_time(events, features), *in_memory(events, features)]
    with tempfile.TemporaryDirectory() as folder:
        figures += from_parquet(events, features, Path(folder))
    return report.report(figures, as_json=options.json)


def compile_time(events: pl.DataFrame, features: FeatureSet) -> Figure:
    """Seconds of the first call: from the cache on disk where it is there."""
    user = shop.histories(events.head(1), features)
    started = time.perf_counter()
    features.compute(user, shop.AT)
    return Figure("first call (compile, or load from cache)", time.perf_counter() - started, "s")


def in_memory(events: pl.DataFrame, features: FeatureSet) -> list[Figure]:
    """Everybody gets the events in the layout it likes best: slots, a sorted frame, a table."""
    histories = shop.histories(events, features)
    rivals = polars_rivals(events.lazy()) | duckdb_rival("events", events)
    ours = features.compute(histories, shop.AT)
    for name, rival in rivals.items():
        assert_equal(ours, rival(), name)
    seconds = {"kernels": report.best(lambda: features.compute(histories, shop.AT), runs=RUNS)}
    seconds |= {name: report.best(rival, runs=RUNS) for name, rival in rivals.items()}
    return figures("in memory", seconds, polars_target=5)


def from_parquet(events: pl.DataFrame, features: FeatureSet, folder: Path) -> list[Figure]:
    """Parts as cleaning leaves them, in the order of arrival; compaction, histories and features are timed."""
    log = parts(events, folder / "log")
    files = sorted((folder / "log" / "parts").glob("*/events-*.parquet"))
    scan = pl.scan_parquet(files).rename({"user_id": "user", "p_product_id": "product_id", "p_revenue": "revenue"})
    columns = 'user_id AS "user", event, ts, p_product_id AS product_id, p_revenue AS revenue'
    table = f"(SELECT {columns} FROM read_parquet({[str(file) for file in files]}))"  # noqa: S608 - our own files

    def ours(*, fresh: bool) -> FeatureMatrix:
        if fresh:
            shutil.rmtree(folder / "log" / "buckets", ignore_errors=True)
        blocks = log.map(lambda rows: features.compute(rows.histories(features.schema), shop.AT, threads=1))
        return sorted_by_user(list(blocks))

    rivals = polars_rivals(scan.sort("user", "ts")) | duckdb_rival(table)
    matrix = ours(fresh=True)
    for name, rival in rivals.items():
        assert_equal(matrix, rival(), name)
    seconds = {"kernels": report.best(lambda: ours(fresh=True), runs=RUNS)}
    seconds |= {name: report.best(rival, runs=RUNS) for name, rival in rivals.items()}
    seconds["kernels, compacted before"] = report.best(lambda: ours(fresh=False), runs=RUNS)
    return figures("from Parquet", seconds, polars_target=1)


def parts(events: pl.DataFrame, folder: Path) -> EventLog:
    """The events as a log's parts, shuffled by two minutes as arrivals are."""
    log = EventLog(folder, shop.PLAN, key=b"benchmark")
    random = np.random.default_rng(1)
    order = np.argsort(events["ts"].to_numpy() + random.integers(0, 120_000_000, len(events)))
    for place, start in enumerate(range(0, len(order), shop.BLOCK)):
        frame = shop.log_frame(events[order[start : start + shop.BLOCK]])
        frame = frame.rename({"user": "user_id"}).drop("known", "until").with_columns(source=pl.lit("benchmark"))
        log.append(EventBatch(frame, shop.PLAN), name=f"part-{place:03}")
    return log


def sorted_by_user(blocks: list[FeatureMatrix]) -> FeatureMatrix:
    """Blocks as one matrix, in the rivals' order."""
    users = np.concatenate([block.users for block in blocks])
    order = pl.Series(users.tolist()).arg_sort().to_numpy()
    values, at, capped = (
        np.concatenate([getattr(each, name) for each in blocks]) for name in ("values", "at", "capped")
    )
    first = blocks[0]
    return FeatureMatrix(values[order], users[order], at, first.names, first.fingerprint, capped[order])


def polars_rivals(events: pl.LazyFrame) -> dict[str, Callable[[], pl.DataFrame]]:
    """Polars by both of its engines."""
    query = polars_features.features(events, **QUERY)
    return {
        "Polars": lambda: query.collect(engine="in-memory"),
        "Polars streaming": lambda: query.collect(engine="streaming"),
    }


def duckdb_rival(table: str, events: pl.DataFrame | None = None) -> dict[str, Callable[[], pl.DataFrame]]:
    """DuckDB over a table of its own, or over files."""
    connection = duckdb.connect()
    if events is not None:
        connection.execute(f"CREATE TABLE {table} AS SELECT * FROM events")  # noqa: S608 - a name of ours
    query = duckdb_features.features(table, **QUERY)
    return {"DuckDB": lambda: pl.DataFrame(connection.sql(query).to_arrow_table())}


def assert_equal(ours: FeatureMatrix, theirs: pl.DataFrame, name: str) -> None:
    """Every column: counts exactly, what is a quotient or a sum of floats to 1e-6."""
    np.testing.assert_equal(len(theirs), len(ours), err_msg=f"{name}: rows")
    for column in ours.names:
        other = theirs[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        exact = column.startswith(("count_", "distinct_", "active_days_", "sessions_"))
        tolerance = 0 if exact else 1e-6
        np.testing.assert_allclose(ours.column(column), other, rtol=tolerance, atol=tolerance, err_msg=column)
    note(f"{name}: every column is equal")


def figures(where: str, seconds: dict[str, float], *, polars_target: float) -> list[Figure]:
    """The seconds, and how many times longer the rivals take."""
    ours = seconds["kernels"]
    polars = min(seconds["Polars"], seconds["Polars streaming"])
    return [
        *[Figure(f"{where}: {name}", value, "s") for name, value in seconds.items()],
        at_least(f"{where}: Polars at its best / kernels", polars / ours, "x", polars_target),
        Figure(f"{where}: DuckDB / kernels", seconds["DuckDB"] / ours, "x"),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
