"""Slots beside buckets: what is mapped is what is decoded, a torn file is not read, nothing outlives its bucket."""

import os
import shutil

import numpy as np
import pytest

from features.behaviour.schema import StateSchema
from features.events import slots
from features.events.bucket import Bucket
from features.events.compaction import Manifest
from features.events.log import EventLog
from features.events.segment import segment_messages
from features.instants import DAY, HOUR, iso, parse_instant

NOW = parse_instant("2026-03-01T12:00:00.5Z")


@pytest.fixture
def log(tmp_path, plan, key):
    """Twenty persons with ten views each, at few instants, in no order; one made sixty in a second and is a bot's."""
    log = EventLog(tmp_path / "log", plan, key=key, bucket_rows=64)
    views = [_view(f"u{n % 20}", n, NOW - n % 7 * HOUR) for n in np.random.default_rng(3).permutation(200).tolist()]
    _append(log, [*views, *(_view("bot", f"b{n}", NOW - HOUR + n) for n in range(60))], "part")
    _append(log, [_view("bot", "late", NOW - 2 * HOUR)], "late", received=NOW - 2 * HOUR)
    assert log.compact().n_buckets == 8
    return log


def _view(user, n, ts):
    said = {"product_id": f"p{n % 3 if isinstance(n, int) else 0}", "price": 1.5}
    return {
        "type": "track", "event": "Product Viewed", "userId": user, "messageId": f"m{n}", "timestamp": iso(ts),
        "properties": said,
    }  # fmt: skip


def _append(log, messages, name, received=NOW):
    log.append(log.clean(segment_messages(messages, log.plan, received=received)).batch, name=name)


def _schema(log, *properties, **options):
    return StateSchema.of(log.plan, log.codes.codes, set(properties), **options)


def _histories(log, schema):
    return list(log.map(lambda rows: rows.histories(schema)))


def _files(log, pattern="slots-*.bin"):
    return sorted((log.path / "buckets").glob(f"*/{pattern}"))


def _told(histories):
    """Everything that histories say."""
    arrays = ("users", "slots", "starts", "ends")
    return [(each.settled, *(getattr(each, name).tolist() for name in arrays)) for each in histories]


@pytest.fixture
def decoding(monkeypatch):
    """The buckets that were decoded."""
    names = []
    decode = Bucket._events

    def watched(self, folder, columns):
        names.append(self.name)
        return decode(self, folder, columns)

    monkeypatch.setattr(Bucket, "_events", watched)
    return names


@pytest.mark.parametrize("properties", [(), ("product_id",), ("price", "product_id", "product_id|contains|1")])
def test_what_is_mapped_is_what_is_decoded(log, properties, decoding):
    """Also of a bucket with events that were taken back, which is not settled."""
    schema = _schema(log, *properties)
    decoded = _told(_histories(log, schema))
    assert len(decoding) == len(_files(log)) == 8
    assert _told(_histories(log, schema)) == decoded
    assert len(decoding) == 8
    assert {settled for settled, *_ in decoded} == {True, False}


def test_events_that_the_schema_does_not_know_are_left_out_both_times(log):
    _append(log, [{"type": "page", "userId": f"u{n}", "messageId": f"p{n}"} for n in range(0, 40, 2)], "pages")
    codes = {"product_viewed": log.codes.codes["product_viewed"]}
    schema = StateSchema.of(log.plan, codes, {"product_id"})
    decoded = _told(_histories(log, schema))
    assert _told(_histories(log, schema)) == decoded
    assert all(f"u{n}" not in users for _, users, *_ in decoded for n in range(20, 40))


def test_a_bucket_without_anybody_is_mapped_as_well(log, decoding):
    schema = StateSchema.of(log.plan, {"unheard_of": 99}, set())
    decoded = _told(_histories(log, schema))
    assert _told(_histories(log, schema)) == decoded
    assert len(decoding) == 8
    assert not any(users for _, users, *_ in decoded)


def test_a_torn_file_is_never_read(log, decoding):
    schema = _schema(log, "price")
    decoded = _told(_histories(log, schema))
    for size in (0, 4, 8, 24, 32, -8, -3):
        for file in _files(log):
            os.truncate(file, size if size >= 0 else file.stat().st_size + size)
        decoding.clear()
        assert _told(_histories(log, schema)) == decoded
        assert len(decoding) == 8
    assert _told(_histories(log, schema)) == decoded
    assert len(decoding) == 8


