"""Our own exposure log: who counts, what each metric counts, and a planted effect that is found and rolled out."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.exposed import Exposed
from features.draws import place
from features.errors import AnalysisError, DefinitionError
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.instants import DAY, HOUR, MINUTE
from serving import exposures
from serving.abtests import AbTests
from serving.exposures import Exposure, ExposureLog
from serving.store import SqliteStore
from tests.experiments import projects

AB = """tests:
  hero:
    control: plain
    arms: {plain: {}, bold: {}}
    metrics:
      bought: {conversion: bought, within: 2d}
      revenue: {sum: bought.revenue, within: 2d}
      clicks: {rate: viewed, within: 2d}
      on_site: {time_on_site: 30m, within: 2d}
      back: {retention: any, after: 3d, within: 2d}
      kept: {conversion: viewed, within: 1d, guardrail: true}
"""
T0 = projects.START


def project_with(folder, events, shown, ab=AB):
    """A project whose log has (user, event, ts, revenue) and whose exposure log (user, arm, at, message id)."""
    folder.mkdir()
    for name, text in projects.FILES.items():
        (folder / name).write_text(text)
    project = projects.Project.find(folder)
    project.path("ab").write_text(ab)
    log = EventLog.of(project)
    n = len(events)
    columns = {name: [each[place] for each in events] for place, name in enumerate(("user_id", "event", "ts"))}
    given = {"source": ["made"] * n, "id": list(range(1, n + 1)), "received": columns["ts"], "seq": list(range(n))}
    given |= {"offset": [0] * n, "p_revenue": [each[3] for each in events]}
    schema = {"previous_id": pl.String, "p_revenue": pl.Float64}
    frame = pl.DataFrame({**columns, **given}, schema_overrides=schema)
    log.append(EventBatch(frame, log.plan), name="made")
    with SqliteStore(project.path("state")) as store:
        kept = ExposureLog(store, project.path("exposures"), lambda: None)
        kept.keep([Exposure("hero", user, arm, "other", at, at, message) for user, arm, at, message in shown])
        kept.roll()
    return project


@pytest.fixture
def small(tmp_path):
    events = [
        ("ann", "viewed", T0 - HOUR, None),  # before
        ("ann", "bought", T0 - HOUR + 1, 7.0),
        ("ann", "viewed", T0 + 1 * HOUR, None),
        ("ann", "viewed", T0 + 1 * HOUR + 10 * MINUTE, None),
        ("ann", "bought", T0 + 1 * HOUR + 15 * MINUTE, 2.5),
        ("ann", "viewed", T0 + 5 * HOUR, None),  # another session
        ("ann", "viewed", T0 + 2 * DAY, None),  # too late for 2d
        ("ann", "viewed", T0 + 4 * DAY, None),  # back
        ("bob", "viewed", T0 + 6 * DAY, None),
        ("eve", "viewed", T0 + 7 * DAY, None),
    ]
    shown = [
        ("ann", "bold", T0, "m1"),
        ("ann", "bold", T0, "m1"),  # twice
        ("ann", "bold", T0 + HOUR, "m2"),
        ("bob", "plain", T0, None),
        ("eve", "plain", T0 + 5 * DAY + HOUR, None),  # too late for `back`
        ("dan", "bold", T0, None),
        ("dan", "plain", T0 + 1, None),  # crossed
        ("zoe", "gone", T0, None),  # no such arm
    ]
    return project_with(tmp_path / "shop", events, shown)


def test_every_metric_counts_what_it_says_from_the_first_exposure_on(small):
    frame = Exposed.of(small, "hero").frame
    rows = {(row["user"], row["arm"]): row for row in frame.iter_rows(named=True)}
    assert set(rows) == {("ann", "bold"), ("bob", "plain"), ("eve", "plain"), ("dan", "bold"), ("dan", "plain")}
    ann, bob, eve = rows["ann", "bold"], rows["bob", "plain"], rows["eve", "plain"]
    assert (ann["bought"], ann["revenue"], ann["clicks"], ann["exposures"]) == (1.0, 2.5, 3.0, 2)
    assert ann["on_site"] == 15 * 60
    assert (ann["back"], bob["back"], eve["back"]) == (1.0, 0.0, None)
    assert (eve["bought"], eve["kept"]) == (None, 0.0)
    assert (ann["before"], bob["before"], str(ann["day"])) == (1.0, 0.0, "2026-01-05")


def test_what_does_not_count_is_told(small):
    notes = Exposed.of(small, "hero").notes
    assert notes[0] == "1 exposures came twice under one message_id and count once."
    assert "1 exposures were before the start" in notes[1]
    assert "back is known 5d after the exposure: 1 people do not count yet." in notes


def test_days_since_the_exposure_are_those_that_are_over(small):
    daily = Exposed.of(small, "hero").daily
    counts = dict(daily.group_by("user").len().iter_rows())
    assert (counts["ann"], counts["eve"]) == (7, 1)
    ann = daily.filter(user="ann").sort("since")
    assert ann["clicks"].to_list() == [3, 0, 1, 0, 1, 0, 0]
    assert ann["back"].to_list() == [1, 0, 1, 0, 1, 0, 0]


def test_nobody_exposed_and_no_metric_are_refused(small):
    other = "  other: {control: a, arms: {a: {}, b: {}}"
    small.path("ab").write_text(AB + other + ", metrics: {x: {conversion: bought}}}\n")
    with pytest.raises(AnalysisError, match="nobody was exposed to 'other'"):
        Exposed.of(small, "other")
    small.path("ab").write_text(AB + other + "}\n")
    with pytest.raises(AnalysisError, match="declares no metric"):
        Exposed.of(small, "other")


def test_a_planted_effect_is_found_in_the_log_and_rolled_out(tmp_path):
    random = np.random.default_rng(7)
    events, shown = [], []
    for user in range(900):
        arm, at = int(random.integers(0, 2)), T0 + int(random.integers(0, 5 * DAY))
        shown.append((f"u{user}", ("plain", "bold")[arm], at, None))
        views, buys = int(random.poisson(2 + arm)), int(random.random() < 0.2 + 0.15 * arm)
        did = [*[("viewed", None)] * views, *[("bought", 9.0)] * buys]
        events += [(f"u{user}", event, at + int(random.integers(1, 2 * DAY)), value) for event, value in did]
    shown += [("u0", "bold", T0 + 6 * DAY, None), ("u0", "plain", T0 + 6 * DAY, None)]
    events.append(("last", "viewed", T0 + 12 * DAY, None))
    project = project_with(tmp_path / "shop", events, shown)
    asked = ["ab", "analyze", "--test", "hero", "--project", str(project.root), "--json"]
    done = CliRunner().invoke(app, [*asked, "--covariate", "before"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["decision"]["answer"], document["decision"]["arm"]) == ("ship", "bold")
    assert sum(document["sample_ratio"]["counts"].values()) == 899
    assert "1 users were seen in two arms and left out." in document["notes"]
    assert {each["metric"] for each in document["since_exposure"]} >= {"bought", "revenue", "clicks", "on_site", "back"}
    assert len(document["by_day"][0]["points"]) == 5
    assert (project.path("reports") / "ab-hero.html").read_text().count("data:image/svg+xml") >= 3
    wrong = CliRunner().invoke(app, [*asked, "--metric", "bought"])
    assert isinstance(wrong.exception, AnalysisError)
    rolled = CliRunner().invoke(app, ["ab", "rollout", "hero", "--project", str(project.root), "--apply"])
    assert rolled.exit_code == 0, rolled.output
    assert AbTests.read(project.path("ab")).test("hero").winner == "bold"


def test_an_arm_that_is_never_shown_breaks_the_sample_ratio(tmp_path):
    shown = [(f"u{user}", "plain", T0, None) for user in range(30)]
    events = [(f"u{user}", "viewed", T0 + user * HOUR, None) for user in range(30)]
    events.append(("last", "viewed", T0 + 12 * DAY, None))
    project = project_with(tmp_path / "shop", events, shown)
    done = CliRunner().invoke(app, ["ab", "analyze", "--test", "hero", "--project", str(project.root), "--json"])
    assert done.exit_code == 1, done.output
    document = json.loads(done.stdout)
    assert document["sample_ratio"]["counts"] == {"plain": 30, "bold": 0}
    assert document["decision"]["answer"] == "invalid, do not ship"
    assert any("today's shares in ab.yaml" in note for note in document["notes"])


HOLDOUT = """holdout:
  share: 0.3
  start: 2026-01-05
  metrics:
    bought: {conversion: bought, within: 2d}
    views: {sum: bought.revenue, within: 2d}
