"""One user's features as a request computes them: a state of 200 events, the 300 features of all families.

`python -m benchmarks.one_user [--small] [--json]`.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import report, shop
from benchmarks.report import Figure, at_most, note
from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from serving.store import SqliteStore

N_EVENTS = 200
WARM_UP = """
from benchmarks import shop
from features.behaviour.histories import Histories
features = shop.feature_set(shop.WIDE)
features.compute(Histories.from_states(features.schema, ["ann"], [b""]), shop.AT)
"""


def main() -> int:
    """Measure, print, and say by the exit code whether the targets hold."""
    options = report.arguments(__doc__ or "")
    features = shop.feature_set(shop.WIDE)
    state = shop.histories(shop.events(N_EVENTS, 1), features).state(0)
    note(f"{N_EVENTS} events, {len(features)} features")
    shuffled = np.frombuffer(state, np.int64).reshape(N_EVENTS, -1)
    shuffled = shuffled[np.random.default_rng(1).permutation(N_EVENTS)].tobytes()
    n_calls = 2_000 if options.small else 20_000
    figures = [
        *timed("state to row", row_of(features, [state]), n_calls, median=50, tail=150),
        *timed("state in no order to row", row_of(features, [shuffled]), n_calls),
        *timed("500 states to rows, each", row_of(features, [state] * 500), n_calls // 200, each=500),
        *stored(features, state, n_calls),
        warm_up(),
    ]
    return report.report(figures, as_json=options.json)


def row_of(features: FeatureSet, states: list[bytes]) -> Callable[[], object]:
    """From the bytes of states to the values of rows."""
    users = [str(place) for place in range(len(states))]
    return lambda: features.compute(Histories.from_states(features.schema, users, states), shop.AT)


def stored(features: FeatureSet, state: bytes, n_calls: int) -> list[Figure]:
    """From SQLite to histories."""
    with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder) / "state.db") as store:
        with store.writing() as db:
            store.declare(db, features.schema)
            db.execute("UPDATE schemas SET filled = 1")
        with store.writing() as db:
            store.put(db, store.live(db)[0], "ann", state, None)

        def read() -> Histories:
            (found,) = store.read(features.schema, ["ann"])
            return Histories.from_states(features.schema, [found.user], [found.records], [found.carry])

        if read().n_records != N_EVENTS:
            raise AssertionError("the store does not hold the events.")
        return timed("state read from SQLite and decoded", read, n_calls, median=30)


def timed(
    name: str, work: Callable[[], object], n_calls: int, *, each: int = 1, median: float = 0, tail: float = 0
) -> list[Figure]:
    """Median and 99th percentile of microseconds; targets where they are given."""
    work()
    taken = np.empty(n_calls)
    for call in range(n_calls):
        started = time.perf_counter()
        work()
        taken[call] = time.perf_counter() - started
    found = np.quantile(taken, [0.5, 0.99]) * 1e6 / each
    told = ((f"{name}: median", median), (f"{name}: p99", tail))
    return [
        at_most(what, float(value), "us", target) if target else Figure(what, float(value), "us")
        for (what, target), value in zip(told, found, strict=True)
    ]


def warm_up() -> Figure:
    """A new process, from its start to its first row, machine code coming from the cache on disk."""
    seconds = report.best(lambda: subprocess.run([sys.executable, "-c", WARM_UP], check=True), runs=3)
    return at_most("import and first row, from cache", seconds, "s", 3)


if __name__ == "__main__":
    raise SystemExit(main())
