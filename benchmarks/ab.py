"""An A/B analysis of ten million users, ten metrics and twenty segments, from a Parquet file, held to 4 GiB.

`python -m benchmarks.ab [--small] [--json]`. Users are texts, one row each; two shares, seven skewed amounts and a
ratio, with a covariate. What it says is compared with DuckDB's sums of the same file.
"""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import polars as pl

from benchmarks import report
from benchmarks.report import Figure, at_most, note
from benchmarks.scale import confined, peak
from experiments.ab import analyze
from experiments.arms import parts_of, read

ROWS = {"small": 1_000_000, "whole": 10_000_000}
LIMIT, SECONDS = 4 << 30, 60
SEGMENTS = 20
METRICS = ("bought", "returned", *(f"amount_{k}" for k in range(7)), "orders/sessions")
BLOCK = 1_000_000


class Done(NamedTuple):
    """Seconds by the clock and of all cores, bytes at most resident, and the difference of each metric."""

    wall: float
    cpu: float
    peak: int
    differences: dict[str, float]


def main() -> int:
    """Measure, print, and say by the exit code whether the targets hold."""
    options = report.arguments(__doc__ or "")
    n_users = ROWS["small" if options.small else "whole"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "users.parquet"
        write(file, n_users)
        done = confined(partial(work, file), limit=LIMIT)
        check(file, done)
    told = f"{n_users:,} users, {len(METRICS)} metrics, {SEGMENTS} segments"
    return report.report(
        [
            at_most(f"{told}: wall", done.wall, "s", SECONDS),
            Figure(f"{told}: processor time of all cores", done.cpu, "s"),
            at_most(f"{told}: memory", done.peak / 2**30, "GiB", LIMIT / 2**30),
        ],
        as_json=options.json,
    )


def work(file: Path) -> Done:
    """One analysis, reading included."""
    columns = ["user", "arm", "kind", "before", *(side for metric in METRICS for side in parts_of(metric))]
    wall, cpu = time.perf_counter(), time.process_time()
    result = analyze(
        read(file, columns), variant="arm", control="a", metrics=METRICS, user="user", by="kind", covariate="before"
    )
    done = time.perf_counter() - wall, time.process_time() - cpu
    found = {str(one["metric"]): one["difference"]["value"] for one in result.to_dict()["comparisons"]}  # type: ignore[attr-defined,index]
    note(str(result.sample_ratio))
    return Done(*done, peak(), found)


def check(file: Path, done: Done) -> None:
    """The same differences by SQL."""
    for metric in METRICS:
        above, *below = parts_of(metric)
        said = f"sum({above})::double / sum({below[0] if below else 1})"
        rows = duckdb.sql(f"SELECT arm, {said} FROM '{file}' GROUP BY arm").fetchall()  # noqa: S608 - our own names
        means = dict(rows)
        if not np.isclose(done.differences[metric], means["b"] - means["a"], rtol=1e-6, atol=1e-12):
            raise SystemExit(f"{metric} is {done.differences[metric]}, by DuckDB {means['b'] - means['a']}")


def write(file: Path, n_users: int) -> None:
    """Made a block at a time, so that writing takes no more memory than reading."""
    import pyarrow.parquet as pq

    writer = None
    for start in range(0, n_users, BLOCK):
        table = users(start, min(BLOCK, n_users - start)).to_arrow()
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def users(start: int, n: int) -> pl.DataFrame:
    """Some users; arm b buys a little more."""
    random = np.random.default_rng(start)
    arm, before = random.integers(0, 2, n), random.gamma(1.0, 20.0, n)
    sessions = 1 + random.poisson(2, n)
    amounts = {f"amount_{k}": np.exp(random.normal(0, 1, n)) * (1 + 0.1 * k) + 0.01 * before for k in range(7)}
    return pl.DataFrame(
        {
            "user": [f"user-{k:09d}" for k in range(start, start + n)],
            "arm": np.where(arm > 0, "b", "a"),
            "kind": np.char.add("kind-", random.integers(0, SEGMENTS, n).astype(str)),
            "before": before,
            "bought": random.random(n) < 0.05 + 0.001 * arm,
            "returned": random.random(n) < 0.01,
            **amounts,
            "orders": random.binomial(sessions, 0.1 + 0.001 * arm),
            "sessions": sessions,
        }
    )


if __name__ == "__main__":
    raise SystemExit(main())