"""


def held_out(user):
    return place("holdout", user) < 0.3


def test_the_holdout_is_compared_with_everybody_else_whoever_was_exposed(tmp_path):
    """Everybody counts, from the start or their first event on; tests raise what everybody else buys."""
    random = np.random.default_rng(11)
    events = [("early", "bought", T0 - DAY, 5.0), ("early", "bought", T0 + DAY, 2.0)]
    shown = []
    for number in range(1500):
        user, at = f"u{number}", T0 + int(random.integers(0, 5 * DAY))
        events.append((user, "viewed", at, None))
        if random.random() < (0.2 if held_out(user) else 0.35):
            events.append((user, "bought", at + HOUR, 9.0))
    crossed = next(user for user in (f"u{number}" for number in range(99)) if held_out(user))
    shown = [
        (crossed, "bold", T0 + DAY, None),
        *((f"u{n}", "bold", T0, None) for n in range(9) if not held_out(f"u{n}")),
    ]
    events.append(("u0", "viewed", T0 + 12 * DAY, None))
    project = project_with(tmp_path / "shop", events, shown, AB + HOLDOUT)
    frame = Exposed.held(project).frame
    assert dict(frame.group_by("arm").len().iter_rows()) == {
        "held_out": sum(held_out(user) for user in frame["user"]),
        "everybody_else": sum(not held_out(user) for user in frame["user"]),
    }
    early = frame.row(by_predicate=pl.col("user") == "early", named=True)
    assert (early["bought"], early["views"], early["before"]) == (1.0, 2.0, 1.0)
    asked = ["ab", "analyze", "--holdout", "--project", str(project.root), "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["decision"]["answer"], document["decision"]["arm"]) == ("ship", "everybody_else")
    assert sum(document["sample_ratio"]["counts"].values()) == 1501
    assert any(note.startswith("1 who are held out were exposed") for note in document["notes"])
    assert (project.path("reports") / "ab-holdout.html").read_text().count("data:image/svg+xml") >= 3
    assert isinstance(CliRunner().invoke(app, [*asked, "--test", "hero"]).exception, AnalysisError)


def test_a_holdout_that_cannot_be_compared_is_refused(small):
    with pytest.raises(AnalysisError, match="nobody, or everybody"):
        Exposed.held(small)
    small.path("ab").write_text(AB + "holdout: {share: 0.1}\n")
    with pytest.raises(AnalysisError, match="declares no metric"):
        Exposed.held(small)
    small.path("ab").write_text(AB + "holdout: {share: 0.1, metrics: {clicks: {rate: viewed}}}\n")
    with pytest.raises(DefinitionError, match=r"ab\.yaml:12: holdout\.metrics\.clicks: .*shown nothing"):
        Exposed.held(small)


def test_who_is_erased_is_in_no_exposure(small):
    done = CliRunner().invoke(app, ["erase", "ann", "--project", str(small.root)])
    assert done.exit_code == 0, done.output
    assert "ann" not in Exposed.of(small, "hero").frame["user"].to_list()
    assert "ann" not in exposures.read(small.path("exposures"))["user"].to_list()
