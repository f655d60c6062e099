"""Back-tests and previews, against what a few lines of polars count in the log."""

import numpy as np
import polars as pl
import pytest

from experiments.backtest import Asked, Backtest
from experiments.curation import Review, merge, retire
from experiments.enrolment import Enrolment
from experiments.preview import Preview
from features.document import load
from features.errors import AnalysisError, DefinitionError
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.instants import DAY
from tests.experiments import projects

SEGMENTS = """version: 1
segments:
  # those who look often
  eager: {when: {did: {event: viewed, count: {gte: 8}, last: 7d}}}
  keen: {when: {did: {event: viewed, count: {gte: 8}, last: 7d}}}
  both: {when: {all: [{segment: eager}, {segment: keen}]}}
  nobody: {when: {did: {event: bought, count: {gte: 99}}}}
  few: {when: {did: {event: any}}, min_size: 5000}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return projects.make(tmp_path_factory.mktemp("past") / "shop", n_users=80, segments_yaml=SEGMENTS)


def counted(project, at):
    """Users seen by then, and those of them who looked eight times in the week before, from the log itself."""
    events = EventLog.of(project).frame(columns=["user", "event", "ts"]).filter(pl.col("ts") <= at)
    often = events.filter(pl.col("event") == "viewed", pl.col("ts") > at - 7 * DAY)["user"].value_counts()
    return set(events["user"]), set(often.filter(pl.col("count") >= 8)["user"])


def test_a_preview_counts_what_the_log_says(project):
    at = projects.START + 40 * DAY
    found = Preview.of(project, at=at, days=14, points=3)
    everybody, eager = counted(project, at)
    assert found.n_users == len(everybody)
    assert found.sizes[:, 0].tolist() == [len(counted(project, at - k * DAY)[1]) for k in (14, 7, 0)]
    assert found.overlap[0].tolist()[:3] == [len(eager)] * 3
    told = found.to_dict()
    assert told["hidden"] == ["few"]
    assert told["segments"][0]["share"] == len(eager) / len(everybody)
    assert found.alike(0.9) == [("eager", "keen", 1.0), ("eager", "both", 1.0), ("keen", "both", 1.0)]


def test_who_was_not_seen_by_then_is_in_no_preview_and_no_segment(tmp_path):
    some, others = "{when: {bucket: {salt: s, lt: 0.9}}}", "{when: {not: {did: {event: bought}}}}"
    said = f"version: 1\nsegments: {{some: {some}, others: {others}}}\n"
    project = projects.make(tmp_path / "shop", n_users=40, segments_yaml=said)
    before = Preview.of(project, at=projects.START - DAY)
    assert (before.n_users, before.sizes.any(), before.overlap.any()) == (0, False, False)
    assert all(line.after == 0 for line in Enrolment.plan(project, at=projects.START - DAY).lines)
    times = [projects.START + k * DAY for k in (1, 2, 4, 8)]
    seen = dict(EventLog.of(project).frame(columns=["user", "ts"]).group_by("user").agg(pl.col("ts").min()).iter_rows())
    for at in times:
        ledger, found = Enrolment.plan(project, at=at).apply(), Preview.of(project, at=at, days=1, points=2)
        by_then = {user for user, first in seen.items() if first <= at}
        some = set(ledger.members(at, segment="some")["user"])
        assert found.n_users == len(by_then)
        assert found.sizes[-1, 0] == len(some)
        assert some < by_then
    came = ledger.changes().filter(pl.col("segment") == "some", pl.col("at") > times[0]).collect()
    assert came.height > 3
    assert all(
        (seen[user], "event") == (at, cause) for user, at, cause in came.select("user", "at", "cause").iter_rows()
    )


def test_a_back_test_counts_what_they_did_next(project):
    begin = projects.START + 20 * DAY
    found = Backtest.of(project, Asked("bought", "", 7 * DAY), begin=begin, every=14 * DAY, names=["eager", "few"])
    log = EventLog.of(project).frame(columns=["user", "event", "ts"])
    dates = sorted({row.at for row in found.rows})
    assert dates == [begin + k * 14 * DAY for k in range(len(dates))]
    assert len(dates) == 3
    for row in found.rows:
        if row.segment == "few":
            assert row.size is None
            continue
        everybody, eager = counted(project, row.at)
        later = log.filter(pl.col("ts") > row.at, pl.col("ts") <= row.at + 7 * DAY)
        bought, back = set(later.filter(pl.col("event") == "bought")["user"]), set(later["user"])
        assert row.size == len(eager)
        inside, others, lift, low, high = row.figures["conversion"]
        assert inside == pytest.approx(len(eager & bought) / len(eager))
        assert others == pytest.approx(len((everybody - eager) & bought) / len(everybody - eager))
        assert low < lift < high
        assert row.figures["retention"][0] == pytest.approx(len(eager & back) / len(eager))
    assert "against everybody else" in str(found)
    assert found.to_dict()["rows"][0]["conversion"]["inside"] == found.rows[0].figures["conversion"][0]


def test_a_value_is_summed_over_the_horizon_and_no_lift_takes_more_than_there_was(tmp_path):
    project = projects.make(tmp_path / "shop", n_users=40, segments_yaml=SEGMENTS)
    at, log = projects.START + 30 * DAY, EventLog.of(project)
    spent = {f"u{k}": [float(k + 1), 2.5] for k in range(0, 40, 3)}
    sold = [
        {"event": "bought", "user_id": user, "ts": at + (6 * n + 1) * DAY + n, "p_revenue": revenue}
        for user, said in spent.items()
        for n, revenue in enumerate(said)
    ]
    rest = {"source": "made", "seq": 0, "offset": 0}
    made = [{**rest, **each, "id": 10**6 + k, "received": each["ts"]} for k, each in enumerate(sold)]
    log.append(EventBatch(pl.DataFrame(made), log.plan), name="sold")
    asked = Asked("bought", "bought.revenue", 7 * DAY)
    row = next(r for r in Backtest.of(project, asked, begin=at, every=30 * DAY).rows if r.segment == "eager")
    everybody, eager = counted(project, at)
    worth = {user: spent.get(user, [0.0])[0] for user in everybody}  # the second was a microsecond too late
    inside, others, lift, low, _ = row.figures["value"]
    assert inside == pytest.approx(np.mean([worth[user] for user in eager]))
    assert others == pytest.approx(np.mean([worth[user] for user in everybody - eager]))
    assert lift == pytest.approx(inside / others - 1)
    assert -1 < low < lift


def test_dates_whose_outcome_is_not_known_yet_are_refused(project):
    with pytest.raises(AnalysisError, match="has 7d of log after it"):
        Backtest.of(project, Asked("bought", "", 7 * DAY), begin=projects.START + 59 * DAY, every=DAY)


def test_silent_and_equal_segments_are_named_retired_and_merged(tmp_path):
    project = projects.make(tmp_path / "shop", n_users=40, segments_yaml=SEGMENTS)
    newest = Enrolment.plan(project).audience.at
    Enrolment.plan(project, at=newest - 20 * DAY).apply()
    assert Review.of(project, days=18, share=0.95).silent == ()
    Enrolment.plan(project).apply()
    found = Review.of(project, days=18, share=0.95)
    assert found.silent == (("nobody", None),)
    assert ("eager", "keen", 1.0) in found.alike
    assert "segments retire nobody" in str(found)
    retire(project, "nobody")
    with pytest.raises(DefinitionError, match="'both' refers to 'keen'"):
        retire(project, "keen")
    merge(project, "keen", "eager")
    said, text = load(project.file("segments.yaml"))["segments"], project.file("segments.yaml").read_text()
    assert said["keen"]["status"] == said["nobody"]["status"] == "archived"
    assert said["both"]["when"]["all"] == [{"segment": "eager"}] * 2
    assert "# those who look often" in text
    left = {line.name: line.left for line in Enrolment.plan(project).lines}
    assert left["keen"] > 0
    assert left["eager"] == left["both"] == 0
    with pytest.raises(DefinitionError, match="did you mean 'eager'"):
        merge(project, "eagr", "keen")
    with pytest.raises(DefinitionError, match=r"nothing is written.*\n.*in a circle"):
        merge(project, "eager", "both")
    assert np.all(
        [line.note == "archived" for line in Enrolment.plan(project).lines if line.name in ("keen", "nobody")]
    )


AWKWARD = """version: 1
segments:
  first: {when: {did: {event: viewed}}}
  middle: {when: {segment: first}}
  ordered:
    when:
      all:
        - {any: [{segment: first}, {not: {segment: first}}]}
        - {percentile: {feature: count_viewed_7d, gte: 80, of: first}}
        - {context: {segment: first}}
        - sequence: {steps: [{event: viewed}, {event: bought, within: 24h, of: first}]}
  new: {when: {segment: middle}}
  other: {when: {did: {event: bought}}}
  lasting: {when: {did: {event: bought}}, membership: {ttl: 7d}}
  asleep: {status: paused, when: {did: {event: bought}}}
  one: &same {when: {did: {event: bought, count: {gt: 1}}}}
  two: *same
