"""One user's features as a request computes them: a state of 200 events, more than 100 features.

`python -m benchmarks.one_user [--small] [--json]`.
"""

import time

import numpy as np

from benchmarks import report, shop
from benchmarks.report import Figure, note
from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.events.plan import Codes

WINDOWS = ["1h", "1d", "3d", "7d", "14d", "30d", "60d", "90d"]
N_EVENTS = 200


def main() -> int:
    """Measure and print."""
    options = report.arguments(__doc__ or "")
    declared = [{**entry, "windows": WINDOWS} if "windows" in entry else entry for entry in shop.DECLARED]
    features = FeatureSet.from_dict({"features": declared}, shop.PLAN, Codes.of(shop.PLAN))
    state = shop.histories(shop.events(N_EVENTS, 1), features).state(0)
    note(f"{N_EVENTS} events, {len(features)} features")
    shuffled = np.frombuffer(state, np.int64).reshape(N_EVENTS, -1)
    shuffled = shuffled[np.random.default_rng(1).permutation(N_EVENTS)].tobytes()
    n_calls = 2_000 if options.small else 20_000
    figures = [
        *timed("state to row", features, [state], n_calls),
        *timed("state in no order to row", features, [shuffled], n_calls),
        *timed("500 states to rows, each", features, [state] * 500, n_calls // 200),
    ]
    return report.report(figures, as_json=options.json)


def timed(name: str, features: FeatureSet, states: list[bytes], n_calls: int) -> list[Figure]:
    """Median and 99th percentile of microseconds a state, from its bytes to its values."""
    users = [str(place) for place in range(len(states))]
    features.compute(Histories.from_states(features.schema, users, states), shop.AT)
    taken = np.empty(n_calls)
    for call in range(n_calls):
        started = time.perf_counter()
        features.compute(Histories.from_states(features.schema, users, states), shop.AT)
        taken[call] = time.perf_counter() - started
    median, tail = np.quantile(taken, [0.5, 0.99]) * 1e6 / len(states)
    return [Figure(f"{name}: median", float(median), "us"), Figure(f"{name}: p99", float(tail), "us")]


if __name__ == "__main__":
    raise SystemExit(main())
