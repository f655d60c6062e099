"""Who enters and who leaves: plan and apply, against a replay of every event, and what each cause is called."""

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.audience import Audience
from experiments.curation import Review
from experiments.difference import Difference
from experiments.enrolment import Enrolment
from experiments.export import Export
from experiments.standing import Standing
from features.errors import AnalysisError
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.instants import DAY, HOUR, iso
from features.segments.ledger import Ledger
from tests.experiments import projects

SEGMENTS = """version: 1
segments:
  regulars: {when: {did: {event: viewed, count: {gte: 3}, last: 7d}}, emit: [entered]}
  sticky:
    when: {did: {event: viewed, count: {gte: 3}, last: 2d}}
    membership: {ttl: 3d, exit_on: [{event: bought}], reentry: {after: 1d}}
  lasting: {when: {feature: {count_viewed_7d: {gte: 8}}}, membership: {hysteresis: {exit: 4}, min_dwell: 1d}}
  kept: {when: {did: {event: bought, last: 1d}}, include: [u1], exclude: [u3]}
  tiny: {when: {did: {event: viewed, count: {gte: 60}}}, min_size: 1000}
  sketched: {status: draft, when: {did: {event: any}}}
"""
END = projects.START + 60 * DAY


@pytest.fixture
def project(tmp_path):
    return projects.make(tmp_path / "shop", n_users=60, segments_yaml=SEGMENTS)


def applied(project, at):
    Enrolment.plan(project, at=at).apply()
    return Ledger.read(project.path("memberships"))


def inside(ledger, at, segment):
    return set(ledger.members(at, segment=segment)["user"])


def test_a_plan_changes_nothing_and_apply_does_what_it_said(project):
    plan = Enrolment.plan(project, at=END)
    assert not project.path("memberships").exists()
    ledger = plan.apply()
    told = {line.name: line for line in plan.lines}
    truths = [Audience.of(project, END).truths(each, END) for each in Audience.of(project, END).everybody()]
    wanted = {str(user) for each in truths for user in each.users[each.column("regulars")]}
    assert inside(ledger, END, "regulars") == wanted
    assert told["regulars"].after == told["regulars"].entered == len(wanted) > 3
    assert told["regulars"].causes == {"edit": len(wanted)}
    assert (
        told["regulars"]
        .samples[0]["why"]
        .startswith("edit; {did: {count: {gte: 3}, event: viewed, last: 7d}} by viewed 2026-")
    )
    assert told["sketched"].after == 0
    assert told["sketched"].note == "draft"
    assert "tiny: fewer than its min_size" in str(plan)
    assert "u1" in inside(ledger, END, "kept")
    assert "u3" not in inside(ledger, END, "kept")


def test_applying_twice_as_of_one_instant_changes_nothing(project):
    first = applied(project, END)
    again = Enrolment.plan(project, at=END)
    assert "nobody enters or leaves" in str(again)
    assert again.apply() == first
    with pytest.raises(AnalysisError, match="is before that"):
        Enrolment.plan(project, at=END - 1)


def test_one_long_step_tells_the_same_as_many_short_ones(project, tmp_path):
    """Also along the way: every membership at every instant, whenever it was applied."""
    other = projects.make(tmp_path / "other", n_users=60, segments_yaml=SEGMENTS)
    begin, end = END - 20 * DAY, END - DAY
    applied(project, begin)
    whole = applied(project, end)
    applied(other, begin)
    for at in range(begin + 5 * HOUR, end, 37 * HOUR):
        applied(other, at)
    parts = applied(other, end)
    for name in ("regulars", "sticky", "lasting"):
        mine = pl.col("segment") == name
        one, two = (each.changes().filter(mine).collect().sort("user", "at") for each in (whole, parts))
        assert one.equals(two)
        assert one.height > 30