@pytest.mark.parametrize("word", [0, 2, 3])
def test_a_file_of_another_version_or_other_persons_is_never_read(log, decoding, word):
    schema = _schema(log, "price")
    decoded = _told(_histories(log, schema))
    for file in _files(log):
        words = np.fromfile(file, np.int64)
        words[word] += 1
        words.tofile(file)
    decoding.clear()
    assert _told(_histories(log, schema)) == decoded
    assert len(decoding) == 8


def test_what_a_killed_writer_left_is_not_read_and_goes(log):
    schema = _schema(log, "price")
    decoded = _told(_histories(log, schema))
    for file in _files(log):
        file.rename(file.with_name(f".{file.name}.1.1.new"))
    assert _told(_histories(log, schema)) == decoded
    assert len(_files(log)) == 8
    assert not _files(log, ".slots-*")


def test_a_schema_is_read_by_its_own_slots_alone(log):
    one, other = _schema(log, "price"), _schema(log, "product_id")
    first, second = _told(_histories(log, one)), _told(_histories(log, other))
    assert len(_files(log)) == 16
    assert first != second
    assert (_told(_histories(log, one)), _told(_histories(log, other))) == (first, second)


def test_the_schemas_that_were_asked_for_last_stay(log):
    schemas = [_schema(log, "price", horizon=days * DAY) for days in range(1, slots.MOST + 2)]
    for schema in (*schemas[:-1], schemas[0], schemas[-1]):
        _histories(log, schema)
    kept = {file.name for file in _files(log)}
    assert kept == {f"slots-{each.fingerprint}.bin" for each in (schemas[0], *schemas[2:])}


def test_a_changed_bucket_has_new_slots_and_the_others_keep_theirs(log, decoding):
    schema = _schema(log, "price")
    _histories(log, schema)
    decoding.clear()
    _append(log, [_view("u3", "new", NOW)], "more")
    grown = _told(_histories(log, schema))
    assert len(decoding) == 1
    shutil.rmtree(log.path / "buckets")
    assert _told(_histories(log, schema)) == grown


def test_slots_of_an_erased_person_are_gone(log):
    schema = _schema(log, "price")
    ids = set(log.frame(users=["u5"], columns=["id"])["id"])
    _histories(log, schema)
    held = [file for file in _files(log) if ids & set(np.fromfile(file, np.int64).tolist())]
    assert len(held) == 1
    log.erase("u5", at=NOW + HOUR)
    assert not held[0].exists()
    assert all("u5" not in users for _, users, *_ in _told(_histories(log, schema)))
    assert not any(ids & set(np.fromfile(file, np.int64).tolist()) for file in (log.path / "buckets").rglob("*.bin"))


def test_a_reader_of_a_bucket_that_is_gone_keeps_nothing(log):
    """It may have read the bucket before an erasure took it away."""
    schema, folder = _schema(log, "price"), log.path / "buckets"
    before = Manifest.read(folder)
    made = [bucket._histories(folder, schema, bucket.users(folder)) for bucket in before.buckets]
    users = [bucket.users(folder)["user"] for bucket in before.buckets]
    log.erase("u5", at=NOW + HOUR)
    for bucket, histories, names in zip(before.buckets, made, users, strict=True):
        slots.keep(folder / bucket.name, histories, names)
    assert not _files(log, "*slots-*")


def test_where_nothing_can_be_written_histories_are_decoded(log, monkeypatch, decoding):
    schema = _schema(log, "price")
    decoded = _told(_histories(log, schema))
    for file in _files(log):
        file.unlink()

    def full(file, arrays):
        file.write_bytes(b"some of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(slots, "_write", full)
    decoding.clear()
    assert _told(_histories(log, schema)) == decoded
    assert _told(_histories(log, schema)) == decoded
    assert len(decoding) == 16
    assert not _files(log, "*slots-*")


def test_what_is_written_over_a_mapped_history_stays_with_it(log):
    schema = _schema(log, "price")
    decoded = _told(_histories(log, schema))
    for histories in _histories(log, schema):
        histories.slots[:] = 0
    assert _told(_histories(log, schema)) == decoded
