"""Sessions and stays: what one counts by hand."""

import math

from features.instants import DAY, HOUR, MINUTE, SECOND, parse_instant
from tests.features.behaviour.shop import numbers

AT = parse_instant("2026-03-01T12:00:00")
LOG = [
    ("page_viewed", AT - 5 * HOUR),
    ("product_viewed", AT - 5 * HOUR + 10 * MINUTE, {"product_id": "lamp"}),
    ("product_viewed", AT - 5 * HOUR + 20 * MINUTE, {"product_id": "lamp"}),
    ("product_viewed", AT - 3 * HOUR, {"product_id": "rug"}),
    ("page_viewed", AT - 10 * MINUTE),
    ("product_viewed", AT - 4 * MINUTE, {"product_id": "lamp"}),
]


def test_what_is_counted_in_sessions_is_a_mean_over_those_that_are_over() -> None:
    found = numbers(
        {"in_session": {"count": "any", "distinct": "product_viewed.product_id"}, "windows": ["1d"]}, LOG, AT
    )
    assert found == {"session_count_any_1d": 2.0, "session_distinct_product_viewed_product_id_1d": 1.0}


def test_pauses_lie_between_sessions_of_the_window() -> None:
    found = numbers({"sessions": {"pauses": True}, "windows": ["4h", "1d"]}, LOG, AT)
    assert found["session_pause_minutes_1d"] == 100
    assert math.isnan(found["session_pause_minutes_4h"])


def test_the_open_session_is_the_current_one_until_its_silence_exceeds_the_gap() -> None:
    entry = {"current_session": {"count": ["any", "page_viewed"], "distinct": "product_viewed.product_id"}}
    names = ("minutes", "count_any", "count_page_viewed", "distinct_product_viewed_product_id")
    open_ = numbers(entry, LOG, AT + 26 * MINUTE)
    assert [open_[f"current_session_{name}"] for name in names] == [6, 2, 1, 1]
    assert set(numbers(entry, LOG, AT + 26 * MINUTE + 1).values()) == {0}


def test_a_stay_ends_with_the_next_event_or_the_gap_and_counts_once_it_is_settled() -> None:
    entry = {"dwell": ["any", "product_viewed"], "mean_dwell": "page_viewed", "windows": ["1d"]}
    minutes = {name: value / 60 for name, value in numbers(entry, LOG, AT).items()}
    assert minutes == {"dwell_any_s_1d": 86, "dwell_product_viewed_s_1d": 70, "mean_dwell_page_viewed_s_1d": 8}
    assert numbers(entry, LOG, AT + 26 * MINUTE)["dwell_product_viewed_s_1d"] == 100 * 60
    assert numbers({**entry, "gap": "1s"}, LOG, AT + DAY - 3 * HOUR)["dwell_any_s_1d"] == 2 * SECOND / SECOND
