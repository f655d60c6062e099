"""`ethogram segments`: definitions on the shop's own file, memberships on a small log."""

import json
import re
from shutil import copytree

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from console.cli import app
from tests.experiments import projects
from tests.features.segments.test_format import SHOP


@pytest.fixture
def shop(tmp_path):
    copytree(SHOP.parent, tmp_path / "shop")
    return tmp_path / "shop"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    segments = """version: 1
segments:
  lately: {when: {did: {event: viewed, last: 2d}}, emit: [entered]}
  buyers: {when: {did: {event: bought, last: 30d}}, membership: {ttl: 20d}}
  rare: {when: {did: {event: bought, count: {gte: 9}}}, min_size: 500}
"""
    return projects.make(tmp_path_factory.mktemp("small") / "shop", n_users=30, segments_yaml=segments).root


def told(folder, *arguments):
    result = ran(*arguments, "-C", str(folder), "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def ran(*arguments):
    return CliRunner().invoke(app, ["segments", *arguments])


def test_check_lists_every_segment_with_its_class(shop):
    told = json.loads(ran("check", "-C", str(shop), "--json").stdout)["segments"]
    assert {each["segment"]: each["class"] for each in told}["cart_abandoners"] == "timer"
    uses = {each["segment"]: each["uses"] for each in told}
    assert uses["longest_sessions"] == ["feature session_minutes_30d"]
    assert uses["cart_abandoners"] == []
    assert any(each.startswith("segment ") for mine in uses.values() for each in mine)
    assert any(each == "study purchase_7d" for mine in uses.values() for each in mine)


def test_format_changes_a_file_once_and_says_so(shop):
    path = shop / "segments.yaml"
    path.write_text(path.read_text().replace("{event", "{  event"))
    assert ran("format", "-C", str(shop), "--check").exit_code == 1
    assert "anew" in ran("format", "-C", str(shop)).stdout
    assert ran("format", "-C", str(shop), "--check").exit_code == 0
    assert path.read_text() == SHOP.read_text()


def test_suggest_without_a_study_prints_what_explore_proposes_ready_to_paste(tmp_path):
    folder = projects.make(tmp_path / "shop", n_users=400).root
    proposed = told(folder, "suggest")["proposals"]
    shown = ran("suggest", "-C", str(folder)).stdout
    _, *parts = re.split(r"^# (\S+): to paste into it$", shown, flags=re.MULTILINE)
    documents = {file: YAML(typ="safe").load(text) for file, text in zip(parts[::2], parts[1::2], strict=True)}
    features, segments = documents.get("features.yaml", {"features": []}), documents["segments.yaml"]
    assert len(proposed) == len(features["features"]) + len(segments["segments"])
    declared = YAML(typ="safe").load(folder / "features.yaml")
    declared["features"] += features["features"]
    YAML().dump(declared, folder / "features.yaml")
    YAML().dump(segments, folder / "segments.yaml")
    checked = {each["segment"] for each in told(folder, "check")["segments"]}
    assert checked == set(segments["segments"])
    assert any("feature" in each["when"] for each in segments["segments"].values())
    assert all(each["reason"] in shown for each in proposed)


def test_the_schema_is_json():
    assert "$defs" in json.loads(ran("schema").stdout)


def test_history_before_the_first_apply_says_what_to_do(tmp_path):
    folder = projects.make(tmp_path / "shop", n_users=3).root
    failed = ran("history", "-C", str(folder))
    assert "Hint: `ethogram segments apply`" in str(failed.exception)


def test_plan_apply_and_history_tell_the_same(small):
    plan = told(small, "plan")
    lines = {each["name"]: each for each in plan["segments"]}
    assert lines["rare"] == {"name": "rare", "hidden": True}
    assert lines["lately"]["entered"] == lines["lately"]["after"] > 0
    assert told(small, "apply")["segments"] == plan["segments"]
    assert "nobody enters or leaves" in ran("plan", "-C", str(small)).stdout
    members = told(small, "history", "--segment", "lately")["members"]
    assert len(members) == lines["lately"]["after"]
    assert told(small, "history", "--segment", "lately", "--at", "2026-01-06")["members"] == []


def test_explain_tells_since_when_and_what_is_pending(small):
    told(small, "apply")
    user = told(small, "history", "--segment", "buyers")["members"][0]["user"]
    found = told(small, "explain", user, "--segment", "buyers")
    assert found["segments"]["buyers"]["in"]
    assert found["memberships"]["buyers"]["cause"] == "edit"
    text = ran("explain", user, "--segment", "buyers", "-C", str(small)).stdout
    assert "a member since" in text
    assert "by bought 2026-" in text
    assert "nobody in the log" in str(ran("explain", "nobody", "-C", str(small)).exception)


def test_preview_back_test_export_and_review_come_in_json_and_in_words(small, tmp_path):
    told(small, "apply")
    assert {each["name"] for each in told(small, "preview")["segments"]} == {"lately", "buyers"}
    text = ran("preview", "-C", str(small)).stdout
    assert "of these, also in" in text
    assert "1 below their min_size" in text
    dates = ("bought", "--from", "2026-02-01", "--every", "14d")
    assert told(small, "backtest", *dates)["rows"][0]["retention"]["others"] >= 0
    assert "2026-02-01" in ran("backtest", *dates, "-C", str(small)).stdout
    path = str(tmp_path / "out.csv")
    assert told(small, "export", path)["rows"] > 0
    assert "2 segments as of" in ran("export", path, "-C", str(small)).stdout
    assert told(small, "review")["alike"] == []
    assert "no two are alike" in ran("review", "-C", str(small)).stdout


def test_retire_and_merge_say_what_they_wrote(tmp_path):
    said = "version: 1\nsegments:\n  a: {when: {did: {event: viewed}}}\n  b: {when: {did: {event: viewed}}}\n"
    folder = projects.make(tmp_path / "shop", n_users=3, segments_yaml=said).root
    assert told(folder, "merge", "a", "b")["archived"] == "a"
    assert "b is archived" in ran("retire", "b", "-C", str(folder)).stdout


def test_diff_tells_in_json_and_in_words(small):
    other = str(small / "segments.yaml")
    assert told(small, "diff", other)["segments"] == []
    assert "nothing differs" in ran("diff", other, "-C", str(small)).stdout
    assert "no model of 'behaviour' is served" in str(ran("suggest", "behaviour", "-C", str(small)).exception)
