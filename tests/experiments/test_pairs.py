"""Pairs: the same requests on both sides, outcomes that are complete, and one answer a person and day."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from experiments.pairs import Pairs, pairs
from experiments.studies import PropensitySpec
from features.behaviour.feature_set import FeatureSet
from features.events.log import EventLog
from features.instants import DAY
from features.people import pseudonym
from tests.experiments.projects import START, make

SPEC = PropensitySpec.from_dict(
    {
        "predicts": {"did": "bought", "within": "7d"},
        "population": {"did": "any", "within": "30d"},
        "cuts": {"every": "7d", "last": 4},
    }
)
CHAMPION, CHALLENGER = "c" * 64, "d" * 64


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make(tmp_path_factory.mktemp("pairs") / "shop", n_users=200)


def answered(project, day, users, *, bundle, beside=False, score=0.2, hour=12, source="live", request=None):
    """Answers of a bundle at noon of a day, as the prediction log keeps them."""
    at = START + day * DAY + hour * 3_600_000_000
    folder = project.path("predictions") / ("challenger" if beside else "") / f"2026-{day:02d}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = pl.DataFrame(
        {
            "request_id": [request or f"{day}-{hour}-{user}" for user in users],
            "user": [pseudonym(project.key, user) for user in users],
            "at": [at] * len(users),
            "bundle": [bundle] * len(users),
            "source": [source] * len(users),
            "score_buys_7d": [score] * len(users),
        }
    )
    rows.write_parquet(folder / f"{bundle[:1]}-{hour}-{source}.parquet")


def found(project, since=0, champion=CHAMPION, beside=CHALLENGER) -> Pairs:
    log = EventLog.of(project)
    features = FeatureSet.of(project, log.plan, log.codes)
    bundle = SimpleNamespace(digest=champion, features=features, models={"buys_7d": SimpleNamespace(details={})})
    return pairs(project, log, bundle, "buys_7d", SPEC, beside=beside, since=since)


def test_only_what_both_said_and_time_has_told_is_compared(project):
    users = [f"u{n}" for n in range(1, 100, 2)]
    answered(project, 10, users, bundle=CHAMPION)  # before the challenger was there
    for day in (20, 58):  # of the second the outcome is not complete
        answered(project, day, users, bundle=CHAMPION)
        answered(project, day, users[:40], bundle=CHALLENGER, beside=True, score=0.6)
    answered(project, 20, users, bundle=CHAMPION, hour=18, score=0.3)  # the last of the day counts
    answered(project, 20, users[:40], bundle=CHALLENGER, beside=True, hour=18, score=0.7)
    answered(project, 20, users, bundle="e" * 64, hour=19)  # of another release
    answered(project, 20, ["nobody"], bundle=CHAMPION, hour=20, source="default")
    seen = found(project)
    assert (seen.answers, seen.covered, round(seen.coverage, 3)) == (150, 120, 0.8)
    assert set(seen.users) <= set(users[:40])
    assert len(set(seen.users)) == len(seen.users) > 35
    assert set(seen.champion) == {0.3}
    assert set(seen.challenger) == {0.7}
    frame = EventLog.of(project).frame(columns=["user", "ts", "event"])
    at = START + 20 * DAY + 18 * 3_600_000_000
    bought = frame.filter((pl.col("ts") > at) & (pl.col("ts") <= at + 7 * DAY), pl.col("event") == "bought")
    who = set(bought["user"])
    assert seen.y.tolist() == [float(user in who) for user in seen.users]
    assert seen.outcomes == min(seen.y.sum(), (1 - seen.y).sum())
    assert found(project, since=START + 40 * DAY).y.size == 0


def test_a_request_about_many_people_is_as_many_answers(project):
    users = [f"u{n}" for n in range(100, 140)]
    for beside, bundle, scores in ((False, "a" * 64, (0.1, 0.2)), (True, "b" * 64, (0.3, 0.4))):
        for score, half in zip(scores, (users[:20], users[20:]), strict=True):
            answered(project, 30, half, bundle=bundle, beside=beside, score=score, request="the batch")
            folder = project.path("predictions") / ("challenger" if beside else "") / "2026-30"
            (folder / f"{bundle[:1]}-12-live.parquet").rename(folder / f"{bundle[:1]}-{score}.parquet")
    seen = found(project, champion="a" * 64, beside="b" * 64)
    assert (seen.answers, seen.covered) == (40, 40)
    assert {*zip(seen.champion, seen.challenger, strict=True)} == {(0.1, 0.3), (0.2, 0.4)}


def test_without_a_challenger_nothing_is_covered(project):
    log = EventLog.of(project)
    features = FeatureSet.of(project, log.plan, log.codes)
    bundle = SimpleNamespace(digest=CHAMPION, features=features, models={})
    seen = pairs(project, log, bundle, "buys_7d", SPEC, beside="f" * 64, since=0)
    assert (seen.covered, seen.coverage, np.size(seen.y)) == (0, 0.0, 0)