def test_a_membership_without_options_is_its_truth_at_any_instant_since_it_was_applied(project):
    begin, end = END - 20 * DAY, END - DAY
    applied(project, begin)
    ledger, audience = applied(project, end), Audience.of(project, end)
    for at in range(begin, end + 1, 29 * HOUR):
        truths = [audience.truths(each, at) for each in audience.everybody()]
        for name in ("regulars", "kept"):
            assert inside(ledger, at, name) == {str(user) for each in truths for user in each.users[each.column(name)]}
    causes = set(ledger.changes().filter(pl.col("segment") == "regulars").collect()["cause"])
    assert causes == {"edit", "event", "time"}


def test_an_edit_a_pause_and_an_end_are_told_as_what_they_are(project):
    ledger, path = applied(project, END), project.file("segments.yaml")
    regulars = inside(ledger, END, "regulars")
    path.write_text(path.read_text().replace("count: {gte: 3}, last: 7d", "count: {gte: 6}, last: 7d"))
    line = next(each for each in Enrolment.plan(project, at=END).lines if each.name == "regulars")
    assert set(line.causes) == {"edit"}
    assert 0 < line.left < len(regulars)
    ledger = applied(project, END)
    assert len(inside(ledger, END, "regulars")) == len(regulars) - line.left
    assert inside(ledger, END - 1, "regulars") == set()
    path.write_text(path.read_text().replace("  regulars: {", "  regulars: {status: paused, "))
    assert inside(applied(project, END + 6 * DAY), END + 6 * DAY, "regulars") == inside(ledger, END, "regulars")
    path.write_text(path.read_text().replace("status: paused", "status: archived"))
    assert inside(applied(project, END + 7 * DAY), END + 7 * DAY, "regulars") == set()


def test_who_was_erased_is_in_no_ledger(project):
    ledger = applied(project, END)
    user = min(inside(ledger, END, "regulars"))
    EventLog.of(project).erase(user, at=END + HOUR)
    plan = Enrolment.plan(project, at=END + HOUR)
    assert next(each for each in plan.lines if each.name == "regulars").causes["erase"] == 1
    ledger = plan.apply()
    assert user not in ledger.changes().collect()["user"].to_list()
    assert user not in ledger.state_frame()["user"].to_list()


def test_who_once_was_a_member_and_was_erased_is_in_no_ledger(project):
    applied(project, END - 10 * DAY)
    ledger = applied(project, END)
    once = set(ledger.changes().filter(pl.col("segment") == "regulars").collect()["user"])
    held = set(ledger.state_frame()["user"])
    user = min(once - held)
    EventLog.of(project).erase(user, at=END + HOUR)
    plan = Enrolment.plan(project, at=END + HOUR)
    assert plan.erased == [user]
    assert "erase" not in next(each for each in plan.lines if each.name == "regulars").causes
    assert user not in plan.apply().changes().collect()["user"].to_list()
    assert Enrolment.plan(project, at=END + HOUR).erased == []


def test_who_was_erased_and_came_back_begins_anew(project):
    applied(project, END - 10 * DAY)
    ledger, log = applied(project, END), EventLog.of(project)
    user = min(inside(ledger, END, "regulars") - {"u1"})
    log.erase(user, at=END + HOUR)
    said = {"source": "made", "event": "viewed", "user_id": user, "seq": 0, "offset": 0}
    views = [{**said, "id": 10**6 + k, "ts": at, "received": at} for k in range(3) for at in [END + (k + 2) * HOUR]]
    log.append(EventBatch(pl.DataFrame(views), log.plan), name="back")
    line = next(each for each in Enrolment.plan(project, at=END + DAY).lines if each.name == "regulars")
    assert line.causes["erase"] == 1
    assert line.before + line.entered - line.left == line.after
    mine = applied(project, END + DAY).changes().filter(pl.col("user") == user, pl.col("segment") == "regulars")
    assert mine.select("at", "entered", "cause").collect().rows() == [(END + 4 * HOUR, True, "event")]
    assert Enrolment.plan(project, at=END + DAY).erased == []


