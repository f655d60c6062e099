"""An erased person is gone from everywhere, and nothing from before brings them back."""

import json

import polars as pl
import pytest

from features.events import log as log_module
from features.events.log import EventLog
from features.events.segment import segment_messages
from features.instants import DAY, HOUR, parse_instant

NOW = parse_instant("2026-03-01T12:00:00.5Z")
MESSAGES = [
    {"type": "page", "anonymousId": "device-1", "messageId": "1"},
    {"type": "identify", "anonymousId": "device-1", "userId": "ann", "messageId": "2"},
    {"type": "page", "userId": "ann", "messageId": "3"},
    {"type": "alias", "previousId": "old-ann", "userId": "ann", "messageId": "4"},
    {"type": "page", "userId": "old-ann", "messageId": "5"},
    {"type": "track", "event": "unheard of", "userId": "ann", "messageId": "6"},
    {"type": "dance", "note": "about ann"},
    {"type": "page", "userId": "bob", "messageId": "7"},
    {"type": "dance", "userId": "bob"},
]


@pytest.fixture
def log(tmp_path, plan, key):
    return EventLog(tmp_path / "log", plan, key=key)


def _append(log, messages, name, received=NOW):
    cleaned = log.clean(segment_messages(messages, log.plan, received=received))
    log.append(cleaned.batch, name=name, quarantine=cleaned.quarantine)
    return cleaned.report


def _ids(log):
    return set(log.frame()["user"]) | set(log.identity()["id"])


def test_every_id_of_the_person_goes_from_log_identity_and_quarantine(log):
    _append(log, MESSAGES[:3], "one")
    _append(log, MESSAGES[3:], "two")
    report = log.erase("device-1", at=NOW + HOUR)
    assert (report.ids, report.events, report.quarantined) == (3, 5, 2)
    assert _ids(log) == {"bob"}
    assert log.quarantine()["reason"].to_list() == ["bad_type"]
    assert log.quality().counts()["rows of erased persons"] == 7
    files = b"".join(path.read_bytes() for path in log.path.rglob("*") if path.is_file())
    assert b"ann" not in files
    assert b"device-1" not in files


def test_late_events_and_old_files_bring_nobody_back(log, tmp_path):
    file = tmp_path / "old.ndjson"
    lines = [{**each, "timestamp": "2026-03-01T10:00:00Z"} for each in MESSAGES]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    log.ingest(file)
    log.erase("ann", at=NOW)
    file.write_text("\n".join(map(json.dumps, reversed(lines))), encoding="utf-8")
    assert log.ingest(file).erased == 6
    late = {"type": "page", "userId": "ann", "messageId": "9", "timestamp": "2026-03-01T11:00:00Z"}
    assert _append(log, [late], "late", received=NOW + DAY).erased == 1
    assert _ids(log) == {"bob"}


def test_what_comes_after_the_erasure_is_a_new_beginning(log):
    _append(log, MESSAGES, "one")
    log.erase("ann", at=NOW + HOUR)
    new = [{**MESSAGES[2], "messageId": "n"}]
    _append(log, new, "two", received=NOW + DAY)
    assert log.frame().select("user", "ts").row(0) == ("ann", NOW + DAY)


def test_a_batch_cleaned_before_the_erasure_is_filtered_when_it_is_appended(log):
    _append(log, MESSAGES, "one")
    waiting = log.clean(segment_messages([{**MESSAGES[2], "messageId": "w"}], log.plan, received=NOW)).batch
    log.erase("ann", at=NOW + HOUR)
    log.append(waiting, name="waiting")
    assert _ids(log) == {"bob"}


def test_an_erasure_killed_half_way_ends_when_it_is_done_again(log, monkeypatch):
    _append(log, MESSAGES[3:], "a")
    _append(log, MESSAGES[:3], "b")
    done = []

    def dying(part, *arguments):
        if done:
            raise KeyboardInterrupt
        done.append(part)
        return erase_from(part, *arguments)

    erase_from = log_module.erase_from
    with monkeypatch.context() as patch:
        patch.setattr(log_module, "erase_from", dying)
        with pytest.raises(KeyboardInterrupt):
            log.erase("ann", at=NOW + HOUR)
    log.erase("ann", at=NOW + HOUR)
    assert _ids(log) == {"bob"}
    rows = sum(pl.read_parquet(block.events).height for part in log.parts for block in part.blocks)
    assert rows == log.quality().report.accepted == 1
