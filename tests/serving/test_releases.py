"""What is in service follows CURRENT; what is broken never gets in."""

import json
import threading
from pathlib import Path

import anyio
import polars as pl
import pytest

from serving import releases, shadow
from serving import runtime as runtime_module
from serving.packing import pack
from tests.serving import shop
from training.bundle import CHALLENGER, publish

pytestmark = pytest.mark.anyio


async def until(holds):
    """Wait for the thread that looks once a second."""
    for _ in range(300):
        if holds():
            return
        await anyio.sleep(0.1)
    pytest.fail("it did not happen")


async def version(http):
    return (await http.get("/v1/model")).json()["version"]


async def test_a_new_bundle_is_swapped_in_and_the_one_before_is_kept(published, bundle, stricter):
    async with shop.serving(published) as (http, runtime):
        await http.post("/v1/track", json=shop.message("ann"))
        assert await version(http) == "1"
        publish(stricter.path, published.bundles)
        assert runtime.releases.look() in (True, False)
        assert await version(http) == "2"
        told = (await http.post("/v1/segments", json={"user_id": "ann"})).json()
        assert "purchase_7d" in told["segments"]
        assert (await http.get("/v1/model")).json()["previous"] == bundle.digest
        publish(bundle.path, published.bundles)
        runtime.releases.look()
        assert await version(http) == "1"


async def test_while_the_first_bundle_is_made_ready_nobody_is_told_to_publish_one(published, bundle, monkeypatch):
    may = threading.Event()
    monkeypatch.setattr(runtime_module, "warm", lambda _: may.wait(30))
    async with shop.serving(published, patience=0) as (http, runtime):
        await until(lambda: "promote" not in runtime.releases.fault)
        told = (await http.post("/v1/segments", json={"user_id": "ann"})).json()["detail"]
        assert told == f"no bundle is in service: bundle {bundle.digest[:12]} is being made ready."
        may.set()
        await until(lambda: runtime.releases.fault == "")


async def test_the_same_bundle_opened_again_is_not_the_one_before(published, bundle, stricter):
    async with shop.serving(published) as (http, runtime):
        publish(stricter.path, published.bundles)
        runtime.releases.look()
        runtime.releases.stale = lambda: True
        assert runtime.releases.look()
        assert (await http.get("/v1/model")).json()["previous"] == bundle.digest


async def test_a_bundle_over_another_schema_is_filled_before_it_answers(published, wider):
    async with shop.serving(published) as (http, runtime):
        await http.post("/v1/track", json=shop.message("ann", properties={"price": 7.5}))
        runtime.roller.roll()
        await http.post("/v1/track", json=shop.message("ann", properties={"price": 0.5}))
        publish(wider.path, published.bundles)
        runtime.releases.look()
        assert await version(http) == "3"
        answer = runtime.release().scorer.answer("ann", runtime.now())
        place = wider.features.names.index("sum_product_viewed_price_7d")
        assert answer.values[place] == 8.0
        await http.post("/v1/track", json=shop.message("ann", properties={"price": 1}))
        place = wider.features.names.index("count_any_1d")
        assert runtime.release().scorer.answer("ann", runtime.now()).values[place] == 3.0
        assert len(runtime.store.live()) == 2


async def test_a_changed_byte_keeps_the_bundle_in_service_and_raises_a_metric(published, stricter):
    async with shop.serving(published) as (http, runtime):
        target = publish(stricter.path, published.bundles)
        document = json.loads((target / "models/purchase_7d/model.json").read_text())
        document["threshold"] = 0.9
        (target / "models/purchase_7d/model.json").write_text(json.dumps(document))
        runtime.releases.look()
        assert await version(http) == "1"
        assert "refused" in (await http.get("/v1/model")).json()["fault"]
        assert "ethogram_bundle_failures_total 1.0" in (await http.get("/metrics")).text
        assert (await http.get("/readyz")).status_code == 200


async def test_a_current_that_names_nothing_keeps_the_bundle_in_service(published):
    async with shop.serving(published) as (http, runtime):
        (published.bundles / "CURRENT").write_text("0" * 64)
        runtime.releases.look()
        assert await version(http) == "1"


async def test_whatever_stands_in_current_the_next_bundle_is_taken(published, stricter):
    async with shop.serving(published) as (http, runtime):
        (published.bundles / "CURRENT").write_bytes(b"\xff\xfe")
        assert not runtime.releases.look()
        runtime.releases.on_swap, swapped = lambda _: 1 / 0, runtime.releases.on_swap
        publish(stricter.path, published.bundles)
        await until(lambda: "division by zero" in runtime.releases.fault)
        assert await version(http) == "2"
        runtime.releases.on_swap = swapped
        publish(published.bundles / (await http.get("/v1/model")).json()["previous"], published.bundles)
        await until(lambda: runtime.release().bundle.version == "1")


