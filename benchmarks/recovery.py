"""How well k-means finds the simulator's planted types: with the backbone's few features, and with the library's.

`python -m benchmarks.recovery [--small] [--json]`. Adjusted Rand (Hubert and Arabie 1985) between clusters and planted
types of everybody who came in the last four weeks of two months: the least over seeds that nothing was tuned on.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from benchmarks import report
from benchmarks.report import Figure, at_least, note
from features import document
from features.behaviour.feature_set import FeatureSet
from features.events.log import EventLog
from features.events.plan import Codes, TrackingPlan
from features.simulate import Shop, write_shop
from training import algorithms, clustering
from training.steps import fit_rows

EXAMPLE = Path(__file__).parent.parent / "examples" / "shop"
SEEDS = (7001, 7002, 7003, 7004, 7005)
KS = range(3, 9)
TYPES = 5
SEVEN = ["page_viewed", "products_searched", "product_list_viewed", "product_clicked"]
SEVEN += ["scrolled", "video_played", "coupon_applied"]
WIDE = ["any", "product_viewed", "product_added", "cart_viewed", "checkout_started", "order_completed", *SEVEN]


class Asked(NamedTuple):
    """What people are told apart by.

    Attributes:
        document: As in features.yaml.
        names: The columns among its features; none: all.
        steps: The preparation.
    """

    document: Mapping[str, Any]
    names: Sequence[str] | None = None
    steps: Sequence[str] = ("log", "standardise")


def sets() -> dict[str, Asked]:
    """The backbone's families, narrowly and widely, and what the shop's study `behaviour` asks for."""
    study = document.load(EXAMPLE / "studies.yaml")["studies"]["behaviour"]
    month = [
        {"count": WIDE, "distinct": "product_viewed.product_id", "active_days": "any", "windows": ["30d"]},
        {"sum": "order_completed.revenue", "mean": "order_completed.revenue", "windows": ["30d"]},
        {"recency": ["any", "order_completed"]},
        {"tenure": "any"},
        {"sessions": {"gap": "30m"}, "windows": ["30d"]},
    ]
    return {
        "backbone, all its families, 30 days": Asked({"features": month}),
        "backbone, seven counts, 30 days": Asked({"features": [{"count": SEVEN, "windows": ["30d"]}]}),
        "backbone, seven counts, 90 days": Asked({"features": [{"count": SEVEN, "windows": ["90d"]}]}),
        "library": Asked(document.load(EXAMPLE / "features.yaml"), study["features"], study["preparation"]),
    }


def main() -> int:
    """Measure and print."""
    options = report.arguments(__doc__ or "")
    seeds, users = (SEEDS[:2], 2_000) if options.small else (SEEDS, 4_000)
    return report.report(list(figures([recovered(seed, users=users) for seed in seeds])), as_json=options.json)


def figures(found: Sequence[Mapping[str, tuple[float, float]]]) -> Iterator[Figure]:
    """Per set the least of all seeds."""
    for name in found[0]:
        known, chosen = (min(each[name][place] for each in found) for place in (0, 1))
        label = f"{name}, {TYPES} clusters"
        yield at_least(label, known, "ARI", 0.9) if name == "library" else Figure(label, known, "ARI")
        yield Figure(f"{name}, k by silhouette", chosen, "ARI")


def recovered(seed: int, *, users: int) -> dict[str, tuple[float, float]]:
    """Adjusted Rand per set of features: of as many clusters as types, and of the k whose silhouette is best."""
    shop = Shop(users=users, days=60, seed=seed)
    plan = TrackingPlan.read(EXAMPLE / "plan.yaml")
    with tempfile.TemporaryDirectory() as folder:
        truth = write_shop(shop, Path(folder) / "raw", format="parquet")
        log = EventLog(Path(folder) / "log", plan, key=b"benchmark")
        for file in sorted((Path(folder) / "raw" / "events").iterdir()):
            log.ingest(file)
        planted = truth.people.filter(pl.col("sessions_28d") > 0).select("user", "type")
        found = {name: _agreement(log, asked, dict(planted.iter_rows()), shop.end) for name, asked in sets().items()}
    note(f"seed {seed}: {planted.height:,} people")
    return found


def _agreement(log: EventLog, asked: Asked, planted: Mapping[str, str], at: int) -> tuple[float, float]:
    from sklearn.metrics import adjusted_rand_score

    features = FeatureSet.from_dict(asked.document, log.plan, Codes.of(log.plan))
    histories = log.histories(features.schema)
    rows = np.array([place for place, user in enumerate(histories.users) if str(user) in planted])
    matrix = features.compute(histories.take(rows), at)
    preparation, kept = fit_rows(matrix, ["impute", *asked.steps], names=asked.names)
    x, types = preparation.transform(matrix)[kept], [planted[str(user)] for user in matrix.users[kept]]
    fitted = {k: algorithms.kmeans(x, k, seed=0) for k in KS}
    chosen = max(KS, key=lambda k: clustering.silhouette(x, fitted[k].labels))
    known, best = (float(adjusted_rand_score(types, fitted[k].labels)) for k in (TYPES, chosen))
    return known, best


if __name__ == "__main__":
    raise SystemExit(main())
