"""How long a drift decision takes: every test, columns alone and together, over two frames in memory.

`python -m benchmarks.drift [--small] [--json]`. Columns as features are: bell-shaped, counts, sums of which most are
nothing, recencies with gaps, flags, and a score. No drift is planted; the answer has to be that there is none.
"""

import resource
import time

import numpy as np
import polars as pl

from benchmarks import report
from benchmarks.report import Figure, at_most
from experiments.drift import compare

FEATURES, ROWS = 100, 100_000
LIMIT_S = 10.0


def main() -> int:
    """Measure and print."""
    options = report.arguments(__doc__ or "")
    rows = 10_000 if options.small else ROWS
    random = np.random.default_rng(1)
    before, after = frame(random, rows), frame(random, rows)
    compare(before.head(500), after.head(500))  # libraries are imported once
    wall, cpu = time.perf_counter(), time.process_time()
    found = compare(before, after, scores=["score"])
    seconds = time.process_time() - cpu, time.perf_counter() - wall
    if found.verdict != "no drift":
        raise SystemExit(f"nothing was planted, and the verdict is {found.verdict!r}")
    name = f"{FEATURES} features, {rows:,} against {rows:,} rows"
    figures = [
        at_most(f"{name}, CPU", seconds[0], "s", LIMIT_S),
        Figure(f"{name}, wall", seconds[1], "s"),
        Figure(f"{name}, tests", len(found.findings), "tests"),
        Figure("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "GiB"),
    ]
    return report.report(figures, as_json=options.json)


def frame(random: np.random.Generator, n: int) -> pl.DataFrame:
    """Twenty columns of each of five kinds, and a score."""
    columns = {}
    for place in range(FEATURES // 5):
        columns[f"normal_{place}"] = random.normal(size=n)
        columns[f"count_{place}"] = random.poisson(0.3 + place, n).astype(float)
        columns[f"sum_{place}"] = np.where(random.random(n) < 0.5 + place / 50, 0, random.lognormal(3, 1, n))
        columns[f"recency_{place}"] = np.where(random.random(n) < 0.3, np.nan, random.exponential(9, n))
        columns[f"flag_{place}"] = (random.random(n) < 0.05 + place / 40).astype(float)
    return pl.DataFrame({**columns, "score": random.beta(2, 8, n)})


if __name__ == "__main__":
    raise SystemExit(main())
