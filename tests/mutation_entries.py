"""The entries of features.yaml that show what a module's loops compute."""

import random

from features.behaviour.feature_set import FeatureSet
from tests.features.behaviour.oracle import OPTIONS
from tests.features.behaviour.shop import CODES, DECLARED, INPUTS, KINDS, PLAN, SETTINGS

SHARED = {
    "gather": ("count", "sum", "last", "tenure", "median", "mode", "patterns", "abandoned_carts"),
    "marks": ("count", "max", "patterns", "funnel", "abandoned_carts", "cart_value"),
    "table": ("mean", "distinct", "active_days", "last", "recency", "sessions", "patterns", "abandoned_carts"),
    "carry": ("count", "sum", "min", "max", "first", "last", "tenure"),
    "categories": ("first", "last", "mode", "trait"),
    "formulas": ("count", "ratio", "difference", "score", "trend", "rfm_score", "recency", "tenure"),
    "members": ("count", "sum", "first", "recency", "active_days"),
    "mining": ("count",),
}
"""Of modules that are no family: what the entries have that show them."""
FORMULAS = ("ratio", "difference", "score")
STEPS = ("funnel", "transitions", "moves", "entropy", "ngrams", "patterns", "has_patterns")
ABOVE = {f"above_{k}": {"event": "product_viewed", "where": {"price": {"gt": k / 10}}} for k in range(70)}
"""More filters than a word has bits."""
EVENTS = KINDS | ABOVE
MORE = {
    "frequencies": [{"mode": "any.price", "top_share": "any.price", "k": 1, "windows": ["1d", "20d"]}],
    "marks": [many := {"patterns": [[f"above_{k}", f"above_{k + 1}"] for k in range(69)], "windows": ["20d"]}],
    "table": [many],
    "days": [{"streak": "any", "longest_streak": "any", "windows": ["7d"]}],
    "streaks": [{"longest_streak": "product_viewed", "windows": ["2d", "7d"]}],
    "sessions": [{"sessions": {"gap": "1h"}, "as": "hours", "windows": ["7d"]}],
    "distinct": [{"in_session": {"distinct": ["any.product_id"]}, "windows": ["1d", "20d"]}],
    "clicks": [{"rage_clicks": "product_viewed.product_id", "clicks": 2, "within": "20d", "windows": ["1d"]}],
}
"""Entries that the tests' shop has no need of."""


def declared_for(module: str) -> list[dict]:
    """The entries of the tests' shop that a module's loops compute."""
    if module == "kernel":
        return DECLARED
    if module in SHARED:
        mine = [entry for entry in DECLARED if set(SHARED[module]) & set(entry)]
        return [*mine, *MORE.get(module, [])]
    alone = [entry for entry in DECLARED if not {*FORMULAS} & set(entry)]
    mine = [entry for entry in alone if module in {each.family for each in features_of([entry]).features}]
    return [*mine, *MORE.get(module, []), *[many_orders()] * (module == "orders")]


def many_orders() -> dict:
    """More steps than a word has bits."""
    draw, names = random.Random(3), ["page_viewed", "product_viewed", "order_completed", "dear", "any"]
    many = [draw.choices(names, k=draw.randint(2, 5)) for _ in range(40)]
    return {"ngrams": many[:20], "patterns": many[20:], "as": "many", "windows": ["1d", "20d"]}


def features_of(declared: list[dict], **settings: object) -> FeatureSet:
    inputs = INPUTS if any("ratio" in entry for entry in declared) else []
    return FeatureSet.from_dict(
        {"events": EVENTS, "inputs": inputs, "features": declared}, PLAN, CODES, **SETTINGS | settings
    )


def apart(declared: list[dict]) -> list[dict]:
    """Each statistic in an entry of its own, of one kind of events where it takes any number, in one window."""
    alone = []
    for entry in declared:
        options = {key: entry[key] for key in entry if key in OPTIONS}
        for key in [key for key in entry if key not in OPTIONS and key not in FORMULAS]:
            several = isinstance(entry[key], list) and key not in STEPS
            narrow = {"windows": entry["windows"][-1:]} if "windows" in entry else {}
            alone.append({**options, **narrow, key: entry[key][:1] if several else entry[key]})
            if key == "streak":
                del alone[-1]["windows"]
    return alone
