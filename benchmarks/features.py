"""The same features by the kernels, Polars and DuckDB: in memory, and end to end from Parquet, compaction included.

`python -m benchmarks.features [--small] [--json]`. Ratios are of seconds taken in one run, best of five warm ones.
"""

import ctypes
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks import report, shop
from benchmarks.queries import duckdb_features, polars_features
from benchmarks.report import Figure, at_least, note
from features.behaviour.feature_set import FeatureSet
from features.behaviour.matrix import FeatureMatrix
from features.events.batch import EventBatch
from features.events.log import EventLog

QUERY = {"at": shop.AT, "windows": shop.WINDOWS, "kinds": shop.EVENTS}
WIDE = QUERY | {"pairs": shop.PAIRS, "bands": shop.BANDS}
RUNS = 5
MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""What malloc.h calls M_MMAP_MAX and M_TRIM_THRESHOLD."""


def main() -> int:
    """Measure, print, and say by the exit code whether the targets hold."""
    options = report.arguments(__doc__ or "")
    n_events = 1_000_000 if options.small else 20_000_000
    keep_memory()
    features = shop.feature_set()
    versions = f"Python {sys.version.split()[0]}, numba {numba.__version__}, polars {pl.__version__}"
    note(f"{versions}, duckdb {duckdb.__version__}; {os.cpu_count()} cores")
    events = shop.events(n_events, n_events // 100)
    note(f"{len(events):,} events of {events['user'].n_unique():,} users, {len(features)} features")
    figures = [compile_time(events, features), *in_memory(events, features), *wide(events)]
    with tempfile.TemporaryDirectory() as folder:
        figures += from_parquet(events, features, Path(folder))
    return report.report(figures, as_json=options.json)


def keep_memory() -> None:
    """Have the C library keep what was freed, as the allocators of both rivals do.

    Half a gigabyte of results would go back to the machine after each run otherwise, and be made empty for the next;
    where the machine is a guest its host takes that memory away, and a run took up to twice its time.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # glibc's
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def compile_time(events: pl.DataFrame, features: FeatureSet) -> Figure:
    """Seconds of the first call: from the cache on disk where it is there."""
    user = shop.histories(events.head(1), features)
    started = time.perf_counter()
    features.compute(user, shop.AT)
    return Figure("first call (compile, or load from cache)", time.perf_counter() - started, "s")


def in_memory(events: pl.DataFrame, features: FeatureSet) -> list[Figure]:
    """Everybody gets the events in the layout it likes best: slots, a sorted frame, a table."""
    histories = shop.histories(events, features)
    rivals = polars_rivals(polars_features.features(events.lazy(), **QUERY))
    rivals |= duckdb_rival(duckdb_features.features("events", **QUERY), events)
    seconds = raced(lambda: features.compute(histories, shop.AT), rivals)
    read = report.best(lambda: plain_sum(histories.slots), runs=RUNS)
    bandwidth = histories.slots.nbytes / 1e9
    return [
        *figures("in memory", seconds, polars_target=20, duckdb_target=40),
        Figure("in memory: a plain sum of the same bytes, on all cores", bandwidth / read, "GB/s"),
        Figure("in memory: share of that bandwidth that the kernels reach", read / seconds["kernels"], ""),
    ]


def wide(events: pl.DataFrame) -> list[Figure]:
    """Ours has all families; the rivals have about half of the features, in so far as they are plainly expressed."""
    features = shop.feature_set(shop.WIDE)
    histories = shop.histories(events, features)
    rivals = polars_rivals(polars_features.wide(events.lazy(), **WIDE))
    rivals |= duckdb_rival(duckdb_features.wide("events", **WIDE), events)
    seconds = raced(lambda: features.compute(histories, shop.AT), rivals)
    return figures(f"{len(features)} features in memory", seconds, polars_target=10, duckdb_target=25)


def raced(ours: Callable[[], FeatureMatrix], rivals: dict[str, Callable[[], pl.DataFrame]]) -> dict[str, float]:
    """Seconds of each, after all gave equal results."""
    matrix = ours()
    for name, rival in rivals.items():
        assert_equal(matrix, rival(), name)
    return {name: report.best(each, runs=RUNS) for name, each in ({"kernels": ours} | rivals).items()}


def plain_sum(slots: NDArray[np.int64]) -> None:
    """Read every byte once, each core its part."""
    n_cores = os.cpu_count() or 1
    with ThreadPoolExecutor(n_cores) as threads:
        list(threads.map(np.sum, np.array_split(slots.reshape(-1), n_cores)))


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

    rivals = polars_rivals(polars_features.features(scan.sort("user", "ts"), **QUERY))
    rivals |= duckdb_rival(duckdb_features.features(table, **QUERY))
    seconds = raced(lambda: ours(fresh=True), rivals)
    compacted = report.best(lambda: ours(fresh=False), runs=RUNS)
    return [
        *figures("from Parquet", seconds, polars_target=1),
        Figure("from the compacted log: kernels", compacted, "s"),
        at_least("Polars from Parquet / kernels from the compacted log", polars_best(seconds) / compacted, "x", 5),
    ]


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


def polars_rivals(query: pl.LazyFrame) -> dict[str, Callable[[], pl.DataFrame]]:
    """Polars by both of its engines."""
    return {
        "Polars": lambda: query.collect(engine="in-memory"),
        "Polars streaming": lambda: query.collect(engine="streaming"),
    }


def duckdb_rival(query: str, events: pl.DataFrame | None = None) -> dict[str, Callable[[], pl.DataFrame]]:
    """DuckDB over a table of its own, or over files."""
    connection = duckdb.connect()
    if events is not None:
        connection.execute("CREATE TABLE events AS SELECT * FROM events")
    return {"DuckDB": lambda: pl.DataFrame(connection.sql(query).to_arrow_table())}


def assert_equal(ours: FeatureMatrix, theirs: pl.DataFrame, name: str) -> None:
    """Every column that they have: counts exactly, what is a quotient or a sum of floats to 1e-6."""
    np.testing.assert_equal(len(theirs), len(ours), err_msg=f"{name}: rows")
    for column in theirs.columns[1:]:
        other = theirs[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        exact = column.startswith(("count_", "distinct_", "active_days_", "sessions_", "ngram_"))
        tolerance = 0 if exact else 1e-6
        np.testing.assert_allclose(ours.column(column), other, rtol=tolerance, atol=tolerance, err_msg=column)
    note(f"{name}: all of its {len(theirs.columns) - 1} columns are equal")


def figures(where: str, seconds: dict[str, float], *, polars_target: float, duckdb_target: float = 1) -> list[Figure]:
    """The seconds, and how many times longer the rivals take."""
    ours = seconds["kernels"]
    return [
        *[Figure(f"{where}: {name}", value, "s") for name, value in seconds.items()],
        at_least(f"{where}: Polars at its best / kernels", polars_best(seconds) / ours, "x", polars_target),
        at_least(f"{where}: DuckDB / kernels", seconds["DuckDB"] / ours, "x", duckdb_target),
    ]


def polars_best(seconds: dict[str, float]) -> float:
    """Of both engines the faster one."""
    return min(seconds["Polars"], seconds["Polars streaming"])


if __name__ == "__main__":
    raise SystemExit(main())
