"""Training rows: features of persons at several instants each, some 100 events a row, by the kernels and by DuckDB.

`python -m benchmarks.training_rows [--small] [--json]`. Seconds are of all cores together, best of three.
"""

import sys
import time

import duckdb
import numba
import numpy as np
import polars as pl

from benchmarks import report, shop
from benchmarks.report import Figure, at_least, note
from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.events.plan import Codes
from features.instants import DAY
from training.cuts import CutsSpec
from training.label import Condition, Label
from training.training_set import TrainingSet

CUTS = 4
PER_USER = 133
"""Events of a user in 120 days: some 100 of them in the 90 days before a row's instant."""

ADDITIVE = [{"count": ["any", *shop.EVENTS], "sum": "order_completed.revenue", "windows": list(shop.WINDOWS)}]


def main() -> int:
    """Measure, print, and say by the exit code whether the targets hold."""
    options = report.arguments(__doc__ or "")
    n_users = 3_000 if options.small else 30_000
    note(f"Python {sys.version.split()[0]}, numba {numba.__version__}, duckdb {duckdb.__version__}; CPU seconds")
    events = shop.events(n_users * PER_USER, n_users)
    sets = {len(each): each for each in map(shop.feature_set, (shop.DECLARED, shop.WIDE))}
    histories = shop.histories(events, shop.feature_set(shop.WIDE))
    rows, at = asked(len(histories))
    note(
        f"{len(events):,} events of {len(histories):,} users, {len(rows):,} rows, features: {', '.join(map(str, sets))}"
    )
    figures = [Figure("events a row, in the horizon", held(histories, rows, at), "")]
    for (n, features), target in zip(sorted(sets.items()), (100_000, 40_000), strict=True):
        seconds = report.best(lambda f=features: compute(f, histories, rows, at), runs=3, clock=time.process_time)
        figures.append(at_least(f"{n} features", len(rows) / seconds, "rows/s a core", target))
    figures += against_duckdb(events, histories, rows, at)
    figures.append(whole_training_set(histories))
    return report.report(figures, as_json=options.json)


def asked(n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Every user at so many instants of the last 30 days, in order of users."""
    at = shop.AT - (30 * DAY * np.random.default_rng(3).random(n_users * CUTS)).astype(np.int64)
    return np.repeat(np.arange(n_users), CUTS), at


def held(histories: Histories, rows: np.ndarray, at: np.ndarray) -> float:
    """Events of a row in its horizon."""
    counts = shop.feature_set([{"count": ["any"], "windows": ["90d"]}])
    return float(compute(counts, histories, rows, at)[:, 0].mean())


def compute(features: FeatureSet, histories: Histories, rows: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The rows' values, on one core."""
    return features.on(histories.schema).compute(histories.take(rows), at, threads=1).values


def against_duckdb(events: pl.DataFrame, histories: Histories, rows: np.ndarray, at: np.ndarray) -> list[Figure]:
    """The additive features by both; money in minor units, so that every value is equal to the bit."""
    features = shop.feature_set(ADDITIVE)
    connection = duckdb.connect()
    people = pl.Series("user", histories.users.tolist()).str.slice(5).cast(pl.UInt32)
    wanted = pl.DataFrame({"row": np.arange(len(rows)), "user": people[rows], "as_of": at})
    cents = events.with_columns(cents=(pl.col("revenue") * 100).round().cast(pl.Int64))
    for name, frame in (("events", cents), ("wanted", wanted)):
        connection.register("frame", frame.to_arrow())
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")  # noqa: S608 - two names of ours
    query = range_join(features.names)

    def theirs() -> np.ndarray:
        return pl.DataFrame(connection.sql(query).to_arrow_table()).to_numpy()

    np.testing.assert_array_equal(compute(features, histories, rows, at), theirs())
    note(f"DuckDB: {len(features)} additive features of every row are equal to the bit")
    seconds = {
        "kernels": report.best(lambda: compute(features, histories, rows, at), runs=3, clock=time.process_time),
        "DuckDB": report.best(theirs, runs=3, clock=time.process_time),
    }
    told = [Figure(f"{len(features)} additive features: {name}", value, "s") for name, value in seconds.items()]
    return [*told, at_least("DuckDB's range join / kernels", seconds["DuckDB"] / seconds["kernels"], "x", 20)]


def range_join(names: tuple[str, ...]) -> str:
    """The statement; a row per wanted row, in their order."""
    values = []
    for name in names:
        stat, what, window = name.partition("_")[0], name.partition("_")[2].rpartition("_")[0], name.rpartition("_")[2]
        kind = "order_completed" if stat == "sum" else what
        only = "" if kind == "any" else f" AND event = '{kind}'"
        value = f"FILTER (ts > as_of - {shop.WINDOWS[window]}{only})"
        value = f"coalesce(sum(cents) {value}, 0) / 100.0" if stat == "sum" else f"count(ts) {value}"
        values.append(f'({value})::DOUBLE AS "{name}"')
    horizon = max(shop.WINDOWS.values())
    return f"""
SELECT {", ".join(values)} FROM wanted LEFT JOIN events
    ON wanted."user" = events."user" AND events.ts <= wanted.as_of AND events.ts > wanted.as_of - {horizon}
GROUP BY wanted.row ORDER BY wanted.row
"""  # noqa: S608 - made of our own names and numbers


def whole_training_set(histories: Histories) -> Figure:
    """Population, consent, cuts and labels too, 63 features."""
    features = shop.feature_set()
    label, active = Label(did="order_completed", within="7d"), Condition(did="any", within="30d")
    options = {"plan": shop.PLAN, "codes": Codes.of(shop.PLAN), "population": active}
    cuts = CutsSpec(every="7d", last=CUTS)
    sizes: list[int] = []

    def build() -> None:
        sizes.append(len(TrainingSet.build(histories, features, label, cuts, **options)))

    seconds = report.best(build, runs=3, clock=time.process_time)
    return Figure(f"whole training set, {len(features)} features", sizes[0] / seconds, "rows/s a core")


if __name__ == "__main__":
    raise SystemExit(main())
