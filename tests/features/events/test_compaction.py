"""Compaction: whatever came in whatever order, buckets are those of a compaction from nothing; few are made anew."""

import shutil
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.behaviour.schema import StateSchema
from features.events.log import EventLog
from features.events.plan import TrackingPlan
from features.events.segment import segment_messages
from features.instants import HOUR, SECOND, parse_instant
from tests.features.events.conftest import PLAN

NOW = parse_instant("2026-03-01T12:00:00.5Z")
PEOPLE = [f"u{n}" for n in range(6)]
DEVICES = [f"a{n}" for n in range(4)]

viewed = st.fixed_dictionaries(
    {
        "type": st.just("track"),
        "event": st.just("Product Viewed"),
        "messageId": st.integers(0, 12).map(str),
        "timestamp": st.integers(0, 5).map(lambda n: f"2026-03-01T11:59:0{n}.25Z"),
        "properties": st.fixed_dictionaries({"product_id": st.sampled_from("abc"), "price": st.integers(1, 3)}),
    }
)
by_user = st.builds(lambda message, user: {**message, "userId": user}, viewed, st.sampled_from(PEOPLE))
by_device = st.builds(lambda message, device: {**message, "anonymousId": device}, viewed, st.sampled_from(DEVICES))
by_both = st.builds(lambda message, device: {**message, "anonymousId": device}, by_user, st.sampled_from(DEVICES))
identify = st.builds(
    lambda user, device: {"type": "identify", "userId": user, "anonymousId": device, "messageId": f"{user}-{device}"},
    st.sampled_from(PEOPLE),
    st.sampled_from(DEVICES),
)
messages = st.lists(st.one_of(by_user, by_device, by_both, identify), min_size=1, max_size=12)
parts = st.lists(messages, max_size=5)


def _log(folder, *, bucket_rows=8):
    return EventLog(folder, TrackingPlan.from_dict(PLAN), key=b"k", bucket_rows=bucket_rows)


def _append(log, messages, name, received=NOW):
    cleaned = log.clean(segment_messages(messages, log.plan, received=received))
    log.append(cleaned.batch, name=name, quarantine=cleaned.quarantine)


def _histories(log):
    """Every bucket's histories, as plain values."""
    schema = StateSchema.of(log.plan, log.codes.codes, {"price", "product_id"})
    found = list(log.map(lambda rows: rows.histories(schema)))
    return [(each.users.tolist(), each.slots.tolist(), each.ends.tolist(), each.settled) for each in found]


def _anew(log):
    """Manifest and events of a compaction from nothing."""
    shutil.rmtree(log.path / "buckets")
    return log.compact(), log.frame()


@settings(max_examples=12)
@given(parts, st.permutations(range(5)), st.sampled_from(["nothing", "a part", "a person"]))
def test_a_log_that_grew_is_a_log_compacted_from_nothing(batches, order, removed):
    with tempfile.TemporaryDirectory() as folder:
        log = _log(Path(folder))
        _append(log, [{"type": "page", "userId": "u0", "messageId": "first"}], "first")
        for place, batch in enumerate(batches):
            _append(log, batch, f"part {place}", received=NOW + order[place] * SECOND)
            _histories(log)  # whose slots stay beside buckets that do not change
        if removed == "a part":
            log.parts.remove(next(iter(log.parts)))
        if removed == "a person":
            log.erase("a1", at=NOW + HOUR)
        if log.compact().rows:
            grown = log.compact(), log.frame()
            mapped = _histories(log)
            fresh = _anew(log)
            assert grown[0] == fresh[0]
            assert_frame_equal(grown[1], fresh[1])
            assert mapped == _histories(log)


@settings(max_examples=8)
@given(parts, st.permutations(range(5)))
def test_the_names_of_parts_decide_nothing(batches, names):
    """Copies that are known, received and ordered alike are told apart by what they hold."""
    frames = []
    for order in (range(5), names):
        with tempfile.TemporaryDirectory() as folder:
            log = _log(Path(folder))
            _append(log, [{"type": "page", "userId": "u0", "messageId": "first"}], "first")
            for place, batch in zip(order, batches, strict=False):
                _append(log, batch, f"part {place}")
            frames.append(log.frame())
    assert_frame_equal(*frames)


def _made(log):
    """Every bucket's folder with the time at which its events were written."""
    folder = log.path / "buckets"
    return {each.name: (folder / each.name / "events.parquet").stat().st_mtime_ns for each in log.compact().buckets}


@pytest.fixture
def log(tmp_path):
    log = _log(tmp_path)
    for n in range(24):
        _append(log, [{"type": "page", "userId": f"user {n}", "messageId": f"{n}"}], f"part {n:02}")
    assert log.compact().n_buckets == 4
    return log


def _page(user, message):
    return {"type": "page", "userId": user, "messageId": message}


def test_a_new_part_rewrites_the_buckets_of_its_persons_alone(log):
    before = _made(log)
    _append(log, [_page("user 3", "new")], "zzz")
    log.parts.remove(log.parts.get("part 23"))
    changed = _made(log).items() - before.items()
    assert 1 <= len(changed) <= 2


def test_a_link_rewrites_the_buckets_of_the_two_it_joins(log):
    _append(log, [{**_page("", "d"), "userId": None, "anonymousId": "device"}], "a device")
    log.parts.remove(log.parts.get("part 23"))
    before = _made(log)
    identify = {"type": "identify", "userId": "user 3", "anonymousId": "device", "messageId": "i"}
    _append(log, [identify], "zzz")
    log.parts.remove(log.parts.get("part 22"))
    changed = _made(log).items() - before.items()
    assert 1 <= len(changed) <= 3
    assert log.frame().filter(pl.col("user") == "user 3").height == 3


def test_an_erasure_rewrites_the_persons_bucket_and_leaves_no_old_one(log):
    before = _made(log)
    log.erase("user 5", at=NOW + HOUR)
    after = _made(log)
    assert len(after.items() - before.items()) == 1
    kept = {path.name for path in (log.path / "buckets").iterdir() if path.is_dir()}
    assert kept == {*after, log.compact().identity}


def test_rules_that_changed_rewrite_everything(log):
    before = _made(log)
    log.plan = TrackingPlan.from_dict({**PLAN, "too_fast": None})
    assert not _made(log).items() & before.items()


def test_the_buckets_that_somebody_may_be_reading_stay_until_the_next_change(log):
    before = _made(log)
    _append(log, [_page("user 3", "new")], "zzz")
    log.compact()
    assert all((log.path / "buckets" / name).is_dir() for name in before)
