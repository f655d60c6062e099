"""The prediction log: every answer, what it was made of, and what was dropped."""

import threading
from types import SimpleNamespace

import anyio
import numpy as np
import polars as pl
import pytest

from features.instants import HOUR, to_datetime
from features.people import pseudonym
from serving import predictions
from serving.predictions import Ring, columns
from serving.writing import HOURS, frame_of
from tests.serving import shop
from training.bundle import publish

pytestmark = pytest.mark.anyio


async def test_an_answer_is_logged_with_what_it_was_made_of(published, bundle):
    async with shop.serving(published) as (http, runtime):
        await http.post("/v1/track", json=shop.message("ann", "order_completed", properties={"revenue": 5}))
        told = (await http.get("/v1/segments?user_id=ann")).json()
        await http.get("/v1/segments?user_id=nobody-yet")
        assert runtime.predictions.flush() == 2
        (path,) = published.predictions.glob("*/*.parquet")
        logged = predictions.read(path)
        studies = {study: model.kind for study, model in bundle.models.items()}
        assert logged.columns == columns(bundle.features.names, studies)
        row, cold = logged.to_dicts()
        assert (row["user"], row["request_id"]) == (pseudonym(shop.KEY, "ann"), told["request_id"])
        assert (row["bundle"], row["source"], row["segments"]) == (bundle.digest, "live", told["segments"])
        assert row["score_purchase_7d"] == told["scores"]["purchase_7d"]["probability"]
        assert row["score_behaviour"] == told["scores"]["behaviour"]["cluster"]
        features = shop.state_features(runtime, "ann", row["at"]).values[0]
        np.testing.assert_array_equal([row[f"f_{name}"] for name in bundle.features.names], features)
        assert (row["n_events"], row["schema"]) == (1, bundle.features.schema.fingerprint)
        assert (cold["source"], cold["n_events"], cold["segments"]) == ("default", 0, [])
        assert np.isnan(cold["score_purchase_7d"])


async def test_rows_are_kept_by_the_hour_of_their_answer(published):
    async with shop.serving(published) as (http, runtime):
        await http.post("/v1/track", json=shop.message("ann"))
        release = runtime.release()
        for at in (shop.NOW, shop.NOW + 3_600_000_000):
            release.ring.put("r", release.scorer.answer("ann", at))
        runtime.predictions.flush()
        assert len(list(published.predictions.iterdir())) == 2


async def test_a_full_ring_drops_and_counts(published, monkeypatch):
    monkeypatch.setattr(predictions, "CAPACITY", 3)
    async with shop.serving(published) as (http, runtime):
        runtime.release().ring.on_half = lambda: None  # nobody empties it in time
        for _ in range(5):
            await http.get("/v1/segments?user_id=ann")
        assert 'ethogram_predictions_total{outcome="dropped"} 2.0' in (await http.get("/metrics")).text
        assert runtime.predictions.flush() == 3
        await http.get("/v1/segments?user_id=ann")
        assert runtime.predictions.flush() == 1


async def test_many_rings_full_between_two_turns_of_the_writer_lose_nothing(published, monkeypatch):
    monkeypatch.setattr(predictions, "CAPACITY", 64)
    async with shop.serving(published) as (_, runtime):  # whose writer has its turn once an hour
        ring, answer = runtime.release().ring, runtime.release().scorer.answer("ann", shop.NOW)
        for step in range(10 * 64):
            assert ring.put(str(step), answer)
            with anyio.fail_after(30):
                while len(ring) > 32:
                    await anyio.sleep(0.002)
        runtime.predictions.flush()
        logged = [
            request
            for path in published.predictions.glob("*/*.parquet")
            for request in pl.read_parquet(path)["request_id"]
        ]
        assert sorted(logged, key=int) == [str(step) for step in range(10 * 64)]


