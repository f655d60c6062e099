"""Ids under `include` and `exclude` that mean nobody are named."""

import json

import polars as pl
from typer.testing import CliRunner

from console.cli import app
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.instants import HOUR
from tests.experiments import projects

SEGMENTS = """version: 1
segments:
  kept: {when: {did: {event: bought}}, include: [u1], exclude: [u2, u3, nobody]}
  free: {when: {did: {event: any}}}
"""


def test_check_plan_and_apply_name_ids_that_have_joined_another_and_ids_that_nobody_has(tmp_path):
    project = projects.make(tmp_path / "shop", n_users=10, segments_yaml=SEGMENTS)

    def told(command):
        shown = CliRunner().invoke(app, ["segments", command, "-C", str(project.root)]).stdout
        said = CliRunner().invoke(app, ["segments", command, "-C", str(project.root), "--json"]).stdout
        lines = json.loads(said)["lists"]
        assert all(line in shown for line in lines)
        return lines

    unknown = "kept.exclude: nobody in the log has the id 'nobody'."
    assert told("check") == told("plan") == [unknown]
    log = EventLog.of(project)
    end = log.span()[1] + HOUR
    link = {
        "source": "made",
        "id": 10**6,
        "event": "alias",
        "user_id": "u4",
        "previous_id": "u3",
        "seq": 0,
        "offset": 0,
    }
    log.append(EventBatch(pl.DataFrame([{**link, "ts": end, "received": end}]), log.plan), name="link")
    into, other = sorted(["u3", "u4"], key=lambda user: user in EventLog.of(project).frame()["user"], reverse=True)
    assert other == "u3"
    joined = f"kept.exclude: 'u3' has joined {into!r}, and means nobody. Hint: write {into!r}."
    for command in ("check", "plan", "apply"):
        assert told(command) == [joined, unknown]
    path = project.file("segments.yaml")
    path.write_text(path.read_text().replace("u3, nobody", into))
    assert told("check") == []


def test_while_the_log_is_empty_no_id_is_called_unknown(tmp_path):
    for name, text in {**projects.FILES, "segments.yaml": SEGMENTS}.items():
        (tmp_path / name).write_text(text)
    checked = CliRunner().invoke(app, ["segments", "check", "-C", str(tmp_path), "--json"])
    assert json.loads(checked.stdout)["lists"] == []
