"""A small shop: the plan, features and histories that the tests of segments share."""

import polars as pl

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY, HOUR, MINUTE, parse_instant
from features.segments.segment_set import SegmentSet

CART = {"cart_id": {"type": "category"}}
PLAN = TrackingPlan.from_dict(
    {
        "events": {
            "page_viewed": {"properties": {"section": {"type": "category"}, **CART}},
            "add": {"properties": {**CART, "price": {"type": "money"}}},
            "view": {"properties": CART},
            "buy": {"properties": {**CART, "revenue": {"type": "money"}}},
        },
        "traits": {"country": {"type": "category"}, "age": {"type": "number"}},
    }
)
CODES = Codes.of(PLAN)
DECLARED = [
    {"count": ["any", "view"], "windows": ["1d", "7d", "lifetime"]},
    {"sum": "buy.revenue", "mean": "add.price", "windows": ["7d"]},
    {"recency": ["any", "buy"]},
    {"tenure": "any"},
    {"rfm": {"event": "buy", "money": "revenue", "window": "20d"}},
    {"sessions": {"gap": "30m"}, "windows": ["7d"]},
]
SETTINGS = {"horizon": 40 * DAY, "bound": 8, "bounds": {"buy": 4}, "zone": "Europe/London"}
FEATURES = FeatureSet.from_dict({"features": DECLARED}, PLAN, CODES, **SETTINGS)
STUDIES = {"purchase_7d": "propensity", "behaviour": "clusters"}

TYPES = {"number": pl.Float64, "money": pl.Float64, "flag": pl.Boolean}
COLUMNS = {
    "user": pl.String,
    "event": pl.String,
    "ts": pl.Int64,
    "received": pl.Int64,
    "known": pl.Int64,
    "until": pl.Int64,
    "id": pl.Int64,
    "seq": pl.Int64,
    "offset": pl.Int16,
    "consent": pl.Int8,
    "mark": pl.String,
}


def log_frame(events, plan=PLAN):
    """A log frame; what an event does not say has its neutral value."""
    properties = {f"p_{name}": TYPES.get(spec.type, pl.String) for name, spec in plan.properties.items()}
    rows = []
    for place, event in enumerate(events):
        neutral = {"user": "ann", "known": event["ts"], "id": place, "seq": 0, "offset": 0}
        values = {f"p_{name}": value for name, value in event.get("properties", {}).items()}
        rows.append({**neutral, **{k: v for k, v in event.items() if k in COLUMNS}, **values})
    columns = COLUMNS | properties
    return pl.DataFrame({name: [row.get(name) for row in rows] for name in columns}, schema=columns)


def segment_set(segments, **document):
    """These segments, by name, over a schema that holds the features too."""
    made = SegmentSet.from_dict({"segments": segments, **document}, PLAN, CODES, FEATURES, studies=STUDIES)
    return made.on(FEATURES.schema.union(made.schema))


def histories(events, made):
    """These events' histories under a segment set's schema; a user without events has a row too."""
    if not events:
        return Histories.from_states(made.schema, ["ann"], [b""])
    return Histories.from_frame(made.schema, log_frame(events))


def holds(when, events, at, **options):
    """Whether a condition holds for a user with these events as of an instant."""
    made = segment_set({"s": {"when": when}})
    rows = histories(events, made)
    matrix = FEATURES.on(made.schema).compute(rows, at)
    return bool(made.evaluate(rows, at, features=matrix, **options).column("s")[0])


def node_truth(when, events, at):
    """FALSE, UNKNOWN or TRUE: what the condition itself says, before membership makes two values of it."""
    made = segment_set({"s": {"when": when}})
    rows = histories(events, made)
    matrix = FEATURES.on(made.schema).compute(rows, at)
    return made.explain(rows, at, features=matrix)["s"]["of"][0]["truth"]


T = parse_instant("2026-05-04T08:00:00")
"""A Monday."""


def event(name, after=0, **more):
    """An event some microseconds after T, of cart A unless another is named."""
    properties = {"cart_id": more.pop("cart", "A"), **more.pop("properties", {})}
    return {"event": name, "ts": T + after, "properties": {k: v for k, v in properties.items() if v}, **more}


def change_of(when, log, at):
    """The next change of a condition."""
    made = segment_set({"s": {"when": when}})
    rows = histories(log, made)
    found = made.evaluate(rows, at, features=FEATURES.on(made.schema).compute(rows, at))
    return int(found.changes[0, 0])


def cart_at_risk(**options):
    steps = [
        {"event": "add"},
        {"event": "view", "count": {"gt": 2}, "within": "24h"},
        {"not": {"event": "buy"}, "within": "24h", "of": "first"},
    ]
    return {"sequence": {"same": ["cart_id"], "max_duration": "72h", "steps": steps, **options}}


def views(first, cart="A"):
    return [event("view", first + k * MINUTE, cart=cart) for k in range(3)]


ADDED = [event("add"), *views(HOUR)]
