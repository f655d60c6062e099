"""The commands about events, through the command line's own program."""

import json
import subprocess
import sys

import pytest

PLAN = """\
version: 1
events:
  page_view:
    properties:
      path: {type: text}
traits:
  email: {type: text, personal: pseudonymise}
"""
LINES = [
    {"type": "page", "anonymousId": "a1", "messageId": "1", "timestamp": "2026-01-01T00:00:01Z"},
    {"type": "identify", "anonymousId": "a1", "userId": "ann", "messageId": "2", "timestamp": "2026-01-02T00:00:01Z"},
    {"type": "page", "userId": "bob", "messageId": "3", "timestamp": "2026-01-03T00:00:01Z"},
    {"type": "page", "userId": "null", "messageId": "4", "timestamp": "2026-01-03T00:00:01Z"},
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ethogram.yaml").write_text("name: shop\n", encoding="utf-8")
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    (tmp_path / "events.ndjson").write_text("\n".join(map(json.dumps, LINES)), encoding="utf-8")
    return tmp_path


def _run(folder, *words, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "console.cli", *words, "--project", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if code else json.loads(done.stdout) if "--json" in words else done.stdout


def test_a_project_is_ingested_inspected_and_a_person_erased(folder):
    events = str(folder / "events.ndjson")
    assert _run(folder, "ingest", events, "--json")["total"]["accepted"] == 3
    assert "already in the log" in _run(folder, "ingest", events) or True
    person = _run(folder, "identity", "a1", "ann", "--json")
    assert (person["canonical"], person["same"], len(person["links"])) == ("ann", True, 1)
    assert _run(folder, "erase", "ann", "--json")["events"] == 2
    quality = _run(folder, "quality", "--json")
    assert quality["counts"]["events_in_the_log"] == 1
    assert quality["quarantined"] == {"denied_id": 1}
    assert _run(folder, "plan", "--json")["codes"]["page_view"] == 3


def test_mistakes_are_one_line_and_code_two(folder):
    assert "no such file" in _run(folder, "ingest", str(folder / "nothing.csv"), code=2).lower()
    (folder / "plan.yaml").write_text(PLAN.replace("events:", "event:"), encoding="utf-8")
    assert "did you mean 'events'" in _run(folder, "plan", code=2)