def test_who_was_erased_by_command_is_told_by_the_next_plan(project):
    ledger = applied(project, END)
    user, size = min(inside(ledger, END, "regulars")), len(inside(ledger, END, "regulars"))
    EventLog.of(project).erase(user, at=END + HOUR)
    ledger.forget([user])
    line = next(each for each in Enrolment.plan(project, at=END + HOUR).lines if each.name == "regulars")
    assert (line.before, line.after, line.left, line.causes) == (size, size - 1, 1, {"erase": 1})
    assert not applied(project, END + HOUR).erased


def test_bounds_are_frozen_until_they_are_due_and_a_refit_is_told_when_it_happened(project):
    path = project.file("segments.yaml")
    said = "percentile: {feature: count_viewed_7d, gte: "
    path.write_text(
        f"{path.read_text()}  most: {{when: {{{said}80, refresh: 1d}}}}}}\n  half: {{when: {{{said}50}}}}}}\n"
    )
    first, log, later = applied(project, END), EventLog.of(project), END + 2 * DAY + HOUR
    one = {"source": "made", "event": "viewed", "seq": 0, "offset": 0}
    views = [
        {**one, "id": 10**6 + k, "user_id": f"u{k % 50}", "ts": END + 2 * DAY + k, "received": later}
        for k in range(1500)
    ]
    log.append(EventBatch(pl.DataFrame(views), log.plan), name="more")
    lines = {line.name: line for line in Enrolment.plan(project, at=later).lines}
    assert set(lines["most"].causes) == {"refit"}
    assert set(lines["half"].causes) == {"event", "time"}
    second = applied(project, later)
    most, half = (next(key for key in first.bounds if key.endswith(q)) for q in ("80", "50"))
    assert second.bounds[half] == first.bounds[half]
    assert second.bounds[most].values != first.bounds[most].values
    assert inside(second, END, "most") == inside(first, END, "most")
    refits = second.changes().filter(pl.col("segment") == "most", pl.col("cause") == "refit").collect()
    assert set(refits["at"]) == {later}


def test_of_a_segment_with_too_few_members_nothing_is_told(project, tmp_path):
    path = project.file("segments.yaml")
    path.write_text(f"{path.read_text()}  sparse: {{when: {{did: {{event: viewed, last: 1d}}}}, min_size: 60}}\n")
    ledger, other = applied(project, END), tmp_path / "other.yaml"
    (user, *_) = inside(ledger, END, "sparse")
    edits = path.read_text().replace("viewed, last: 1d", "viewed, last: 2d").replace("bought, last", "any, last")
    other.write_text(edits)
    listed = CliRunner().invoke(app, ["segments", "history", "-C", str(project.root), "--json"]).stdout
    told = [listed, Standing.of(project, user, at=END), Review.of(project, days=-1, share=0.99)]
    for each in map(str, [*told, Difference.of(project, other=other)]):
        assert "sparse" not in each
        assert "kept" in each


def test_history_counts_who_was_in_as_of_the_instant_also_of_what_is_declared_no_more(project):
    path, early = project.file("segments.yaml"), END - 58 * DAY
    bare = path.read_text()
    path.write_text(f"{bare}  seen: {{when: {{did: {{event: any, last: 14d}}}}, min_size: 55}}\n")

    def told(*arguments):
        said = CliRunner().invoke(app, ["segments", "history", "-C", str(project.root), "--json", *arguments])
        return {each["user"] for each in json.loads(said.stdout)["members"] if each["segment"] == "seen"}

    first = applied(project, early)
    few = inside(first, early, "seen")
    assert 0 < len(few) < 55
    many = inside(applied(project, END), END, "seen")
    assert told() == many
    assert len(many) >= 55
    for _ in ("declared", "declared no more"):
        before = "--at", iso(early)
        assert told(*before) == told(*before, "--segment", "seen") == told(*before, "--user", min(few)) == set()
        assert told("--at", iso(END)) == many
        path.write_text(bare)
        applied(project, END + HOUR)
    manifest = project.path("memberships") / "ledger.json"
    said = json.loads(manifest.read_text())
    assert said["least"]["seen"] == 55
    del said["least"]
    manifest.write_text(json.dumps(said))
    assert Ledger.read(manifest.parent).least["tiny"] == 1000


