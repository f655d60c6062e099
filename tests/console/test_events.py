"""The commands about events, through the command line's own program."""

import json
import sys

import polars as pl
import pytest

from console.cli import main
from features.people import pseudonym
from features.project import Project

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


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """The program's own door, in this process: standard output (parsed where it is JSON), or the error."""

    def call(*words, code=0):
        monkeypatch.setattr(sys, "argv", ["ethogram", *words, "--project", str(folder)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert (left.value.code or 0) == code, err
        return err if code else json.loads(out) if "--json" in words else out

    return call


def test_a_project_is_ingested_inspected_and_a_person_erased(folder, run):
    events = str(folder / "events.ndjson")
    assert run("ingest", events, "--json")["total"]["accepted"] == 3
    assert "3 events" in run("ingest", events)
    person = run("identity", "a1", "ann", "--json")
    assert (person["canonical"], person["same"], len(person["links"])) == ("ann", True, 1)
    assert run("erase", "ann", "--json")["events"] == 2
    quality = run("quality", "--json")
    assert quality["counts"]["events_in_the_log"] == 1
    assert quality["quarantined"] == {"denied_id": 1}
    assert run("plan", "--json")["codes"]["page_view"] == 3


def test_who_is_erased_leaves_the_logs_wherever_the_service_was_told_to_keep_them(folder, run, monkeypatch):
    run("ingest", str(folder / "events.ndjson"))
    for kind in ("predictions", "exposures", "memberships"):
        monkeypatch.setenv(f"ETHOGRAM_{kind.upper()}", str(folder / "elsewhere" / kind))
    logged = folder / "elsewhere" / "predictions" / "2026-01-01" / "a.parquet"
    logged.parent.mkdir(parents=True)
    hidden = [pseudonym(Project.find(folder).key, one) for one in ("ann", "bob")]
    pl.DataFrame({"user": hidden}).write_parquet(logged)
    run("erase", "ann")
    assert pl.read_parquet(logged)["user"].to_list() == hidden[1:]


def test_mistakes_are_one_line_and_code_two(folder, run):
    assert "nothing.csv: no such file." in run("ingest", str(folder / "nothing.csv"), code=2)
    assert "is a folder. Hint: ingest its files" in run("ingest", str(folder), code=2)
    (folder / "ethogram.yaml").write_text("name: shop\nlog: events.ndjson/log\n")  # a file where a folder has to be
    told = run("ingest", str(folder / "events.ndjson"), code=2).splitlines()[-1]
    assert told.startswith(f"error: {folder / 'events.ndjson'}")
    (folder / "plan.yaml").write_text(PLAN.replace("events:", "event:"), encoding="utf-8")
    assert "did you mean 'events'" in run("plan", code=2)
