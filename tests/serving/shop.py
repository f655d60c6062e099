"""A small real shop: plan, features, tiny models fitted here, a bundle; shared by the tests of serving."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import numpy as np
import xgboost as xgb

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.events.batch import EventBatch
from features.events.cleaning import clean
from features.events.plan import Codes, TrackingPlan
from features.events.segment import segment_messages
from features.instants import DAY, iso
from features.segments.segment_set import SegmentSet
from serving.door import Door, nothing
from serving.runtime import Runtime
from serving.settings import Settings
from training.assigner import Centroids
from training.bundle import Bundle
from training.model import Model
from training.steps import fit
from training.trees import Forest

KEY = b"a key of the tests"
NOW = 1_780_000_000_000_000
"""An instant in 2026, microseconds UTC."""
CUT = NOW - 5 * DAY
"""The newest instant that the clusters were found as of."""

PLAN = """
version: 1
events:
  product_viewed:
    properties: {product_id: {type: category}, price: {type: money, min: 0}}
  order_completed:
    properties: {revenue: {type: money, min: 0}}
  page_viewed: {}
traits:
  email: {type: text, personal: pseudonymise}
  plan: {type: category}
"""

FEATURES = {
    "version": 1,
    "features": [
        {"count": ["any", "product_viewed", "order_completed"], "windows": ["1d", "7d", "30d"]},
        {"sum": "order_completed.revenue", "windows": ["30d", "90d"]},
        {"distinct": "product_viewed.product_id", "windows": ["7d"]},
        {"recency": ["any", "order_completed"]},
        {"active_days": "any", "windows": ["7d", "30d"]},
        {"sessions": {"gap": "30m"}, "windows": ["7d"]},
    ],
}


def plan_in(folder):
    """The plan, written to a file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.yaml").write_text(PLAN, encoding="utf-8")
    return TrackingPlan.read(folder / "plan.yaml")


def features_of(plan, definitions=None, code=""):
    """The feature set over the plan."""
    return FeatureSet.from_dict(definitions or FEATURES, plan, Codes.of(plan), definitions=code)


def matrix_of(features, n=300):
    """Made-up feature values of many users: enough to fit something real on."""
    values = np.random.default_rng(3).gamma(2.0, 2.0, (n, len(features.names)))
    users = np.array([f"u{row}" for row in range(n)], dtype=object)
    capped = np.zeros(n, np.bool_)
    return FeatureMatrix(values, users, np.full(n, NOW), features.names, features.fingerprint, capped)


def models_in(folder, features, threshold):
    """A propensity of XGBoost trees and three clusters, fitted on made-up values."""
    matrix = matrix_of(features)
    x = matrix.values.astype(np.float32)
    y = (x[:, 0] + x[:, 3] > np.median(x[:, 0] + x[:, 3])).astype(int)
    booster = xgb.train({"objective": "binary:logistic", "max_depth": 3, "seed": 1}, xgb.DMatrix(x, label=y), 20)
    trees = booster.save_raw("json").decode()
    propensity = Model(
        "purchase_7d",
        "propensity",
        features.fingerprint,
        fit(matrix, []),
        Forest.from_json(trees),
        threshold=threshold,
    )
    propensity.save(folder / "purchase_7d", trees=trees)
    propensity.write_golden(folder / "purchase_7d", matrix.values[:5])
    preparation = fit(matrix, ["impute", "log", "standardise"], names=features.names[:6])
    prepared = preparation.transform(matrix)
    clusters = Model(
        "behaviour",
        "clusters",
        features.fingerprint,
        preparation,
        Centroids(prepared[[0, 1, 2]]),
        names=("browsers", "buyers", "sleepers"),
        ids=(1, 2, 3),
        details={
            "training_set": {"cuts": {"train": [iso(CUT)], "validation": [], "test": []}, "log": [iso(0), iso(NOW)]}
        },
    )
    clusters.save(folder / "behaviour")
    clusters.write_golden(folder / "behaviour", matrix.values[:5, :6])
    return {"purchase_7d": folder / "purchase_7d", "behaviour": folder / "behaviour"}


def bundle_in(folder, *, version="1", threshold=0.5, definitions=None, segments=None, code=""):
    """A bundle with both models, and segments where they are given."""
    plan = plan_in(folder / "source")
    Codes.of(plan).write(folder / "source" / "plan.lock")
    features = features_of(plan, definitions, code)
    models = models_in(folder / "models", features, threshold)
    return Bundle.write(
        folder / "bundle",
        name="shop",
        version=version,
        features=features,
        models=models,
        segments=SegmentSet.from_dict({"segments": segments}, plan, Codes.of(plan), features) if segments else None,
        plan=folder / "source" / "plan.yaml",
        lock=folder / "source" / "plan.lock",
    )


def settings_in(folder, **changes):
    """Settings with everything below one folder; nothing is rolled or flushed unless a test asks."""
    base = Settings(
        state=folder / "state.db",
        bundles=folder / "bundles",
        log=folder / "log",
        predictions=folder / "predictions",
        key=KEY,
        keys=folder / "keys.json",
        ab=folder / "ab.yaml",
        exposures=folder / "exposures",
        roll_s=3600,
        flush_s=3600,
        drain_s=0.2,
        clock=NOW,
    )
    return replace(base, **changes)


def messages(*rows):
    """Track messages from (user, event, ts, properties); an id that starts with `a-` is anonymous."""
    return [message(*row) for row in rows]


def message(user, event="product_viewed", ts=NOW, properties=None, **more):
    """One Segment-shaped message."""
    name = "anonymousId" if user.startswith("a-") else "userId"
    moment = datetime.fromtimestamp(ts / 1e6, UTC).isoformat()
    return {"type": "track", name: user, "event": event, "timestamp": moment, "properties": properties or {}, **more}


def cleaned(plan, sent, received):
    """Messages as the door's cleaning gives them."""
    named = [{"messageId": f"{received}-{place}", **each} for place, each in enumerate(sent)]
    batch = segment_messages(named, plan, received=received, source="http")
    return clean(batch, plan, key=KEY)


def empty(plan):
    """No events."""
    return EventBatch.empty(plan)


@asynccontextmanager
async def serving(settings, *, packed=None, client=("127.0.0.1", 1), patience=2400):
    """A runtime behind its door, in this process: (httpx client, runtime), ready."""
    runtime = Runtime(settings, packed=packed)
    door = Door(nothing, make=lambda: runtime)
    runtime.open()
    try:
        transport = httpx.ASGITransport(app=door, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://local") as http:
            for _ in range(patience):
                if (await http.get("/readyz")).status_code == 200:
                    break
                await asyncio.sleep(0.05)
            yield http, runtime
    finally:
        runtime.close()


def state_features(runtime, user, at):
    """The features of a user's state as of `at`."""
    scorer = runtime.release().scorer
    state = runtime.store.read(scorer.schema, [user])[0]
    histories = Histories.from_states(scorer.schema, [state.user], [state.records], [state.carry])
    return scorer.bundle.features.compute(histories, at)


def encoded(document):
    """JSON bytes."""
    return json.dumps(document).encode()