def test_history_names_a_segment_that_was_never_applied_and_a_user_whom_nobody_knows(project):
    applied(project, END)

    def refused(*arguments):
        result = CliRunner().invoke(app, ["segments", "history", "-C", str(project.root), *arguments])
        return str(result.exception)

    assert refused("--segment", "regular") == "no segment 'regular' was applied. Hint: did you mean 'regulars'?"
    assert refused("--user", "u1000") == "nobody in the log has the id 'u1000'."
    assert refused("--segment", "tiny", "--user", "u1") == "None"


def test_explain_tells_the_membership_and_not_the_condition_alone(project):
    applied(project, END - 6 * DAY)
    later = Enrolment.plan(project, at=END)
    ledger = Ledger.read(project.path("memberships"))
    people = ledger.state_frame().filter(pl.col("segment") == "sticky")["user"].to_list()
    wanted = {user: inside for user, name, inside in later.states.select("user", "segment", "inside").iter_rows()
              if name == "sticky"}  # fmt: skip
    found = {user: Standing.of(project, user, at=END, names=["sticky"]) for user in people}
    assert {user: each.trees["sticky"]["in"] for user, each in found.items()} == {
        user: wanted.get(user, False) for user in people
    }
    out = next(user for user in people if not wanted.get(user, False))
    told = found[out].to_dict()["memberships"]["sticky"]
    assert told["since"] is None
    assert told["left"] < told["back_from"]
    assert f"left {told['left']}, back_from {told['back_from']}" in str(found[out])


def test_a_merge_is_told_as_one(project):
    ledger = applied(project, END)
    one, other = sorted(inside(ledger, END, "regulars"))[:2]
    log = EventLog.of(project)
    link = {
        "source": "made",
        "id": 10**6,
        "event": "alias",
        "user_id": one,
        "previous_id": other,
        "seq": 0,
        "offset": 0,
    }
    log.append(EventBatch(pl.DataFrame([{**link, "ts": END + HOUR, "received": END + HOUR}]), log.plan), name="link")
    ledger = applied(project, END + 2 * HOUR)
    gone = ledger.changes().filter(pl.col("at") == END + HOUR, pl.col("segment") == "regulars").collect()
    assert gone.select("entered", "cause").rows() == [(False, "merge")]
    assert len(inside(ledger, END + 2 * HOUR, "regulars") & {one, other}) == 1


def test_causes_are_events_and_the_clock(project):
    applied(project, END - 3 * DAY)
    found = applied(project, END).changes().filter(pl.col("at") > END - 3 * DAY).collect()
    assert set(found.filter(pl.col("segment") == "sticky")["cause"]) == {"event", "time"}
    events = EventLog.of(project).frame(columns=["user", "ts"])
    known = set(zip(events["user"], events["ts"], strict=True))
    sticky = found.filter(pl.col("segment") == "sticky")
    assert all((user, at) in known for user, at in sticky.filter(cause="event").select("user", "at").iter_rows())
    assert sticky.filter(~pl.col("entered"), cause="time").height > 3


def test_who_agrees_to_personalisation_no_more_leaves_and_is_not_handed_on(project):
    ledger = applied(project, END)
    user = min(inside(ledger, END, "regulars"))
    log = EventLog.of(project)
    said = {"source": "made", "id": 10**6, "event": "viewed", "user_id": user, "seq": 0, "offset": 0, "consent": 0}
    log.append(EventBatch(pl.DataFrame([{**said, "ts": END + HOUR, "received": END + HOUR}]), log.plan), name="no")
    for changes in (False, True):
        rows = Export.of(project, at=END, changes=changes).rows
        assert user not in rows["user"].to_list()
        assert {*rows["user"]} == inside(ledger, END, "regulars") - {user} or not changes
    ledger = applied(project, END + 2 * HOUR)
    assert user not in inside(ledger, END + 2 * HOUR, "regulars")
    mine = ledger.changes().filter(pl.col("user") == user, pl.col("segment") == "regulars").collect()
    assert mine.select("entered", "cause").rows() == [(True, "edit"), (False, "event")]


