"""Cleaning: nothing is lost, nothing personal is left, and each rule does what the plan says."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.batch import EventBatch
from features.events.bots import declared, listed, too_fast
from features.events.cleaning import clean
from features.events.devices import labels_of
from features.events.plan import TrackingPlan
from features.events.segment import segment_messages
from features.instants import SECOND, parse_instant
from tests.features.events.conftest import PLAN

NOW = parse_instant("2026-03-01T12:00:00.5Z")
ORDER = {"event": "order_completed", "user_id": "u", "p_revenue": 5.0}
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 16_0 like Mac OS X) AppleWebKit/605.1.15 Version/16.0 Mobile Safari/604.1"
IPAD = "Mozilla/5.0 (iPad; CPU OS 16_0 like Mac OS X) AppleWebKit/605.1.15 Version/16.0 Mobile/15E148 Safari/604.1"
PHONE = "Mozilla/5.0 (Linux; Android 13; Pixel 7) AppleWebKit/537.36 Chrome/112.0.0.0 Mobile Safari/537.36"
TABLET = "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 Chrome/112.0.0.0 Safari/537.36"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/112.0.0.0 Safari/537.36"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def _clean(rows, plan, **options):
    rows = [{"ts": NOW + n, "received": NOW + n, "message_id": f"m{n}", **row} for n, row in enumerate(rows)]
    return clean(EventBatch(pl.DataFrame(rows, infer_schema_length=None), plan), plan, key=b"k", **options)


def test_missing_values_follow_the_policy_of_their_property(plan):
    cleaned = _clean([{**ORDER, "p_coupon": "X", "p_country": "GB"}, ORDER, {**ORDER, "p_revenue": None}], plan)
    assert cleaned.batch.frame.select("p_country", "flagged").rows() == [("GB", None), ("??", "coupon")]
    assert cleaned.quarantine.select("reason", "detail").rows() == [("missing_value", "revenue")]
    assert cleaned.report.missing == {"country: default": 1, "coupon: flag": 1}


def test_a_property_of_another_event_is_dropped_and_counted(plan):
    cleaned = _clean([{"event": "page_view", "user_id": "u", "p_price": 3.0}], plan)
    assert cleaned.batch.frame["p_price"].to_list() == [None]
    assert cleaned.report.undeclared == {"price": 1}


def test_personal_properties_leave_only_their_pseudonym(plan):
    rows = [
        {"event": "identify", "user_id": "u", "p_email": "ann@example.com", "p_phone": None},
        {**ORDER, "p_phone": "555", "ip": "1.2.3.4", "user_agent": IPHONE},
    ]
    frame = _clean(rows, plan).batch.frame
    assert "p_phone" not in frame.columns
    assert frame["p_email"][0] not in (None, "ann@example.com")
    assert frame["p_email"][0] == _clean(rows[:1], plan).batch.frame["p_email"][0]
    assert frame.select(pl.col("ip", "user_agent").is_null().all()).row(0) == (True, True)
    assert frame.select("device", "browser").rows() == [(None, None), ("mobile", "safari")]


def test_marks_keep_bots_in_the_log(plan):
    rows = [
        {"event": "page_view", "user_id": "b", "user_agent": GOOGLEBOT},
        {"event": "page_view", "user_id": "c", "ip": "10.9.8.7"},
        {"event": "page_view", "user_id": "d", "ip": "2001:db8::1"},
        {"event": "page_view", "user_id": "e", "ip": "not an address", "user_agent": WINDOWS},
    ]
    cleaned = _clean(rows, plan)
    assert cleaned.batch.frame["mark"].to_list() == ["bot", "address", "address", None]
    assert cleaned.report.marked == {"bot": 1, "address": 2}


def test_more_events_in_a_second_than_a_person_can_make_mark_the_visitor(plan):
    rows = [{"event": "page_view", "user_id": "fast"} for _ in range(51)] + [
        {"event": "page_view", "user_id": "slow"}
    ] * 50
    marks = _clean(rows, plan).batch.frame["mark"].to_list()
    assert marks == ["too_fast"] * 51 + [None] * 50


def test_the_too_fast_window_is_half_open():
    visitors, ts = pl.Series(["v"] * 3), pl.Series([0, 1, SECOND])
    assert too_fast(visitors, ts, events=2, seconds=1).to_list() == [False] * 3
    assert too_fast(visitors, ts - pl.Series([0, 0, 1]), events=2, seconds=1).to_list() == [True] * 3


def test_copies_in_a_batch_leave_the_first_known(plan):
    rows = [{**ORDER, "message_id": "x", "received": NOW + 9}, {**ORDER, "message_id": "x", "p_revenue": 1.0}]
    cleaned = _clean(rows, plan)
    assert cleaned.batch.frame["p_revenue"].to_list() == [1.0]
    assert cleaned.report.duplicates == 1


def test_a_placeholder_beside_a_real_id_is_set_aside(plan):
    rows = [{"event": "page_view", "user_id": "null", "anonymous_id": "a"}]
    cleaned = _clean([*rows, {"event": "page_view", "user_id": "u", "anonymous_id": "0"}], plan)
    assert cleaned.batch.frame.select("user_id", "anonymous_id").rows() == [(None, "a"), ("u", None)]
    assert cleaned.report.denied == 2


def test_undeclared_properties_are_kept_without_identifiers_where_the_plan_says_so():
    plan = TrackingPlan.from_dict({**PLAN, "undeclared": "keep"})
    extra = '{"colour": "red", "mail": "ann@example.com"}'
    frame = _clean([{"event": "page_view", "user_id": "u", "extra": extra}], plan).batch.frame
    assert "red" in frame["extra"][0]
    assert "ann@" not in frame["extra"][0]


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (IPHONE, "mobile"),
        (IPAD, "tablet"),
        (PHONE, "mobile"),
        (TABLET, "tablet"),
        (WINDOWS, "desktop"),
        (GOOGLEBOT, "other"),
        ("curl/8", "other"),
    ],
)
def test_devices_are_told_from_the_user_agent(agent, expected):
    assert labels_of(agent)[0] == expected


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (IPHONE, "safari"),
        (WINDOWS, "chrome"),
        (f"{WINDOWS} Edg/124.0.2478.51", "edge"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0", "firefox"),
        ("curl/8", "other"),
    ],
)
def test_browsers_are_told_from_the_user_agent(agent, expected):
    assert labels_of(agent)[1] == expected


def test_bots_and_addresses_are_told_per_distinct_value():
    agents = pl.Series([GOOGLEBOT, WINDOWS, None, GOOGLEBOT])
    assert declared(agents).to_list() == [True, False, False, True]
    assert listed(pl.Series(["10.0.0.1", "11.0.0.1", None, "::1"]), ("10.0.0.0/8", "::/64")).to_list() == [
        True,
        False,
        False,
        True,
    ]
    assert not listed(pl.Series(["10.0.0.1"]), ()).any()


MESSY = st.fixed_dictionaries(
    {},
    optional={
        "event": st.sampled_from(["page_view", "order_completed", "identify", "alias", "nothing", None]),
        "user_id": st.sampled_from(["u", "v", "null", "", " ", "x" * 300, None]),
        "anonymous_id": st.sampled_from(["a", "0", None]),
        "previous_id": st.sampled_from(["p", "undefined", None]),
        "ts": st.sampled_from([NOW, NOW + 10**12, 0, None]),
        "message_id": st.sampled_from(["m", "n", None]),
        "p_revenue": st.sampled_from([5.0, -1.0, 1e300, float("inf"), float("nan"), None]),
        "p_country": st.sampled_from(["GB", None]),
    },
)


@given(st.lists(MESSY, max_size=12))
def test_every_row_is_an_event_a_copy_or_quarantined(rows):
    plan = TrackingPlan.from_dict(PLAN)
    schema = {"event": pl.String, "user_id": pl.String, "anonymous_id": pl.String, "previous_id": pl.String}
    schema |= {
        "ts": pl.Int64,
        "message_id": pl.String,
        "p_revenue": pl.Float64,
        "p_country": pl.String,
        "received": pl.Int64,
    }
    frame = pl.DataFrame([{"received": NOW, **row} for row in rows], schema=schema)
    cleaned = clean(EventBatch(frame, plan), plan, key=b"k")
    report = cleaned.report
    assert report.rows == len(rows)
    assert report.rows == report.accepted + report.duplicates + report.erased + report.quarantined.total()
    assert len(cleaned.batch) == report.accepted
    assert cleaned.quarantine.height == report.quarantined.total()
    again = clean(cleaned.batch, plan, key=b"k")
    assert again.report.accepted == report.accepted


def test_the_same_batch_gives_the_same_ids(plan):
    rows = [{**ORDER, "message_id": None}, {**ORDER, "message_id": None}, {**ORDER, "message_id": "m"}]
    fixed = [{**row, "ts": NOW, "received": NOW} for row in rows]
    one, other = (_clean(fixed, plan).batch.frame["id"].to_list() for _ in range(2))
    assert one == other
    assert len(set(one)) == 3


def test_personal_values_do_not_hide_in_reasons_or_names():
    secret = {"salary": {"type": "money", "personal": "drop", "max": 9}, "grade": {"type": "text", "personal": "drop"}}
    plan = TrackingPlan.from_dict({"events": {"hired": {"properties": secret}}})
    messages = [
        {"type": "track", "event": "hired", "userId": "u", "properties": {"salary": 77123, "ann@example.com": 1}},
        {
            "type": "track",
            "event": "hired",
            "userId": "u",
            "properties": {"salary": "about 77123", **dict.fromkeys(map(str, range(999)))},
        },
    ]
    cleaned = clean(segment_messages(messages, plan, received=NOW), plan, key=b"k")
    assert sorted(cleaned.quarantine["detail"]) == ["salary", "salary: no money"]
    assert "77123" not in cleaned.quarantine.write_json()
    assert "ann@" not in str(cleaned.report.to_dict())
    assert len(cleaned.report.undeclared) <= 201
