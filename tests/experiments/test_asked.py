"""What answers a label: the project's segments, and why some cannot."""

import numpy as np
import pytest

from experiments.asked import asked
from experiments.study import Study
from features.behaviour.feature_set import FeatureSet
from features.errors import StudyError
from features.events.log import EventLog
from features.instants import DAY
from features.segments.segment_set import SegmentSet
from tests.experiments import projects
from training.label import Label

SEGMENTS = """version: 1
segments:
  regulars: {when: {did: {event: viewed, count: {gte: 10}, last: 14d}}}
  sticky: {when: {did: {event: viewed, last: 7d}}, membership: {ttl: 7d}}
  top: {when: {percentile: {feature: count_any_7d, gte: 80}}}
  likely: {when: {any: [{segment: regulars}, {model: {study: buys_7d, gte: 0.5}}]}}
"""


def label(name):
    return Label.from_dict({"in_segment": name, "after": "7d"})


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return projects.make(tmp_path_factory.mktemp("asked") / "shop", n_users=120, segments_yaml=SEGMENTS)


def test_the_label_is_what_the_segment_says_at_the_end_of_the_horizon(project):
    data = {"name": "stays", "kind": "propensity", "predicts": {"in_segment": "regulars", "after": "7d"}}
    rows = Study.from_dict({**data, "cuts": {"every": "7d", "last": 4}}).rows(project)
    log = EventLog.of(project)
    segments = SegmentSet.of(project, log.plan, log.codes, FeatureSet.of(project, log.plan, log.codes))
    held = log.histories(segments.schema)
    places = {user: place for place, user in enumerate(held.users.tolist())}
    mine = held.take(np.array([places[user] for user in rows.matrix.users]))
    assert np.array_equal(rows.y, segments.evaluate(mine, rows.matrix.at + 7 * DAY).column("regulars"))
    assert 0 < rows.y.mean() < 1
    assert rows.provenance["label"].startswith("in segment regulars after 7d (definition ")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("regular", "did you mean 'regulars'"),
        ("sticky", "how one stays and comes back"),
        ("top", "asks more than events and features"),
        ("likely", "asks more than events and features"),
    ],
)
def test_what_cannot_be_known_of_an_instant_long_ago_is_refused(project, name, words):
    with pytest.raises(StudyError, match=words):
        asked(project, label(name))


def test_without_segments_or_models_there_is_no_answer(tmp_path):
    bare = projects.make(tmp_path / "shop", n_users=3)
    with pytest.raises(StudyError, match=r"no segments\.yaml"):
        asked(bare, label("regulars"))
    with pytest.raises(StudyError, match="Hint: `ethogram study run kinds`"):
        asked(bare, Label.from_dict({"in_cluster": {"study": "kinds", "in": [0]}, "after": "7d"}))
    assert asked(bare, Label.from_dict({"did": "bought", "within": "7d"})) is None