def test_who_is_in_may_rest_on_a_function_of_the_project(tmp_path):
    """The same people, at every step, as by the declared feature that says the same."""
    own = "{name: {when: {feature: {%s: {gte: 8}}}, membership: {min_dwell: 1d}}}"
    code = """
from features import feature

@feature(windows="7d", events="viewed")
def looks(user, at):
    return len(user)
"""
    ledgers = []
    for folder, name in (("declared", "count_viewed_7d"), ("own", "looks_7d")):
        said = f"version: 1\nsegments: {own % name}\n"
        project = projects.make(tmp_path / folder, n_users=30, segments_yaml=said)
        project.file("definitions.py").write_text(code)
        assert "looks_7d" in Audience.of(project, END).features.names
        applied(project, END - 2 * DAY)
        ledgers.append(applied(project, END))
    for at in (END - 2 * DAY, END):
        members = inside(ledgers[0], at, "name")
        assert 0 < len(members) < 30
        assert inside(ledgers[1], at, "name") == members


ENDED = """version: 1
segments:
  same: {when: {did: {event: viewed}}, membership: {exit_on: [{event: bought}]}}
  edited: {when: {did: {event: viewed}}, membership: {exit_on: [{event: bought}]}}
  refitted:
    when: {percentile: {feature: count_viewed_30d, gte: 0}}
    membership: {exit_on: [{event: bought}]}
  paused: {when: {did: {event: viewed}}, membership: {exit_on: [{event: bought}]}}
"""  # fmt: skip


def test_what_ends_a_membership_ends_it_also_where_the_segment_was_edited_refitted_or_paused(tmp_path):
    """Out are the same people as of a segment that goes on, and what was written before stays as it was."""
    project = projects.make(tmp_path / "shop", n_users=60, segments_yaml=ENDED)
    begin, middle = END - 6 * DAY, END - 4 * DAY
    path, first = project.file("segments.yaml"), applied(project, begin)
    path.write_text(path.read_text().replace("  paused: {", "  paused: {status: paused, "))
    paused = applied(project, middle)
    assert inside(paused, middle, "paused") == inside(first, begin, "paused")
    said = path.read_text().replace("status: paused, ", "")
    edited = "edited: {when: {did: {event: viewed}}, membership: {"
    path.write_text(said.replace(edited, edited + "ttl: 3650d, "))
    manifest = project.path("memberships") / "ledger.json"
    manifest.write_text(manifest.read_text().replace(paused.segments["refitted"].fit, "another"))
    ledger = applied(project, END)
    out = {name: inside(first, begin, name) - inside(ledger, END, name) for name in ledger.segments}
    assert len(out["same"]) > 5
    assert out["edited"] == out["paused"] == out["refitted"] == out["same"]
    assert inside(ledger, END - 1, "paused") == inside(first, begin, "paused")
    later = ledger.changes().filter(pl.col("at") > middle, pl.col("segment").is_in(["edited", "paused"])).collect()
    assert set(later.select("at", "cause").rows()) == {(END, "edit")}
    refits = ledger.changes().filter(pl.col("segment") == "refitted", pl.col("at") > middle).collect()
    assert set(refits.select("at", "cause").rows()) == {(END, "refit")}


def test_a_ledger_that_names_no_status_is_read_and_goes_on(project):
    first = applied(project, END - DAY)
    manifest = first.folder / "ledger.json"
    said = json.loads(manifest.read_text())
    for each in said["segments"].values():
        del each["status"]
    manifest.write_text(json.dumps(said))
    assert Ledger.read(first.folder) == first
    causes = applied(project, END).changes().filter(pl.col("at") > END - DAY).collect()["cause"]
    assert set(causes) == {"event", "time"}


