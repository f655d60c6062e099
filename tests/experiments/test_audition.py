"""Audition: the loop's A/B test is written once, read once, and killed without touching the tests of people."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from experiments.audition import audition, end
from experiments.contest import Contest, Look
from experiments.course import Course
from experiments.duel import Duel
from experiments.pairs import Pairs
from experiments.policy import Policy
from features.document import load
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.instants import DAY
from serving.abtests import AbTests
from serving.exposures import Exposure, ExposureLog
from serving.store import SqliteStore
from tests.experiments import projects

SOLD = {"sold": {"conversion": "bought", "within": "7d"}}
AB = Policy.from_dict({"ab": {"lasts": "14d", "share": 0.5, "metrics": SOLD}}).ab
NOW = projects.START + 30 * DAY
NOTHING = np.zeros(0)
PAIRS = Pairs(0, 0, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
LOOK = Look((Duel("buys_7d", NOW, 0, 0, 0, {}, {}, {}),), (PAIRS,))
MINE = """# ours, by hand
tests:
  hero:
    control: plain
    arms: {plain: {}, bold: {}}
"""


@pytest.fixture
def project(tmp_path):
    for name, text in projects.FILES.items():
        (tmp_path / name).write_text(text)
    return projects.Project.find(tmp_path)


def lived(project, *, lift, n=1200):
    """Exposures of both arms on the day after NOW, and who bought the day after."""
    random = np.random.default_rng(5)
    shown, bought = NOW + DAY, NOW + 2 * DAY
    arms = {f"u{k}": ("challenger" if k % 2 else "champion") for k in range(n)}
    with SqliteStore(project.path("state")) as store:
        kept = ExposureLog(store, project.path("exposures"), lambda: None)
        kept.keep([Exposure("challenger_3", user, arm, "other", shown, shown, user) for user, arm in arms.items()])
        kept.roll()
    who = [user for user, arm in arms.items() if random.random() < 0.2 + lift * (arm == "challenger")]
    events = [*((user, "viewed", NOW) for user in arms), *((user, "bought", bought) for user in who)]
    events.append(("u0", "viewed", NOW + 21 * DAY))
    columns = {name: [each[place] for each in events] for place, name in enumerate(("user_id", "event", "ts"))}
    count = len(events)
    given = {"source": ["m"] * count, "id": list(range(1, count + 1)), "received": columns["ts"]}
    given |= {"seq": list(range(count)), "offset": [0] * count}
    log = EventLog.of(project)
    log.append(EventBatch(pl.DataFrame({**columns, **given}), log.plan), name="made")


def test_a_test_is_started_once_and_says_nothing_before_it_is_over(project):
    project.path("ab").write_text(MINE)
    assert audition(project, AB, 3, now=NOW) is None
    text = project.path("ab").read_text()
    assert text.startswith("# ours, by hand")
    found = AbTests.read(project.path("ab")).tests
    assert set(found) == {"hero", "challenger_3"}
    mine = found["challenger_3"]
    assert (mine.control, mine.start, mine.stop, mine.share) == ("champion", NOW, NOW + 14 * DAY, 0.5)
    assert {arm.model for arm in mine.arms.values()} == {"champion", "challenger"}
    assert mine.metrics == AB.metrics
    assert audition(project, AB, 3, now=NOW + 20 * DAY) is None
    assert project.path("ab").read_text() == text


@pytest.mark.parametrize(("lift", "answer", "arm"), [(0.15, "ship", "challenger"), (-0.1, "do not ship", None)])
def test_what_people_did_decides_when_it_is_over(project, lift, answer, arm):
    assert audition(project, AB, 3, now=NOW) is None
    lived(project, lift=lift)
    told = audition(project, AB, 3, now=NOW + 21 * DAY)
    assert (told.answer, told.arm) == (answer, arm)
    end(project, 3)
    assert load(project.path("ab"))["tests"]["challenger_3"]["killed"] is True


def test_nobody_who_was_exposed_is_not_enough_data(project):
    assert audition(project, AB, 3, now=NOW) is None
    log = EventLog.of(project)
    log.append(EventBatch(projects.events(5, 60, 1), log.plan), name="made")
    assert audition(project, AB, 3, now=NOW + 21 * DAY).answer == "not enough data"


def test_to_end_what_never_began_changes_nothing(project):
    end(project, 4)
    assert not project.path("ab").exists()
    project.path("ab").write_text(MINE)
    end(project, 4)
    assert project.path("ab").read_text() == MINE


def contest(project, **course):
    """A contest that was won on live answers, with a policy that asks people too."""
    policy = Policy.from_dict({"ab": {"metrics": SOLD}})
    where = Course("shadow", NOW, "c" * 64, 3, "d" * 64, ("buys_7d",))
    return Contest(project, EventLog.of(project), None, {}, policy, replace(where, **course))


def test_what_won_on_live_answers_is_shown_to_people_before_it_is_promoted(project):
    log = EventLog.of(project)
    log.append(EventBatch(projects.events(5, 60, 1), log.plan), name="made")
    decision, course = contest(project)._won(["buys_7d"], ("it is better",), LOOK, None)
    assert (decision.answer, course.phase) == ("in test", "test")
    assert AbTests.read(project.path("ab")).tests["challenger_3"].start > NOW
    decision, course = contest(project, phase="test")._ended("vetoed", ("vetoed",))
    assert (decision.answer, course.phase) == ("vetoed", "resting")
    assert AbTests.read(project.path("ab")).tests["challenger_3"].killed


def test_what_won_in_part_only_is_not_shown_to_people(project):
    decision, course = contest(project)._won([], (), LOOK, None)
    assert (decision.answer, course.phase) == ("kept", "resting")
    assert not project.path("ab").exists()
