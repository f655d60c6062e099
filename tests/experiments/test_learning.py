"""A study learns the lists that its features lack from the rows that train it, once for the project."""

import polars as pl
import pytest

from experiments.study import Study
from features.behaviour.feature_set import FeatureSet
from features.behaviour.learning import latest
from features.errors import StudyError
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.instants import DAY, iso
from tests.experiments import projects

FEATURES = """features:
  - {count: any, windows: [7d]}
  - {mode: viewed.page, windows: [30d]}
"""


def study(last: int) -> Study:
    data = {"name": "buys", "kind": "propensity", "predicts": {"did": "bought", "within": "7d"}}
    return Study.from_dict(
        {**data, "population": {"did": "any", "within": "30d"}, "cuts": {"every": "7d", "last": last}}
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    found = projects.make(tmp_path_factory.mktemp("learning") / "shop", n_users=30, features_yaml=FEATURES)
    log = EventLog.of(found)
    page = pl.when(pl.col("user_id").str.ends_with("1")).then(pl.lit("sale")).otherwise(pl.lit("home"))
    seen = projects.events(30, 60, 2).with_columns(event=pl.lit("viewed"), p_page=page)
    late = seen.head(50).with_columns(ts=pl.lit(projects.START + 59 * DAY), p_page=pl.lit("later"))
    frame = pl.concat([seen, late]).with_columns(id=pl.int_range(pl.len()) + 10**6)
    log.append(EventBatch(frame.with_columns(received=pl.col("ts")), log.plan), name="pages")
    return found


def test_the_lists_know_the_training_rows_alone_and_are_kept_for_the_next_study(project):
    log = EventLog.of(project)
    rows = study(4).rows(project)
    features = FeatureSet.of(project, log.plan, log.codes)
    assert features.features[1].values == ("home", "sale")
    assert latest(features) == int(rows.split_by_time()[0].matrix.at.max())
    assert rows.matrix.fingerprint == features.fingerprint
    written = project.file("features.lock").read_bytes()
    assert study(2).rows(project).matrix.fingerprint == features.fingerprint
    assert project.file("features.lock").read_bytes() == written


def test_patterns_are_mined_from_the_rows_that_train_and_date_the_features_that_count_them(project):
    found = study(4).mine(project, of=["viewed"], support=0.01)
    until = int(study(4).rows(project).split_by_time()[0].matrix.at.max())
    assert found.patterns[0][0] == ("viewed", "viewed")
    assert found.origin.startswith(iso(until))
    declared = project.file("features.yaml")
    declared.write_text(FEATURES + str(found) + "\n")
    assert study(4).rows(project).matrix.names[-1].startswith("pattern_viewed_viewed")
    declared.write_text(FEATURES + str(found).replace(found.origin[:10], "2027-01-01") + "\n")
    with pytest.raises(StudyError, match=r"what features\.yaml has mined, was learnt as of 2027-01-01"):
        study(4).rows(project)
    declared.write_text(FEATURES)


def test_rows_that_train_earlier_than_what_was_learnt_are_refused(project):
    rows, lock = study(4).rows(project), project.file("features.lock")
    until = iso(int(rows.split_by_time()[0].matrix.at.max()))
    lock.write_text(lock.read_text().replace(f'"learnt": "{until}', '"learnt": "2027-01-01T00:00:00Z'))
    with pytest.raises(StudyError, match=r"features\.lock.* was learnt as of 2027-01-01.*Hint: remove it"):
        study(4).rows(project)
