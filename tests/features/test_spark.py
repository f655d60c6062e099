"""A Spark cluster of two worker processes makes of the log what one machine makes, to the bit."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from console.cli import main
from experiments.study import Study
from features.behaviour.feature_set import FeatureSet
from features.errors import EngineError, LogError
from features.events.log import EventLog
from features.events.segment import segment_messages
from features.instants import iso, parse_instant
from features.project import Project
from features.simulate import Shop, write_shop
from tests.training.test_trees import booster, rows
from training.assigner import Centroids
from training.model import Model
from training.preparation import Preparation
from training.scoring import score
from training.trees import Forest

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
BUCKET_ROWS = 2000
NOW = parse_instant("2026-11-01T12:00:00.5Z")

WRITTEN = """
from features import feature

LEAST = 5

@feature(windows="90d", events="order_completed", properties="revenue")
def largest_order(user, at):
    return _largest(user["revenue"]) if len(user) else None

def _largest(values):
    return max(LEAST, float(values.max()))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A shop with links, copies, bots and bursts."""
    folder = tmp_path_factory.mktemp("spark") / "shop"
    shutil.copytree(ROOT / "examples" / "shop", folder)
    project = Project.find(folder)
    log = EventLog.of(project)
    for seed in (31, 32):
        write_shop(Shop(users=300, days=60, seed=seed, dirt=10), folder / "raw")
        for file in sorted((folder / "raw" / "events").iterdir()):
            log.ingest(file)
    return project


def _log(project, folder, engine=None):
    plan, codes = EventLog.of(project).plan, project.file("plan.lock")
    return EventLog(folder, plan, key=project.key, codes_path=codes, bucket_rows=BUCKET_ROWS, engine=engine)


@pytest.fixture(scope="module")
def logs(project, spark):
    """The same parts compacted here and there."""
    from features.spark import Cluster

    here, there = project.path("log"), project.path("log").with_name("there")
    shutil.copytree(here / "parts", there / "parts")
    return _log(project, here), _log(project, there, Cluster(spark))


def test_the_cluster_has_two_worker_processes(logs):
    def parent(_item):
        time.sleep(0.1)
        return os.getppid()

    assert len(set(logs[1]._engine.map(parent, range(16)))) == 2


def test_compaction_makes_the_same_files(logs):
    made, expected = logs[1].compact(), logs[0].compact()
    assert made.n_buckets >= 16
    assert made.duplicates > 0
    assert made.too_fast > 0
    assert made.merged > 0
    assert made.buckets == expected.buckets
    assert_frame_equal(logs[1].frame(), logs[0].frame())
    for bucket in made.buckets:
        files = [log.path / "buckets" / bucket.name / "events.parquet" for log in logs]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_only_what_changed_is_made_anew(logs):
    before = {each.name for each in logs[1].compact().buckets}
    for log in logs:
        message = {"type": "page", "userId": "somebody new", "messageId": "n"}
        log.append(log.clean(segment_messages([message], log.plan, received=NOW)).batch, name="new")
    made = logs[1].compact().buckets
    assert len({each.name for each in made} - before) == 1
    assert made == logs[0].compact().buckets


def test_a_training_set_has_the_same_rows(project, logs):
    study = Study.from_yaml(project, "purchase_7d")
    here, there = (study.rows(project, log=log) for log in logs)
    assert there.provenance == here.provenance  # with a digest over users, instants, values and labels
    np.testing.assert_array_equal(there.matrix.values, here.matrix.values)
    again = study.rows(project, log=logs[1])  # from rows that are kept
    assert again.fingerprint == here.fingerprint


def test_everybodys_features_and_scores_are_the_same(project, logs, tmp_path):
    features = FeatureSet.from_yaml(project.file("features.yaml"), logs[0].plan, logs[0].codes, definitions=WRITTEN)
    models = _models(features)
    _, at = logs[0].span()
    for name, log in zip(("here", "there"), logs, strict=True):
        assert score(log, features, at, tmp_path / name, models=models).n_users > 300
    here, there = (_written(tmp_path / name) for name in ("here", "there"))
    assert_frame_equal(here, there, check_exact=True)
    assert there["score_clusters"].n_unique() == 2
    assert there["score_trees"].n_unique() > 5
    assert there["largest_order_90d"].n_unique() > 5


def test_commands_take_the_engine(project, spark, tmp_path, monkeypatch):
    _, last = EventLog.of(project).span()
    for engine in ("local", "spark"):
        words = ["features", "--out", str(tmp_path / engine), "--at", iso(last), "--engine", engine]
        monkeypatch.setattr(sys, "argv", ["ethogram", *words, "--project", str(project.root)])
        with pytest.raises(SystemExit) as left:
            main()
        assert not left.value.code
    here, there = (_written(tmp_path / engine) for engine in ("local", "spark"))
    assert_frame_equal(here, there, check_exact=True)


def _written(folder):
    return pl.concat([pl.read_parquet(file) for file in sorted(folder.iterdir())])


def _models(features):
    """Trees and centroids over columns that are never missing."""
    names = tuple(name for name in features.names if name.startswith("count_") and name.endswith("_30d"))[:4]
    x, y = rows(400, 4, 1)
    trees = Forest.from_json(booster(x, y, 10).save_raw("json").decode())
    centroids = Centroids(np.array([[0.0] * 4, [20.0] * 4]))
    common = features.fingerprint, Preparation(names)
    return {
        "trees": Model("trees", "propensity", *common, trees),
        "clusters": Model("clusters", "clusters", *common, centroids, names=("few", "many")),
    }


def test_what_fails_on_the_cluster_is_one_clear_error(logs):
    def fail(rows):
        raise LogError(f"no such thing: {rows.bucket.name}")

    with pytest.raises(EngineError, match=r"a task failed on the cluster: .*no such thing: 00"):
        list(logs[1].map(fail))


def test_a_cluster_that_does_not_start_is_one_clear_error(project, tmp_path):
    words = ["features", "--out", tmp_path / "out", "--engine", "spark", "--project", project.root]
    command = [sys.executable, "-m", "console.cli", *map(str, words)]
    told = subprocess.run(
        command, env={**os.environ, "JAVA_HOME": "/nowhere"}, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert told.returncode == 2
    assert "error: Spark does not start" in told.stderr
    assert "Traceback" not in told.stderr
