"""Everybody's rows in files: what feature set and models say of each person who consents, and of nobody else."""

import numpy as np
import polars as pl
import pytest

from features.behaviour.feature_set import FeatureSet
from features.errors import ProjectError
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.events.plan import Purpose
from features.events.rows import Rows
from features.instants import DAY
from tests.experiments import projects
from tests.training.test_trees import booster, rows
from training.model import Model
from training.preparation import Preparation
from training.scoring import score
from training.trees import Forest

AT = projects.START + 61 * DAY


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Forty persons; u7 consents to analytics alone, u8 to nothing."""
    project = projects.make(tmp_path_factory.mktemp("scoring") / "shop", n_users=40)
    consents = pl.DataFrame({"user_id": ["u7", "u8"], "consent": pl.Series([Purpose.ANALYTICS.bit, 0], dtype=pl.Int8)})
    events = projects.events(40, 60, 2).filter(pl.col("user_id").is_in(["u7", "u8"]))
    told = events.unique("user_id").with_columns(ts=AT - DAY, received=AT - DAY, id=-pl.int_range(1, pl.len() + 1))
    log = EventLog(project.path("log"), EventLog.of(project).plan, key=project.key, bucket_rows=500)
    log.append(EventBatch(told.join(consents, on="user_id"), log.plan), name="consents")
    assert log.compact().n_buckets > 2
    return log


@pytest.fixture(scope="module")
def features(log):
    return FeatureSet.from_dict(
        {"features": [{"count": ["any", "viewed", "bought"], "windows": ["7d", "30d"]}]}, log.plan, log.codes
    )


def _written(folder):
    return pl.concat([pl.read_parquet(file) for file in sorted(folder.iterdir())])


def test_the_files_hold_what_the_feature_set_computes(log, features, tmp_path):
    told = score(log, features, AT, tmp_path / "rows")
    assert told.to_dict()["n_users"] == 39
    assert "39 users as of" in str(told)
    written = _written(tmp_path / "rows")
    histories = log.histories(features.schema, users=written["user"].to_list())
    expected = features.compute(histories, AT).to_polars().sort("user")
    assert written.sort("user").select(expected.columns).equals(expected)
    assert set(map(str, range(40))) - {user[1:] for user in written["user"]} == {"8"}


def test_models_score_those_who_consent_to_it(log, features, tmp_path):
    x, y = rows(400, 4, 1)
    trees = Forest.from_json(booster(x, y, 10).save_raw("json").decode())
    model = Model("buys", "propensity", features.fingerprint, Preparation(features.names[:4]), trees)
    told = score(log, features, AT, tmp_path / "scores", models={"buys": model})
    assert (told.n_users, told.purpose) == (38, Purpose.PERSONALISATION)
    written = _written(tmp_path / "scores").sort("user")
    histories = log.histories(features.schema, users=written["user"].to_list())
    expected = model.score(features.compute(histories, AT)).column()[np.argsort(histories.users)]
    np.testing.assert_array_equal(written["score_buys"].to_numpy(), expected)


def test_done_again_no_event_is_read(log, features, tmp_path, monkeypatch):
    score(log, features, AT, tmp_path / "one")
    monkeypatch.setattr(Rows, "histories", None)
    score(log, features, AT, tmp_path / "two")
    assert _written(tmp_path / "two").equals(_written(tmp_path / "one"))


def test_a_folder_that_is_there_is_left_alone(log, features, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ProjectError, match="mine exists"):
        score(log, features, AT, tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []
