"""Changes to ab.yaml: comments stay, nothing is written without --apply, a seed that divides segments evenly."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.amendment import balance, rollout
from features.draws import places
from features.errors import AnalysisError, DefinitionError
from serving.abtests import AbTests
from serving.store import SqliteStore
from tests.experiments import projects

SEGMENTS = """version: 1
segments:
  regulars: {when: {did: {event: viewed, count: {gte: 3}, last: 7d}}}
"""
AB = """# what we try
tests:
  hero:
    control: plain   # as it was
    arms: {plain: {}, bold: {}}
    segments: [regulars]
"""


@pytest.fixture
def project(tmp_path):
    made = projects.make(tmp_path / "shop", n_users=200, days=30, segments_yaml=SEGMENTS)
    made.path("ab").write_text(AB, encoding="utf-8")
    return made


def test_a_winner_is_rolled_out_as_a_change_to_the_file_and_only_with_apply(project):
    asked = ["ab", "rollout", "hero", "bold", "--project", str(project.root)]
    shown = CliRunner().invoke(app, asked)
    assert "+    winner: bold" in shown.stdout
    assert project.path("ab").read_text() == AB
    done = CliRunner().invoke(app, [*asked, "--apply", "--json"])
    assert json.loads(done.stdout)["applied"] is True
    assert AbTests.read(project.path("ab")).test("hero").winner == "bold"
    assert "# as it was" in project.path("ab").read_text()


def test_what_is_not_there_is_not_rolled_out(project):
    with pytest.raises(DefinitionError, match="unknown test 'heros'"):
        rollout(project, "heros", "bold")
    with pytest.raises(AnalysisError, match=r"no arm 'bald'. Hint: did you mean 'bold'"):
        rollout(project, "hero", "bald")


def test_a_balanced_seed_divides_every_segment_evenly(project):
    change = balance(project, "hero", seeds=60)
    counts = [int(part) for part in change.why.split("divides ")[1].replace(",", "").split() if part.isdigit()]
    assert sum(counts) == 200
    assert min(counts) > 20
    change.apply()
    assert AbTests.read(project.path("ab")).test("hero").seed == change.value
    arms = places(change.value, [f"u{k}" for k in range(200)]) < 0.5
    assert abs(int(np.sum(arms)) - 100) <= 4
    project.path("ab").write_text(AB.replace("    segments: [regulars]\n", ""))
    with pytest.raises(AnalysisError, match="names no segments"):
        balance(project, "hero")


def test_a_test_that_people_have_seen_keeps_its_seed(project):
    from serving.exposures import Exposure, ExposureLog

    with SqliteStore(project.path("state")) as store:
        log = ExposureLog(store, project.path("exposures"), lambda: None)
        log.keep([Exposure("hero", "u1", "bold", "other", 1, 1)])
        log.roll()
    with pytest.raises(AnalysisError, match="another seed would draw others"):
        balance(project, "hero")


def test_the_status_checks_the_file_and_counts_who_was_exposed(project):
    from serving.exposures import Exposure, ExposureLog

    with SqliteStore(project.path("state")) as store:
        log = ExposureLog(store, project.path("exposures"), lambda: None)
        log.keep([Exposure("hero", user, "bold", "other", 1, 1) for user in ("u1", "u1", "u2")])
        log.roll()
    asked = ["ab", "status", "--project", str(project.root)]
    told = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)["tests"]
    assert told == [{"test": "hero", "phase": "running", "share": 1.0, "exposed": {"plain": 0, "bold": 2}}]
    assert "running" in CliRunner().invoke(app, asked).stdout
    project.path("ab").write_text(AB.replace("control: plain", "control: plane"), encoding="utf-8")
    fault = CliRunner().invoke(app, asked).exception
    assert str(fault).startswith("ab.yaml:4: tests.hero.control: 'plane' is no arm of this test.")
