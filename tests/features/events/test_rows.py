"""Rows kept beside buckets: equal to rows made anew, and made again for nobody but those who changed."""

import numpy as np
import polars as pl
import pytest

from features.behaviour.feature_set import FeatureSet
from features.events.log import EventLog
from features.events.plan import Purpose
from features.events.rows import Rows
from features.events.segment import segment_messages
from features.instants import DAY, HOUR, parse_instant

NOW = parse_instant("2026-03-01T12:00:00.5Z")
DECLARED = {"features": [{"count": ["any", "page_view"], "windows": ["1d", "7d"]}, {"recency": ["any"]}]}


@pytest.fixture
def log(tmp_path, plan, key):
    log = EventLog(tmp_path / "log", plan, key=key, bucket_rows=32)
    pages = [{"type": "page", "userId": f"u{n % 20}", "messageId": f"m{n}"} for n in range(100)]
    _append(log, pages, "part")
    assert log.compact().n_buckets == 4
    return log


@pytest.fixture
def features(log):
    return FeatureSet.from_dict(DECLARED, log.plan, log.codes)


@pytest.fixture
def computed(monkeypatch):
    """The users of every row that the kernel has been asked for."""
    users = []
    compute = FeatureSet.compute

    def watched(self, histories, at, *, threads=None):
        users.extend(histories.users)
        return compute(self, histories, at, threads=threads)

    monkeypatch.setattr(FeatureSet, "compute", watched)
    return users


def _append(log, messages, name, received=NOW):
    log.append(log.clean(segment_messages(messages, log.plan, received=received)).batch, name=name)


def _asked(log, features, at, users=None):
    """Two rows a user, and the same without anything kept."""

    def work(rows):
        histories = rows.histories(features.schema)
        mine = histories.take(np.repeat(np.flatnonzero(np.isin(histories.users, users or histories.users)), 2))
        instants = np.full(len(mine), at) - np.arange(len(mine)) % 2 * HOUR
        return rows.compute(features, mine, instants, keep="test"), (mine, instants)

    return list(log.map(work))


def _equal(found, features):
    for kept, (histories, at) in found:
        fresh = FeatureSet(features.features, features.schema).compute(histories, at)
        np.testing.assert_array_equal(kept.values, fresh.values)
        np.testing.assert_array_equal(kept.users, fresh.users)
        np.testing.assert_array_equal(kept.at, fresh.at)
        np.testing.assert_array_equal(kept.capped, fresh.capped)


def test_rows_of_unchanged_persons_are_not_made_again(log, features, computed):
    _asked(log, features, NOW + DAY)
    assert len(computed) == 40
    computed.clear()
    _append(log, [{"type": "page", "userId": "u3", "messageId": "new"}], "more")
    found = _asked(log, features, NOW + DAY)
    assert computed == ["u3", "u3"]
    _equal(found, features)


def test_rows_at_other_instants_are_made(log, features, computed):
    _asked(log, features, NOW + DAY)
    computed.clear()
    found = _asked(log, features, NOW + DAY + HOUR)
    assert sorted(set(computed)) == sorted({f"u{n}" for n in range(20)})
    assert len(computed) == 20  # the other row of each was there
    _equal(found, features)


def test_some_rows_may_be_asked_for_and_others_later(log, features):
    _asked(log, features, NOW + DAY)
    _equal(_asked(log, features, NOW + DAY, users=["u1", "u7"]), features)
    _equal(_asked(log, features, NOW + DAY), features)


def test_other_features_are_other_rows(log, features, computed):
    _asked(log, features, NOW + DAY)
    other = FeatureSet.from_dict({"features": DECLARED["features"][:1]}, log.plan, log.codes)
    computed.clear()
    _equal(_asked(log, other, NOW + DAY), other)
    assert len(computed) >= 40


def test_of_an_unchanged_bucket_not_an_event_is_read(log, features, monkeypatch):
    first = list(log.map(lambda rows: rows.everybody(features, NOW, purpose=Purpose.ANALYTICS)))
    _append(log, [{"type": "page", "userId": "u3", "messageId": "new"}], "more")
    opened = []
    histories = Rows.histories
    monkeypatch.setattr(Rows, "histories", lambda self, schema: opened.append(self) or histories(self, schema))
    again = list(log.map(lambda rows: rows.everybody(features, NOW, purpose=Purpose.ANALYTICS)))
    assert len(opened) == 1
    changed = [place for place, (one, other) in enumerate(zip(first, again, strict=True)) if not _same(one, other)]
    assert changed == [place for place, each in enumerate(again) if "u3" in each.users]


def _same(one, other):
    return bool((one.values == other.values).all())


def test_rules_that_changed_leave_no_row(log, features, computed):
    _asked(log, features, NOW + DAY)
    computed.clear()
    log.plan.__dict__["too_fast"] = None
    _asked(log, features, NOW + DAY)
    assert len(computed) == 40


def test_nothing_of_an_erased_person_is_kept(log, features):
    _asked(log, features, NOW + DAY)
    _append(log, [{"type": "identify", "userId": "u5", "anonymousId": "u6", "messageId": "i"}], "link")
    log.compact()

    def kept():
        return {user for path in log.path.rglob("*rows-*.ipc") for user in pl.read_ipc(path)["user"]}

    assert {"u5", "u6"} < kept()
    log.erase("u5", at=NOW + HOUR)
    assert kept()
    assert not kept() & {"u5", "u6"}


def test_a_bucket_keeps_the_newest_rows_alone(log, features):
    for hour in range(12):
        list(
            log.map(
                lambda rows, hour=hour: rows.compute(features, rows.histories(features.schema), NOW, keep=f"{hour}")
            )
        )
    for bucket in log.compact().buckets:
        assert len(list((log.path / "buckets" / bucket.name).glob("rows-*"))) == 8
