"""What was served comes out of the event log again, and the smallest fault is found."""

import shutil

import numpy as np
import polars as pl
import pytest

from experiments.release import check_answers
from experiments.replay import replay
from features.errors import BundleError
from features.events.log import EventLog
from features.instants import DAY, HOUR
from features.project import Project
from tests.serving import shop
from training.bundle import publish

pytestmark = pytest.mark.anyio

CODE = """
from features import feature

@feature(events="product_viewed", properties=["price", "product_id"], windows=["7d", "30d"])
def price_of_the_usual(user, at):
    ids = list(user["product_id"])
    usual = max(sorted(set(ids)), key=ids.count, default=None)
    return sum(price for price, each in zip(user["price"].tolist(), ids) if each == usual) if ids else None
"""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """With features in Python among the compiled ones."""
    return shop.bundle_in(tmp_path_factory.mktemp("bundle"), code=CODE)


@pytest.fixture
async def project(bundle, tmp_path, monkeypatch):
    """A project whose service has answered while events came in: late ones, copies, links, a refusal."""
    monkeypatch.setenv("ETHOGRAM_KEY", shop.KEY.decode())
    (tmp_path / "ethogram.yaml").write_text("version: 1\nname: shop\n", encoding="utf-8")
    made = Project.find(tmp_path)
    places = {name: made.path(name) for name in ("bundles", "log", "predictions", "state")}
    publish(bundle.path, places["bundles"])
    async with shop.serving(shop.settings_in(tmp_path, project=made, **places)) as (http, runtime):
        for step in range(40):
            user = ("ann", "bob", "a-1", "cid")[step % 4]
            now = runtime.now()
            batch = shop.messages(
                (user, "product_viewed", now - step * 7 * HOUR, {"product_id": f"p{step % 5}", "price": step / 10}),
                (user, "order_completed", now - step * DAY, {"revenue": step * 1.01}),
            )
            if step == 20:
                batch.append({"type": "identify", "userId": "ann", "anonymousId": "a-1"})
            assert (await http.post("/v1/batch", json={"batch": batch})).status_code == 200
            await http.post("/v1/segments:batch", json={"users": ["ann", "bob", "a-1", "cid", "nobody"]})
    return made


async def test_every_value_comes_out_again(project, bundle):
    found = replay(project)
    assert {"price_of_the_usual_7d", "price_of_the_usual_30d"} <= set(bundle.features.names)
    n_columns = len(bundle.features.names) + len(bundle.models)
    assert (found.mismatches, found.freshness, found.erased, found.unavailable) == (0, 0, 0, 0)
    assert found.gone == 18  # what was said of a-1 before it turned out to be ann
    assert found.values == (found.answers - found.gone) * n_columns
    assert found.answers > 130
    assert replay(project, sample=7).answers == 7
    check_answers(project)


async def test_one_bit_is_found_and_forbids_a_promotion(project):
    path = max(project.path("predictions").glob("*/*.parquet"))
    rows = pl.read_parquet(path)
    live = rows.with_row_index().filter((pl.col("source") == "live") & (pl.col("n_events") > 30))["index"].to_list()
    bits = rows["features"].struct["count_any_7d"].to_numpy().copy().view(np.int64)
    bits[live[-1]] ^= 1
    changed = pl.col("features").struct.with_fields(pl.Series("count_any_7d", bits.view(np.float64)))
    rows.with_columns(changed).write_parquet(path)
    found = replay(project)
    assert (found.mismatches, found.holds) == (1, False)
    assert "f_count_any_7d: served" in found.examples[0]
    with pytest.raises(BundleError, match="1 mismatches"):
        check_answers(project)


async def test_a_state_that_the_log_does_not_give_is_counted_not_blamed(project):
    path = max(project.path("predictions").glob("*/*.parquet"))
    rows = pl.read_parquet(path)
    changed = pl.col("features").struct.with_fields(pl.lit(99.0).alias("count_any_7d"))
    rows.with_columns(changed, n_events=pl.col("n_events") + 1).write_parquet(path)
    found = replay(project)
    assert (found.mismatches, found.values, found.freshness) == (0, 0, found.answers - found.gone)
    assert not found.holds, "nothing was compared"
    assert found.freshness > 100
    with pytest.raises(BundleError, match=r"not one served answer can be compared .*Hint: promote once"):
        check_answers(project)
    rows.with_columns(source=pl.lit("default")).write_parquet(path)
    check_answers(project)  # nothing live was ever answered
    shutil.rmtree(project.path("predictions"))
    check_answers(project)


async def test_answers_without_an_event_log_forbid_a_promotion(project):
    shutil.rmtree(project.path("log"))
    with pytest.raises(BundleError, match=r"cannot be computed again: the event log .* is empty"):
        check_answers(project)


async def test_an_erased_person_is_counted_as_erased(project):
    before = replay(project)
    plan = shop.TrackingPlan.read(next(project.path("bundles").glob("*/plan.yaml")))
    EventLog(project.path("log"), plan, key=project.key).erase("bob", at=shop.NOW + DAY)
    found = replay(project)
    assert found.erased > 30
    assert (found.mismatches, found.values < before.values) == (0, True)
