"""What can be learned from the features of the example lies between floor and ceiling; the simulator is quick."""

import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.behaviour.feature_set import FeatureSet
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY
from features.simulate import Shop, Truth, simulate, write_shop
from features.simulate.propensity import roc_auc
from features.simulate.writing import canonical

PLAN = TrackingPlan.read("examples/shop/plan.yaml")


def features():
    return FeatureSet.from_yaml("examples/shop/features.yaml", PLAN, Codes.of(PLAN), horizon=90 * DAY, bound=500)


def test_the_example_declares_more_than_a_hundred_features():
    assert 100 <= len(features().names) <= 130


def test_the_example_clusters_on_features_that_it_declares():
    from features.document import load

    studies = load(Path("examples/shop/studies.yaml"))["studies"]
    assert set(studies["behaviour"]["features"]) <= set(features().names)


@pytest.mark.integration
def test_a_plain_model_comes_close_to_the_ceiling_and_far_above_the_floor(tmp_path):
    from xgboost import XGBClassifier

    shop = Shop(users=10_000, seed=1011)
    log, truths = EventLog(tmp_path, PLAN, key=b"key"), []
    for number, (frame, truth) in enumerate(simulate(shop)):
        rows = canonical(frame).with_columns(seq=pl.int_range(pl.len()), row=pl.int_range(pl.len()))
        log.append(log.clean(EventBatch(rows, PLAN)).batch, name=f"part-{number}")
        truths.append(truth)
    truth, declared = Truth.concat(truths), features()
    histories = log.histories(declared.schema)

    def rows_at(cut):
        matrix = declared.compute(histories, cut)
        known = pl.DataFrame({"user": matrix.users.tolist(), "row": np.arange(len(matrix))})
        known = known.filter(pl.Series(matrix.column("recency_any_s") < 30 * 86_400))
        both = known.join(truth.propensity.filter(pl.col("cut") == cut), on="user")
        return matrix.values[both["row"].to_numpy()], both["ordered"].to_numpy()

    *past, test = truth.judged[::2][2:]
    parts = [rows_at(cut) for cut in past]
    model = XGBClassifier(
        n_estimators=250, max_depth=3, learning_rate=0.05, subsample=0.8, colsample_bytree=0.5, min_child_weight=20
    )
    model.fit(np.vstack([x for x, _ in parts]), np.concatenate([y for _, y in parts]))
    values, ordered = rows_at(test)
    reached, bounds = roc_auc(model.predict_proba(values)[:, 1], ordered), truth.difficulty(test)
    assert bounds.floor + 0.07 < reached < bounds.ceiling + 0.01
    assert bounds.ceiling - reached < 0.07


@pytest.mark.integration
@pytest.mark.parametrize("format_", ["ndjson", "parquet"])
def test_a_million_messages_are_written_in_under_twenty_seconds_of_one_core(tmp_path, format_):
    start = time.process_time()
    truth = write_shop(Shop(users=20_000, days=60, seed=1012), tmp_path, format=format_)
    assert 1_000_000 <= truth.planted["messages"] <= 1_500_000
    assert time.process_time() - start < 20