async def test_what_may_pass_refuses_no_bundle_for_ever(published, stricter, monkeypatch):
    monkeypatch.setattr(releases, "AGAIN_S", 0.0)
    async with shop.serving(published) as (http, runtime):
        runtime.releases.stop()
        opened, runtime.releases._open = runtime.releases._open, lambda _: (Path("/dev/full")).write_text("x" * 9999)
        publish(stricter.path, published.bundles)
        assert not runtime.releases.look()
        assert "No space" in runtime.releases.fault
        runtime.releases._open = opened
        assert runtime.releases.look()
        assert await version(http) == "2"


async def test_the_packed_bundle_answers_until_one_is_published(bundle, stricter, tmp_path):
    settings = shop.settings_in(tmp_path)
    async with shop.serving(settings, packed=bundle.path) as (http, runtime):
        assert await version(http) == "1"
        publish(stricter.path, settings.bundles)
        runtime.releases.look()
        assert await version(http) == "2"


async def test_the_packed_bundle_answers_where_the_published_one_is_broken(bundle, stricter, tmp_path):
    settings = shop.settings_in(tmp_path)
    (publish(stricter.path, settings.bundles) / "features.json").write_text("{}")
    async with shop.serving(settings, packed=bundle.path, patience=1) as (http, runtime):
        runtime.releases.look()
        assert await version(http) == "1"


@pytest.mark.parametrize("other", ["stricter", "wider"])
async def test_a_challenger_scores_what_was_answered_from_and_answers_nobody(published, other, request):
    challenger = request.getfixturevalue(other)
    async with shop.serving(published) as (http, runtime):
        await http.post("/v1/track", json=shop.message("ann", properties={"price": 2}))
        publish(challenger.path, published.bundles, pointer=CHALLENGER)
        runtime.challengers.look()
        assert (await http.get("/v1/model")).json()["challenger"] == challenger.digest
        told = (await http.post("/v1/segments", json={"user_id": "ann"}, headers={"x-request-id": "one"})).json()
        assert told["bundle"]["version"] == "1"
        await http.post("/v1/track", json=shop.message("ann", properties={"price": 3}))  # not what was answered from
        runtime.shadow.work()
        for log in (runtime.predictions, runtime.shadowed):
            log.flush()
        (row,), (shadow,) = (
            pl.read_parquet(list(published.predictions.glob(place))).to_dicts()
            for place in ("*T*/*.parquet", "challenger/*/*.parquet")
        )
        for name in ("request_id", "user", "at", "n_events", "sum_ids", "last_ts"):
            assert shadow[name] == row[name], name
        assert shadow["features"]["count_any_1d"] == row["features"]["count_any_1d"]
        assert (row["bundle"], shadow["bundle"]) == (told["bundle"]["digest"], challenger.digest)
        assert 'ethogram_shadow_total{outcome="scored"} 1.0' in (await http.get("/metrics")).text
        (published.bundles / CHALLENGER).unlink()
        runtime.challengers.look()
        assert (await http.get("/v1/model")).json()["challenger"] is None


async def test_what_the_shadow_cannot_keep_up_with_is_dropped_and_counted(published, stricter, monkeypatch):
    monkeypatch.setattr(shadow, "CAPACITY", 2)
    async with shop.serving(published) as (http, runtime):
        runtime.shadow.thread.stop()
        publish(stricter.path, published.bundles, pointer=CHALLENGER)
        runtime.challengers.look()
        await http.post("/v1/track", json=shop.message("ann"))
        for _ in range(5):
            assert (await http.post("/v1/segments", json={"user_id": "ann"})).status_code == 200
        assert 'ethogram_shadow_total{outcome="dropped"} 3.0' in (await http.get("/metrics")).text


@pytest.mark.integration
def test_a_packed_bundle_has_its_digest_as_version(bundle, tmp_path, monkeypatch):
    """In a process of its own: BentoML reads its home when it is imported."""
    import subprocess
    import sys

    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    code = f"from serving.packing import pack; print(pack({str(bundle.path)!r})); print(pack({str(bundle.path)!r}))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == [f"ethogram-bundle:{bundle.digest[:32]}"] * 2
    assert pack
