"""Segment-shaped messages become events; what cannot be read says why."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events.cleaning import clean
from features.events.plan import TrackingPlan
from features.events.segment import TYPES, segment_messages, unfolded
from features.instants import SECOND, parse_instant
from tests.features.events.conftest import PLAN

NOW = parse_instant("2026-03-01T12:00:00Z")


def _track(**fields):
    return {"type": "track", "event": "Product Viewed", "userId": "u1", "messageId": "m1", **fields}


def test_time_is_corrected_by_the_clock_of_the_sender(plan):
    message = _track(originalTimestamp="2026-03-01T10:00:00Z", sentAt="2026-03-01T10:00:05Z")
    row = segment_messages([message], plan, received=NOW).frame.row(0, named=True)
    assert row["ts"] == NOW - 5 * SECOND
    assert row["received"] == NOW


def test_a_file_without_arrivals_is_known_after_its_blind_spot(plan):
    message = _track(timestamp="2026-03-01T10:00:00Z")
    row = segment_messages([message], plan, received=None, blind_spot=3 * SECOND).frame.row(0, named=True)
    assert row["received"] - row["ts"] == 3 * SECOND


def test_a_batch_shares_its_context_and_sending_time(plan):
    batch = {
        "batch": [_track(timestamp="2026-03-01T10:00:00Z"), _track(messageId="m2", context={"ip": "10.1.1.1"})],
        "context": {"ip": "1.2.3.4", "userAgent": "curl/8"},
        "sentAt": "2026-03-01T10:00:01Z",
    }
    frame = segment_messages([batch], plan, received=NOW).frame
    assert frame["ip"].to_list() == ["1.2.3.4", "10.1.1.1"]
    assert frame["user_agent"].to_list() == ["curl/8", "curl/8"]
    assert frame["ts"].to_list() == [NOW - SECOND, NOW]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("text", "bad_json"),
        ({"type": "dance", "userId": "u"}, "bad_type"),
        ({"type": "track", "userId": "u"}, "no_event"),
        ({"type": "track", "event": "Nothing Known", "userId": "u"}, "unknown_event"),
        ({"type": "screen", "userId": "u"}, "unknown_event"),
        (_track(timestamp="yesterday"), "bad_timestamp"),
        (_track(timestamp="1999-12-31T23:59:59Z"), "too_old"),
        (_track(timestamp="2026-03-02T12:00:01Z"), "in_future"),
        (_track(userId=None), "no_user"),
        (_track(userId="null"), "denied_id"),
        (_track(userId="00000000-0000-0000-0000-000000000000"), "denied_id"),
        (_track(userId="x" * 10_000), "long_id"),
        (_track(properties={"price": "cheap"}), "bad_value"),
        (_track(properties={"price": [1]}), "bad_value"),
        (_track(properties={"price": -1}), "out_of_range"),
        (_track(properties={"price": 1e15}), "too_large"),
        ({"type": "identify", "userId": "u", "traits": {"plan": "gold"}}, "not_allowed"),
        ({"type": "track", "event": "order_completed", "userId": "u"}, "missing_value"),
    ],
)
def test_an_unusable_message_is_quarantined_with_its_reason(plan, key, message, reason):
    cleaned = clean(segment_messages([message], plan, received=NOW), plan, key=key)
    assert cleaned.quarantine["reason"].to_list() == [reason]
    assert len(cleaned.batch) == 0
    assert cleaned.report.quarantined == {reason: 1}


def test_no_direct_identifier_reaches_the_quarantine(plan, key):
    message = {
        "type": "track",
        "event": "Newsletter Joined",
        "userId": "u",
        "properties": {"email": "ann@example.com", "phone": "555", "note": "call +44 20 7946 0000 or a@b.org", "n": 3},
        "context": {"ip": "93.184.216.34", "page": {"url": "https://x.org/?from=bob@example.com"}},
    }
    cleaned = clean(segment_messages([message], plan, received=NOW), plan, key=key)
    text = cleaned.quarantine["payload"][0]
    for secret in ("ann@", "555", "7946", "a@b.org", "93.184", "bob@"):
        assert secret not in text
    assert json.loads(text)["properties"]["n"] == 3


def test_page_views_take_what_the_plan_asks_of_the_page(plan):
    message = {"type": "page", "name": "Home", "anonymousId": "a", "context": {"page": {"path": "/", "title": "Hi"}}}
    batch = segment_messages([message], plan, received=NOW)
    assert batch.frame.select("event", "p_path").row(0) == ("page_view", "/")


def test_a_property_may_be_what_the_context_says_and_what_is_given_wins():
    source = {"type": "category", "context": "campaign.source"}
    plan = TrackingPlan.from_dict({"events": {"seen": {"properties": {"source": source}}}})
    campaigns = [{"source": "mail"}, {"source": None}, "none", {}]
    messages = [{"event": "seen", "userId": "u", "context": {"campaign": each}} for each in campaigns]
    messages += [{**messages[0], "properties": {"source": "ad"}}]
    batch = segment_messages(messages, plan, received=NOW)
    assert batch.frame["p_source"].to_list() == ["mail", None, None, None, "ad"]


def test_consent_is_what_was_said_and_the_default_elsewhere(plan):
    said = {"consent": {"categoryPreferences": {"analytics": True, "model_training": False, "adverts": True}}}
    frame = segment_messages([_track(context=said), _track()], plan, received=NOW).frame
    assert frame["consent"].to_list() == [0b011, None]


def test_the_local_offset_comes_from_the_zone_of_the_context(plan):
    zones = [{"timezone": "Europe/London"}, {"timezone": "Nowhere/Else"}, {}]
    messages = [_track(timestamp="2026-07-01T10:00:00+02:00", context=zone) for zone in zones]
    assert segment_messages(messages, plan, received=NOW).frame["offset"].to_list() == [60, 120, 120]


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=8))
TIMES = st.sampled_from(
    ["2026-03-01T10:00:00Z", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00", 1767225600, "x"]
)
ANYTHING = st.one_of(
    SCALARS, TIMES, st.lists(SCALARS, max_size=2), st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
)
OBJECT = st.dictionaries(
    st.sampled_from(
        ["price", "country", "gift", "ip", "userAgent", "timezone", "consent", "page", "categoryPreferences"]
    ),
    ANYTHING,
)
IDS = ["userId", "anonymousId", "previousId", "messageId", "name"]
FIELD = st.sampled_from([*IDS, "timestamp", "sentAt", "originalTimestamp", "receivedAt", "traits"])
MESSAGE = st.builds(
    lambda known, rest: {**rest, **known},
    st.fixed_dictionaries(
        {"type": st.sampled_from(TYPES), "event": st.sampled_from(["order_completed", "Page View"])},
        optional={"properties": OBJECT, "context": OBJECT, "batch": st.lists(ANYTHING, max_size=2)},
    ),
    st.dictionaries(FIELD, ANYTHING),
)


@settings(max_examples=60)
@given(st.lists(st.one_of(MESSAGE, ANYTHING), max_size=3), st.sampled_from([None, NOW]))
def test_whatever_a_message_holds_it_is_an_event_or_quarantined(messages, received):
    plan = TrackingPlan.from_dict(PLAN)
    report = clean(segment_messages(messages, plan, received=received), plan, key=b"k").report
    assert report.rows == report.accepted + report.duplicates + report.quarantined.total()
    assert report.rows == sum(len(unfolded(each)) for each in messages)
    assert report.rows >= sum(not isinstance(each, dict) or "type" in each for each in messages)