async def test_threads_that_log_at_once_mix_no_rows(published):
    """A batch is answered in a thread of its own, beside single questions; numpy lets others run while it copies."""
    async with shop.serving(published) as (_, runtime):
        scorer = runtime.release().scorer
        answer = scorer.answer("ann", shop.NOW)
        n, width, frames = 200, 5_000, []
        features = SimpleNamespace(names=tuple(f"f{place}" for place in range(width)))
        bundle = SimpleNamespace(digest="of a wide bundle", features=features, models={})
        ring = Ring(SimpleNamespace(bundle=bundle, schema=scorer.schema, studies=()), 4 * n)

        def put(who):
            mine = answer._replace(canonical=f"{who}", at=who, values=np.full(width, float(who)))
            for _ in range(n):
                assert ring.put(f"{who}", mine)

        threads = [threading.Thread(target=put, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ring.drain(lambda parts, _: frames.extend(frame_of(each, b"key") for each in parts)) == 4 * n
        whole = pl.concat(frames)
        values = whole["features"].struct.unnest().to_numpy()
        assert (whole["request_id"].cast(pl.Int64) == whole["at"]).all()
        assert (values == whole["at"].to_numpy()[:, None]).all()


async def test_a_ring_goes_round(published):
    async with shop.serving(published) as (_, runtime):
        scorer = runtime.release().scorer
        ring = Ring(scorer, capacity=4)
        seen = []

        def keep(parts, _):
            seen.extend(text for part in parts for text in part.head.request_id)

        for step in range(11):
            assert ring.put(str(step), scorer.answer("ann", shop.NOW + step))
            if step % 3 == 0:
                ring.drain(keep)
        ring.drain(keep)
        assert seen == [str(step) for step in range(11)]


async def test_what_was_answered_before_two_swaps_is_written(published, bundle, stricter):
    async with shop.serving(published) as (http, runtime):
        for each in (stricter, bundle, stricter):
            await http.get("/v1/segments?user_id=ann")
            publish(each.path, published.bundles)
            assert runtime.releases.look()
        await http.get("/v1/segments?user_id=ann")
        assert runtime.predictions.flush() == 4


async def test_of_two_hours_each_is_written_once_though_the_second_failed_first(published, monkeypatch):
    async with shop.serving(published) as (_, runtime):
        release, write = runtime.release(), pl.DataFrame.write_parquet
        for at in (shop.NOW, shop.NOW + HOUR):
            assert release.ring.put(str(at), release.scorer.answer("ann", at))

        def full(frame, path, **options):
            if frame["at"][0] > shop.NOW:
                raise OSError(28, "No space left on device")
            write(frame, path, **options)

        with monkeypatch.context() as patch:
            patch.setattr(pl.DataFrame, "write_parquet", full)
            with pytest.raises(OSError, match="No space"):
                runtime.predictions.flush()
        assert runtime.predictions.flush() == 2
        kept = [
            pl.read_parquet(path)["request_id"].to_list() for path in sorted(published.predictions.rglob("*.parquet"))
        ]
        assert kept == [[str(shop.NOW)], [str(shop.NOW + HOUR)]]


async def test_hours_older_than_what_is_kept_are_let_go_of(published):
    async with shop.serving(published) as (_, runtime):
        release, log = runtime.release(), runtime.predictions
        log.writer.kept = 2 * HOUR
        (published.predictions / "notes").mkdir(parents=True)
        for hour in range(5):
            at = shop.NOW + hour * HOUR
            release.ring.put("r", release.scorer.answer("ann", at))
            log.flush()
        left = sorted(each.name for each in published.predictions.iterdir())
        newest = [to_datetime(shop.NOW + hour * HOUR).strftime(HOURS) for hour in (2, 3, 4)]
        assert left == [*newest, "notes"]


async def test_what_waits_to_be_written_of_an_erased_person_says_nothing_of_them(published):
    async with shop.serving(published) as (http, runtime):
        for user in ("ann", "bob"):
            await http.post("/v1/track", json=shop.message(user))
            await http.get(f"/v1/segments?user_id={user}")
        runtime.log().erase("ann", at=runtime.now())
        assert runtime.predictions.flush() == 2
        (path,) = published.predictions.glob("*/*.parquet")
        ann, bob = predictions.read(path).to_dicts()
        assert (bob["user"], bob["source"], bob["n_events"]) == (pseudonym(shop.KEY, "bob"), "live", 1)
        assert pseudonym(shop.KEY, "ann") != ann["user"]
        assert (ann["source"], ann["segments"], ann["n_events"], ann["sum_ids"]) == ("default", [], 0, 0)
        said = {value for name, value in ann.items() if name.startswith(("f_", "score_purchase"))}
        assert all(np.isnan(value) for value in said)


async def test_answers_about_an_erased_person_are_removed(published):
    async with shop.serving(published) as (http, runtime):
        for user in ("ann", "bob", "ann"):
            await http.get(f"/v1/segments?user_id={user}")
        runtime.predictions.flush()
        assert predictions.forget(published.predictions, ["ann"], key=shop.KEY) == 2
        assert predictions.forget(published.predictions, ["ann"], key=shop.KEY) == 0
        (path,) = published.predictions.glob("*/*.parquet")
        assert pl.read_parquet(path)["user"].to_list() == [pseudonym(shop.KEY, "bob")]
