"""Functions of definitions.py: the same numbers everywhere, faults with their line, code that travels in bundles."""

import json
import pickle

import numpy as np
import pytest

from features.behaviour.extension import Columns, written
from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.errors import DefinitionError
from features.instants import DAY, HOUR, parse_instant
from features.segments.segment_set import SegmentSet
from features.segments.snapshots import taken
from tests.features.behaviour.shop import CODES, KINDS, PLAN, SETTINGS, histories

AT = parse_instant("2026-03-29T12:00:00")

CODE = '''
import numpy as np

from features import feature


@feature(events="order_completed", properties="revenue", windows=["7d", "20d"])
def biggest_rise(user, at):
    """Largest rise of revenue from one order to the next."""
    revenue = user["revenue"]
    rises = np.diff(revenue[~np.isnan(revenue)])
    return rises.max() if len(rises) else None


@feature(windows="1d", properties=["product_id", "gift", "device"], values="a")
def said(user, at):
    assert list(user.event) == sorted(user.event, key=lambda name: name != "product_viewed")
    texts = [text for text in user["product_id"] if text]
    n_mobile = (user["device"] == "mobile").sum()
    return texts.count("a") + 10 * len(set(texts)) + 100 * np.nansum(user["gift"]) + 1000 * n_mobile


@feature(windows="7d")
def hours_ago(user, at):
    return (at - user.ts[-1]) / 3.6e9 if len(user) else None
'''

YAML = {
    "events": KINDS,
    "features": [
        {"count": "any", "windows": ["7d", "20d"]},
        {"recency": "any"},
        {"difference": {"of": "hours_ago_7d", "minus": "biggest_rise_20d"}, "as": "mixed"},
    ],
}


def made(code: str = CODE, yaml: dict = YAML) -> FeatureSet:
    return FeatureSet.from_dict(yaml, PLAN, CODES, definitions=code, **SETTINGS)


FEATURES = made()


def of(code: str) -> FeatureSet:
    return made(f"from features import feature\n\n\n{code}", {"features": [{"count": "any", "windows": ["7d"]}]})


def order(ago: int, revenue: float | None = None, **rest) -> dict:
    properties = {} if revenue is None else {"revenue": revenue}
    return {"event": "order_completed", "ts": AT - ago, "properties": properties, **rest}


def test_a_function_sees_the_columns_of_its_window_in_units_of_the_plan():
    log = [order(8 * DAY, 1.0), order(7 * DAY, 2.0), order(3 * DAY, 5.5), order(2 * DAY), order(DAY, 9.25)]
    row = FEATURES.compute(histories(log, FEATURES), AT)
    assert row.column("biggest_rise_7d")[0] == 3.75
    assert row.column("biggest_rise_20d")[0] == 3.75
    assert row.column("hours_ago_7d")[0] == 24.0
    assert row.column("mixed")[0] == 24.0 - 3.75
    edge = histories(log, FEATURES).take(np.zeros(2, np.int64))
    later = FEATURES.compute(edge, AT + 17 * DAY - np.array([1, 0])).column("biggest_rise_20d")
    assert later[0] == 3.75
    assert np.isnan(later[1])


def test_texts_that_nobody_listed_are_told_apart_and_not_shown():
    properties = [{"product_id": "a", "device": "mobile"}, {"product_id": "b"}, {"product_id": "c"}, {}]
    log = [{"event": "product_viewed", "ts": AT - HOUR, "properties": each} for each in properties]
    log.append(order(0, 1.0) | {"properties": {"gift": True}})
    assert FEATURES.compute(histories(log, FEATURES), AT).column("said_1d")[0] == 1 + 30 + 100 + 1000


def test_late_events_copies_and_removals_are_settled_before_a_function_sees_them():
    log = [
        order(3 * DAY, 1.0, id=1),
        order(2 * DAY, 4.0, id=2, known=AT + 1),
        order(DAY, 2.0, id=3, until=AT),
        order(HOUR, 2.5, id=4),
        order(HOUR, 99.0, id=4, known=AT),
    ]
    assert FEATURES.compute(histories(log, FEATURES), AT).column("biggest_rise_7d")[0] == 1.5
    assert FEATURES.compute(histories(log, FEATURES), AT + 1).column("biggest_rise_7d")[0] == 3.0


def test_a_segment_asks_for_a_function_as_for_a_declared_feature():
    """In batch, in a request and in an explanation, with a frozen percentile, from what was written down."""
    declared = {
        "lately": {"when": {"feature": {"hours_ago_7d": {"lt": 30}}}},
        "not_lately": {"when": {"feature": {"hours_ago_7d": {"gte": 30}}}},
        "rising": {"when": {"percentile": {"feature": "biggest_rise_20d", "gte": 70}}},
    }
    segments = SegmentSet.from_dict({"segments": declared}, PLAN, CODES, FEATURES)
    schema = FEATURES.schema.union(segments.schema)
    features = FeatureSet.load(json.loads(json.dumps(FEATURES.on(schema).to_dict())))
    random = np.random.default_rng(2)
    ages, prices = random.integers(0, 18 * DAY, 120), random.integers(1, 400, 120) / 4
    log = [order(int(ago), price, user=f"u{k % 30}") for k, (ago, price) in enumerate(zip(ages, prices, strict=True))]
    many = histories(log, features)
    matrix = features.compute(many, AT)
    fitted = segments.on(schema).fitted(taken(segments.on(schema), lambda work: [work(many, matrix, {})], AT))
    fitted = SegmentSet.load(json.loads(json.dumps(fitted.to_dict())))
    truths = fitted.evaluate(many, AT, features=matrix)
    hours, rise = matrix.column("hours_ago_7d"), matrix.column("biggest_rise_20d")
    assert np.isnan(hours).any()
    assert np.array_equal(truths.column("lately"), hours < 30)
    assert np.array_equal(truths.column("not_lately"), hours >= 30)
    bound = np.percentile(rise[~np.isnan(rise)], 70, method="inverted_cdf")
    assert np.array_equal(truths.column("rising"), rise >= bound)
    assert 0 < truths.column("rising").sum() < len(many)
    assert {segment.kind for segment in fitted.segments} == {"timer", "batch"}
    assert np.all(truths.changes > AT)
    for row in range(len(many)):
        one = Histories.from_states(schema, [many.users[row]], [many.state(row)])
        mine = features.compute(one, AT)
        assert fitted.evaluate(one, AT, features=mine).of(0) == truths.of(row)
        told = fitted.explain(one, AT, features=mine)
        assert {name for name, each in told.items() if each["in"]} == set(truths.of(row))
        leaf = told["lately"]
        while leaf.get("of"):
            leaf = leaf["of"][0]
        assert leaf["value"] == (None if np.isnan(hours[row]) else hours[row])


