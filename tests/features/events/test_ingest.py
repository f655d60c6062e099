"""Ingest happens wholly or not at all, whenever it is killed; doing it again changes nothing."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from features.events.log import EventLog
from features.events.mapping import Mapping
from features.events.parts import Part, PartWriter
from features.events.plan import TrackingPlan
from tests.features.events.conftest import PLAN

MAPPING = Mapping.from_dict({"user_id": "user", "ts": "at", "event": {"otherwise": "page_view"}})


@pytest.fixture
def log(tmp_path, plan, key):
    return EventLog(tmp_path / "log", plan, key=key, codes_path=tmp_path / "plan.lock")


def _file(tmp_path, rows=50):
    path = tmp_path / "visits.csv"
    lines = [f"u{n % 7},2026-01-01T00:00:{n % 60:02d}.{n:06d}Z" for n in range(rows)]
    path.write_text("user,at\n" + "\n".join(lines) + "\n,bad\n", encoding="utf-8")
    return path


def _content(log):
    return {
        str(path.relative_to(log.path)): path.read_bytes()
        for path in sorted(log.path.glob("parts/*/*"))
        if not path.parent.name.startswith(".")
    }


def test_ingesting_a_file_again_changes_nothing(log, tmp_path):
    file = _file(tmp_path)
    first = log.ingest(file, mapping=MAPPING)
    before, manifest = _content(log), log.compact()
    again = log.ingest(file, mapping=MAPPING)
    assert again.repeated
    assert again.accepted == first.accepted
    assert _content(log) == before
    assert log.compact() == manifest
    copy = file.rename(tmp_path / "renamed.csv")
    assert log.ingest(copy, mapping=MAPPING).repeated


def test_another_mapping_replaces_what_the_file_gave(log, tmp_path):
    file = _file(tmp_path)
    log.ingest(file, mapping=MAPPING)
    other = Mapping.from_dict({**MAPPING.model_dump(exclude_none=True), "event": {"otherwise": "product_viewed"}})
    log.ingest(file, mapping=other)
    assert len(list(log.parts)) == 1
    assert set(log.frame()["event"]) == {"product_viewed"}


def test_two_files_that_overlap_count_their_common_rows_once(log, tmp_path):
    log.ingest(_file(tmp_path, 50), mapping=MAPPING)
    log.ingest(_file(tmp_path, 80), mapping=MAPPING)
    assert log.compact().rows == 80
    assert log.compact().duplicates == 50


@pytest.mark.parametrize("step", ["write", "close", "rename"])
def test_a_crash_at_any_step_leaves_nothing(log, tmp_path, monkeypatch, step):
    file = _file(tmp_path)

    def crash(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            "pathlib.Path.rename" if step == "rename" else PartWriter, *([crash] if step == "rename" else [step, crash])
        )
        with pytest.raises(KeyboardInterrupt):
            log.ingest(file, mapping=MAPPING)
    assert list(log.parts) == []
    assert log.ingest(file, mapping=MAPPING).accepted == 50


def test_codes_are_fixed_before_the_first_event_is_written(log, tmp_path):
    log.ingest(_file(tmp_path), mapping=MAPPING)
    assert json.loads((tmp_path / "plan.lock").read_text())["events"] == log.codes.codes


@pytest.mark.integration
def test_killing_ingest_at_any_moment_gives_the_same_log(tmp_path, plan, key):
    file = _file(tmp_path, 400_000)
    program = (
        "import json, sys; from features.events.log import EventLog; from features.events.mapping import Mapping;"
        "from features.events.plan import TrackingPlan; folder, plan, mapping, file = sys.argv[1:];"
        "log = EventLog(folder, TrackingPlan.from_dict(json.loads(plan)), key=b'a test key');"
        "print('ready', flush=True); log.ingest(file, mapping=Mapping.from_dict(json.loads(mapping)))"
    )
    mapping = MAPPING.model_dump_json(exclude_none=True)
    words = [sys.executable, "-c", program, str(tmp_path / "log"), json.dumps(PLAN), mapping, str(file)]
    moments = random.Random(4)
    for _ in range(12):
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, 3))
            process.send_signal(signal.SIGKILL)
        for part in EventLog(tmp_path / "log", plan, key=key).parts:
            assert Part(part.path).report().accepted == 400_000
    killed, whole = (EventLog(tmp_path / name, TrackingPlan.from_dict(PLAN), key=key) for name in ("log", "other"))
    for log in (killed, whole):
        log.ingest(file, mapping=MAPPING)
        log.compact()
    assert _content(killed) == _content(whole)
    assert killed.frame().equals(whole.frame())
    assert not [path for path in (tmp_path / "log" / "parts").iterdir() if path.name.endswith(".new")]