"""


def test_a_merge_renames_references_alone_and_writes_no_file_that_is_wrong(tmp_path):
    project = projects.make(tmp_path / "shop", n_users=20, segments_yaml=AWKWARD)
    file = project.file("segments.yaml")
    before = file.read_text(encoding="utf-8")
    for name, into, fault in (
        ("first", "new", "in a circle"),
        ("first", "lasting", "nothing is written"),
        ("first", "asleep", "'asleep' is paused"),
        ("first", "first", "cannot take its own place"),
        ("one", "other", "'one' and 'two' are one node"),
    ):
        with pytest.raises(DefinitionError, match=fault):
            merge(project, name, into)
        assert file.read_text(encoding="utf-8") == before
    with pytest.raises(DefinitionError, match="'two' and 'one' are one node"):
        retire(project, "two")
    merge(project, "first", "other")
    said = load(file)["segments"]
    ordered = said["ordered"]["when"]["all"]
    assert ordered[0]["any"] == [{"segment": "other"}, {"not": {"segment": "other"}}]
    assert ordered[1]["percentile"]["of"] == "other"
    assert ordered[2] == {"context": {"segment": "first"}}
    assert ordered[3]["sequence"]["steps"][1]["of"] == "first"
    retire(project, "new")


def test_a_review_compares_no_membership_with_a_condition_and_says_that_nothing_was_applied(tmp_path):
    yaml = """version: 1
segments:
  eager: {when: {did: {event: viewed}}}
  kept: {when: {did: {event: viewed}}, membership: {ttl: 1d}}
"""
    found = Review.of(projects.make(tmp_path / "shop", n_users=20, segments_yaml=yaml), days=18, share=0.9)
    assert found.alike == ()
    assert "nothing was applied yet" in str(found)


@pytest.mark.parametrize(
    "text", ["version: 1\n", "version: 1\nsegments: 3\n", "- 3\n", "version: 1\nsegments: {a: 3}\n"]
)
def test_a_file_without_segments_is_a_clear_error(tmp_path, text):
    project = projects.make(tmp_path / "shop", n_users=5, segments_yaml=text)
    with pytest.raises(DefinitionError, match="has no `segments:`"):
        retire(project, "eager")