def test_batch_and_a_request_give_the_same_and_declared_features_are_what_they_were():
    random = np.random.default_rng(5)
    log = [
        order(int(ago), float(price), user=f"u{random.integers(40)}")
        for ago, price in random.integers(1, 20 * DAY, (300, 2))
    ]
    log = [{**each, "properties": {"revenue": k / 4}} for k, each in enumerate(log)]
    many = histories(log, FEATURES)
    at = AT - random.integers(0, 5 * DAY, len(many))
    batch = FEATURES.compute(many, at, threads=4)
    plain = made("", {**YAML, "features": YAML["features"][:2]})
    assert np.array_equal(
        batch.select(plain.names).values, plain.compute(histories(log, plain), at).values, equal_nan=True
    )
    for row in range(len(many)):
        state = Histories.from_states(FEATURES.schema, [many.users[row]], [many.state(row)])
        one = FEATURES.compute(state, int(at[row]), threads=1)
        assert one.values.tobytes() == batch.values[row : row + 1].tobytes()


def test_a_set_with_code_goes_through_json_and_processes_and_does_not_run_before_it_computes():
    document = json.loads(json.dumps(FEATURES.to_dict()))
    assert document["definitions"] == CODE
    assert {len(each["code"]) for each in document["features"]} == {0, 64}
    loaded = FeatureSet.load(document)
    assert loaded.fingerprint == FEATURES.fingerprint == pickle.loads(pickle.dumps(loaded)).fingerprint  # noqa: S301
    assert made(CODE.replace("3.6e9", "3.6e6")).fingerprint != FEATURES.fingerprint
    document["definitions"] = "raise SystemExit"
    with pytest.raises(DefinitionError, match="not what the features were made of"):
        FeatureSet.load(document)


def test_the_features_say_that_they_are_slower():
    told = {each.name: each.meaning() for each in FEATURES.features}
    assert told["biggest_rise_7d"] == "Largest rise of revenue from one order to the next (in Python, slower), last 7d"
    assert FEATURES.names == (
        "count_any_7d",
        "count_any_20d",
        "recency_any_s",
        "mixed",
        "biggest_rise_7d",
        "biggest_rise_20d",
        "said_1d",
        "hours_ago_7d",
    )


def test_the_schema_keeps_what_the_functions_read():
    assert {"revenue", "product_id", "gift", "device"} <= set(FEATURES.schema.properties)


def test_a_function_can_be_called_like_any_other():
    function = written(CODE)["biggest_rise"]
    assert function(Columns(np.array([]), np.array([]), {"revenue": np.array([1.0, 4.0])}), AT) == 3.0


FAULTS = {
    "def x(:": r"definitions.py:4: invalid syntax",
    "import pandas": r"definitions.py:4: 'pandas' may not be imported",
    "def f():\n    from .shop import x": r"definitions.py:5: '.shop' may not be imported",
    "__import__('pandas')": r"definitions.py:4: '__import__' may not be imported",
    "1 / 0": r"definitions.py:4: ZeroDivisionError \(as the file was read\)",
    "@feature(windows='7 days')\ndef f(user, at): ...": r"definitions.py:4: f: a duration is a whole number",
    "@feature(windows='70d')\ndef f(user, at): ...": r"definitions.py: 'f_70d' looks back 70d, longer than the horizon",
    "@feature(windows='7d', events='order')\ndef f(user, at): ...": r"definitions.py:4: f: unknown event 'order'",
    "@feature(windows='7d', properties='price', events='alias')\ndef f(user, at): 1": r"unknown property 'price' of al",
    "@feature(windows='7d')\ndef count_any(user, at): ...": r"'count_any_7d' is declared above with another meaning",
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_mistake_in_the_file_is_named_with_its_line(code):
    with pytest.raises(DefinitionError, match=FAULTS[code]):
        of(code)


FAILURES = {
    "{}['ann@example.org']": r"definitions.py:6: KeyError \(f of 1 events, as of 2026-03-29T12:00:00Z\)",
    "user['price']": r"definitions.py:6: the property 'price' is not declared. Hint: .* \(f of 1 events",
    "'3'": r"definitions.py:4: f gives str. Hint: a feature is a number, or None.",
}


@pytest.mark.parametrize("expression", FAILURES)
def test_a_failure_names_the_line_and_nothing_of_the_user(expression):
    features = of(f"@feature(windows='7d', properties='revenue')\ndef f(user, at):\n    return {expression}\n")
    with pytest.raises(DefinitionError, match=FAILURES[expression]) as caught:
        features.compute(histories([order(DAY, 1.0)], features), AT)
    assert caught.value.__suppress_context__ or not caught.value.__context__
    assert "ann" not in str(caught.value)