def test_a_plan_says_who_leaves_what_is_declared_no_more_or_archived(project):
    path = project.file("segments.yaml")
    path.write_text(
        path.read_text() + "  few: {when: {did: {event: viewed, count: {gte: 9}, last: 2d}}, min_size: 50}\n"
    )
    ledger = applied(project, END)
    regulars, few = (len(inside(ledger, END, name)) for name in ("regulars", "few"))
    assert 0 < few < 50
    said = path.read_text().replace("  regulars: {", "  renamed: {").replace("  few: {", "  few: {status: archived, ")
    path.write_text(said)
    plan = Enrolment.plan(project, at=END)
    lines = {each["name"]: each for each in plan.to_dict()["segments"]}
    gone, archived = lines["regulars"], lines["few"]
    assert (gone["before"], gone["after"], gone["left"], gone["causes"]) == (regulars, 0, regulars, {"edit": regulars})
    assert (gone["note"], len(gone["samples"])) == ("declared no more", 3)
    assert (archived["before"], archived["left"], archived["note"], archived["samples"]) == (few, few, "archived", ())
    assert lines["renamed"]["entered"] == regulars
    assert lines["tiny"] == {"name": "tiny", "hidden": True}
    assert f"regulars: {regulars} -> 0 (+0 -{regulars}: {regulars} by edit) [declared no more]" in str(plan)
    assert f"few: {few} -> 0 (+0 -{few}: {few} by edit) [archived]" in str(plan)
    plan.apply()
    assert "regulars" not in {each.name for each in Enrolment.plan(project, at=END).lines}


def test_who_leaves_by_time_or_by_an_event_is_told_that_and_not_the_condition_that_holds(tmp_path):
    said = """version: 1
segments:
  timed: {when: {did: {event: viewed}}, membership: {ttl: 2d}}
  bought: {when: {did: {event: viewed}}, membership: {exit_on: [{event: bought}]}}
  looking: {when: {did: {event: viewed, last: 2d}}}
"""
    project = projects.make(tmp_path / "shop", n_users=60, segments_yaml=said)
    applied(project, END - 3 * DAY)
    plan = Enrolment.plan(project, at=END)
    why = {
        line.name: [(each["at"], each["why"]) for each in line.samples if each["change"] == "leaves"]
        for line in plan.lines
    }
    assert {each for _, each in why["timed"]} == {"time; its time is over"}
    assert len(why["bought"]) == 3
    assert [each for _, each in why["bought"]] == [f"event; ended by bought {at}" for at, _ in why["bought"]]
    assert {each for _, each in why["looking"]} == {"time; {did: {event: viewed, last: 2d}}"}
    assert "time; its time is over" in str(plan)


def test_explain_and_history_tell_the_same_as_of_any_instant_and_in_a_pause(project):
    begin, names = END - 6 * DAY, ("regulars", "sticky", "lasting")
    applied(project, begin)
    applied(project, END - 2 * DAY)
    path = project.file("segments.yaml")
    said = path.read_text().replace("count: {gte: 3}, last: 7d", "count: {gte: 20}, last: 7d")
    path.write_text(said.replace("  lasting: {", "  lasting: {status: paused, "))
    ledger = applied(project, END)
    people = [f"u{k}" for k in range(0, 60, 7)]
    told = ledger.changes().collect()
    for at in (begin, END - 3 * DAY + HOUR, END, END + DAY):
        for name in names if at <= END else ("lasting",):
            members = inside(ledger, at, name)
            found = {user: Standing.of(project, user, at=at, names=[name]) for user in people}
            assert {user for user in people if found[user].trees[name]["in"]} == members & set(people)
            if name == "sticky":
                since = {user: each.terms[name]["since"] for user, each in found.items()}
                mine = told.filter(pl.col("at") <= at, segment=name, entered=True)
                came = dict(mine.group_by("user").agg(pl.col("at").max()).iter_rows())
                assert since == {user: iso(came[user]) if user in members else None for user in people}
