"""The door, in process: what is answered, what is refused, and in which shape."""

import asyncio
import base64
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import numpy as np
import polars as pl
import pytest

from features.events.log import EventLog
from features.instants import DAY, HOUR, parse_instant
from serving import gate
from serving.collection import BATCH_BYTES, BATCH_EVENTS, EVENT_BYTES
from serving.gate import Limiter
from serving.problems import Problem
from tests.serving import shop

pytestmark = pytest.mark.anyio


async def ask(http, user):
    """The answer about a user."""
    reply = await http.post("/v1/segments", json={"user_id": user})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_an_event_changes_the_next_answer(published):
    async with shop.serving(published) as (http, _):
        cold = await ask(http, "ann")
        assert (cold["source"], cold["segments"], cold["reason"]) == ("default", [], "nothing is known of this id yet")
        assert cold["scores"]["purchase_7d"] == {
            "kind": "propensity",
            "probability": None,
            "threshold": 0.5,
            "in": False,
        }
        sent = await http.post("/v1/track", json=shop.message("ann", "order_completed", properties={"revenue": 12.5}))
        assert (sent.status_code, sent.json()) == (200, {"success": True})
        told = await ask(http, "ann")
        assert told["source"] == "live"
        cluster = told["scores"]["behaviour"]
        assert cluster["name"] == min(cluster["distances"], key=cluster["distances"].get)
        assert f"behaviour:{cluster['name']}" in told["segments"]
        assert ("purchase_7d" in told["segments"]) == (told["scores"]["purchase_7d"]["probability"] >= 0.5)


async def test_the_answer_equals_the_features_of_the_log_to_the_bit(published):
    """Events and links over HTTP, in batches; then the journal is rolled and batch computes the same rows."""
    async with shop.serving(published) as (http, runtime):
        now = runtime.now()
        for step in range(30):
            user = ("ann", "bob", "a-1", "a-2")[step % 4]
            batch = shop.messages(
                (user, "product_viewed", now - step * 7 * HOUR, {"product_id": f"p{step % 5}", "price": step / 10}),
                (user, "order_completed", now - step * DAY, {"revenue": step * 1.01}),
            )
            if step == 14:
                batch.append({"type": "identify", "userId": "ann", "anonymousId": "a-1"})
            if step == 20:
                batch.append({"type": "alias", "userId": "bob", "previousId": "ann"})
            assert (await http.post("/v1/batch", json={"batch": batch})).status_code == 200
        told = {user: await ask(http, user) for user in ("ann", "bob", "a-1", "a-2")}
        assert runtime.roller.roll() == 62
        log = EventLog(published.log, runtime.log().plan, key=shop.KEY)
        bundle = runtime.release().bundle
        for user, answer in told.items():
            canonical = answer.get("canonical_id", user)
            at = parse_instant(answer["as_of"])
            histories = log.histories(bundle.features.schema, users=[canonical])
            assert len(histories) == 1
            batch = bundle.features.compute(histories, at)
            online = shop.state_features(runtime, user, at)
            np.testing.assert_array_equal(online.values.view(np.int64), batch.values.view(np.int64))
            scores = bundle.score(histories, at)
            assert answer["scores"]["purchase_7d"]["probability"] == scores["purchase_7d"].probability[0]
            distances = dict(zip(scores["behaviour"].names, scores["behaviour"].distances[0].tolist(), strict=True))
            assert answer["scores"]["behaviour"]["distances"] == distances
        assert told["a-1"]["canonical_id"] == told["ann"].get("canonical_id", "ann")
        served = [answer["as_of"] for answer in told.values()]
        runtime.predictions.flush()
        (path,) = published.predictions.glob("*/*.parquet")
        logged = pl.read_parquet(path)
        assert [*map(parse_instant, served)] == logged["at"].to_list()


async def test_an_event_received_and_the_state_know_the_same_instant(published):
    async with shop.serving(published) as (http, runtime):
        await http.post("/v1/track", json=shop.message("ann"))
        schema = runtime.release().scorer.schema
        (known,) = {
            int(slots[1])
            for slots in np.frombuffer(runtime.store.read(schema, ["ann"])[0].records, np.int64).reshape(
                -1, schema.n_slots
            )
        }
        runtime.roller.roll()
        assert runtime.log().frame()["received"].to_list() == [known]


async def test_who_refused_personalisation_gets_the_default_answer_that_says_so(published):
    async with shop.serving(published) as (http, _):
        consent = {"consent": {"categoryPreferences": {"personalisation": False, "analytics": True}}}
        await http.post("/v1/track", json=shop.message("ann", context=consent))
        told = await ask(http, "ann")
        assert told["consent"] == {"analytics": True, "personalisation": False, "model_training": True}
        assert (told["source"], told["segments"]) == ("default", [])
        assert "personalisation" in told["reason"]


async def test_what_cannot_be_used_goes_to_quarantine_and_the_rest_is_taken(published):
    async with shop.serving(published) as (http, runtime):
        batch = [shop.message("ann"), shop.message("ann", "no_such_event"), {"type": "track"}, "text"]
        sent = await http.post("/v1/batch", json={"batch": batch})
        assert (sent.status_code, sent.json()) == (200, {"success": True})
        assert (await ask(http, "ann"))["source"] == "live"
        assert runtime.roller.roll() == 1
        assert sorted(runtime.log().quarantine()["reason"]) == ["bad_json", "no_event", "unknown_event"]


async def test_a_strict_caller_is_told_what_was_refused_and_the_rest_is_taken(published):
    async with shop.serving(published) as (http, _):
        large = shop.message("ann", messageId="large", properties={"product_id": "x" * EVENT_BYTES})
        bad = shop.message("ann", messageId="m-2", properties={"price": "dear"})
        long = shop.message("ann", messageId="m" * 101)
        sent = await http.post("/v1/batch?strict=1", json={"batch": [large, shop.message("ann"), bad, long]})
        assert sent.status_code == 422
        assert sent.headers["content-type"] == "application/problem+json"
        assert sent.json()["accepted"] == 1
        failed = [(each["index"], each["messageId"], each["reason"]) for each in sent.json()["failed_records"]]
        assert failed == [(0, "large", "oversize"), (2, "m-2", "bad_value"), (3, "m" * 100, "oversize")]
        assert sent.json()["failed_records"][1]["field"] == "price"
        assert (await http.post("/v1/batch?strict=1", json={"batch": [shop.message("ann")]})).status_code == 200


async def test_a_strict_caller_is_told_the_field_of_every_mistake(published):
    good = shop.message("ann")
    wrong = {
        "timestamp": [shop.message("ann", ts=0), shop.message("ann", ts=shop.NOW + 400 * DAY), {"timestamp": "soon"}],
        "user_id": [{"userId": "null"}, {"userId": "x" * 300}, {"userId": None}],
        "event": [{"event": "no_such_event"}, {"event": ""}],
        "type": [{"type": "screen"}, {"type": "secret"}],
        "message": ["text", 5],
    }
    batch = [{**good, **each} if isinstance(each, dict) else each for sent in wrong.values() for each in sent]
    async with shop.serving(published) as (http, _):
        told = (await http.post("/v1/batch?strict=1", json={"batch": batch})).json()["failed_records"]
    assert [each["field"] for each in told] == [field for field, sent in wrong.items() for _ in sent]


async def test_the_bundle_in_service_is_one_series_however_many_were_before(published):
    async with shop.serving(published) as (_, runtime):
        for version in range(100):
            runtime.metrics.swapped(SimpleNamespace(name="shop", version=version, digest=f"d{version}"))
        series = [line for line in runtime.metrics.text().decode().splitlines() if "bundle_info{" in line]
        assert series == ['ethogram_bundle_info{digest="d99",name="shop",version="99"} 1.0']


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/batch", b"{", 400),
        ("POST", "/v1/batch", b"[]", 400),
        ("POST", "/v1/batch", b'{"batch": 1}', 400),
        ("POST", "/v1/batch", b" " * (BATCH_BYTES + 1), 413),
        ("POST", "/v1/batch", b'{"batch": [' + b"1," * BATCH_EVENTS + b"1]}", 413),
        ("POST", "/v1/track", b"\xff", 400),
        ("POST", "/v1/segments", b"{}", 400),
        ("POST", "/v1/segments", b'{"user_id": 1}', 400),
        ("POST", "/v1/segments", b'{"user_id": "' + b"x" * 257 + b'"}', 400),
        ("POST", "/v1/segments", b" " * 70_000, 413),
        ("GET", "/v1/segments", b"", 400),
        ("GET", "/v1/track", b"", 405),
        ("DELETE", "/v1/segments", b"", 405),
        ("GET", "/", b"", 404),
        ("GET", "/v2/segments", b"", 404),
    ],
)
async def test_every_error_is_a_problem_document(published, method, path, body, status):
    async with shop.serving(published) as (http, _):
        reply = await http.request(method, path, content=body)
        assert reply.status_code == status, reply.text
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json()["status"] == status
        assert reply.json()["detail"]


async def test_a_body_without_a_length_is_cut_off_too(published):
    async def pieces():
        for _ in range(20):
            yield b" " * 50_000

    async with shop.serving(published) as (http, _):
        assert (await http.post("/v1/batch", content=pieces())).status_code == 413


async def test_without_a_key_only_this_machine_is_answered(published):
    async with shop.serving(published, client=("203.0.113.9", 1)) as (http, _):
        assert (await http.post("/v1/segments", json={"user_id": "ann"})).status_code == 401
        assert (await http.get("/metrics")).status_code == 401
        assert (await http.get("/livez")).text == "ok\n"


async def test_a_key_lets_callers_in_from_anywhere_and_nobody_without_it(published):
    settings = replace(published, api_key="open sesame")
    basic = "Basic " + base64.b64encode(b"open sesame:").decode()
    async with shop.serving(settings, client=("203.0.113.9", 1)) as (http, _):
        for shown in ("Bearer open sesame", basic):
            reply = await http.get("/v1/segments?user_id=ann", headers={"authorization": shown})
            assert reply.status_code == 200
        for shown in ("Bearer open", "Basic !", "open sesame"):
            reply = await http.get("/v1/segments?user_id=ann", headers={"authorization": shown})
            assert reply.status_code == 401
            assert reply.headers["www-authenticate"].startswith("Bearer")
        body = {"writeKey": "open sesame", **shop.message("ann")}
        assert (await http.post("/v1/track", json=body)).status_code == 200
        assert (await http.post("/v1/track", json={**body, "writeKey": "other"})).status_code == 401
    async with shop.serving(settings) as (http, _):
        assert (await http.get("/v1/segments?user_id=ann")).status_code == 401


async def test_the_answer_says_which_bundle_gave_it(published, bundle):
    async with shop.serving(published) as (http, _):
        reply = await http.get("/v1/segments", params={"anonymousId": "a-1"}, headers={"x-request-id": "mine"})
        about = {"name": "shop", "version": "1", "digest": bundle.digest}
        assert reply.json()["bundle"] == about
        assert (reply.headers["x-model-version"], reply.headers["x-request-id"]) == ("1", "mine")
        assert (await http.get("/v1/model")).json()["digest"] == bundle.digest
        names = {each["segment"] for each in (await http.get("/v1/catalogue")).json()["segments"]}
        assert names == {"behaviour:browsers", "behaviour:buyers", "behaviour:sleepers", "purchase_7d"}


async def test_metrics_name_routes_and_never_callers(published):
    async with shop.serving(published) as (http, _):
        await http.get("/v1/segments?user_id=secret-name")
        await http.get("/secret-path")
        await http.post("/v1/track", json=shop.message("ann"))
        text = (await http.get("/metrics")).text
        assert 'ethogram_requests_total{route="/v1/segments",status="200"} 1.0' in text
        assert 'ethogram_requests_total{route="other",status="404"} 1.0' in text
        assert 'ethogram_events_total{outcome="accepted"} 1.0' in text
        assert 'ethogram_answers_total{source="default"} 1.0' in text
        assert "secret" not in text


async def test_a_draining_service_is_not_ready_and_still_answers(published):
    async with shop.serving(published) as (http, runtime):
        runtime.draining = True
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/livez")).status_code == 200
        reply = await http.get("/v1/segments?user_id=ann")
        assert (reply.status_code, reply.headers["connection"]) == (200, "close")


async def test_without_a_bundle_the_service_says_what_it_waits_for(tmp_path):
    settings = shop.settings_in(tmp_path)
    async with shop.serving(settings, patience=0) as (http, _):
        assert (await http.get("/readyz")).status_code == 503
        reply = await http.post("/v1/segments", json={"user_id": "ann"})
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert "ethogram promote" in reply.json()["detail"]


async def test_an_event_a_little_ahead_of_the_clock_is_counted(published):
    """As after a restart on a machine whose clock lags: the answer's instant follows the newest known event."""
    async with shop.serving(published) as (http, runtime):
        await http.post("/v1/track", json=shop.message("ann"))
        newest = runtime.arrival()
        answer = runtime.release().scorer.answer("ann", newest - 1_000_000)
        assert 0 < answer.skew <= 1_000_000
        assert answer.at == newest - 1_000_000 + answer.skew
        assert runtime.release().scorer.answer("ann", newest - DAY).at == newest - DAY + 2_000_000


def test_a_request_document_is_what_msgspec_reads():
    """The quick decoder and a plain one agree on the spelling of ids."""
    from serving.questions import QUESTION

    for name in ("user_id", "userId", "anonymous_id", "anonymousId"):
        assert QUESTION.decode(msgspec.json.encode({name: "ann", "more": 1})).user == "ann"


async def test_a_key_that_asks_too_often_is_told_when_to_come_again(published):
    settings = replace(published, rate=0.01, origins=frozenset({"https://shop.example"}))
    async with shop.serving(settings) as (http, _):
        asked = {"origin": "https://shop.example"}
        assert (await http.get("/v1/model")).status_code == 200
        reply = await http.get("/v1/model", headers=asked)
        assert (reply.status_code, reply.headers["content-type"]) == (429, "application/problem+json")
        assert 90 <= int(reply.headers["retry-after"]) <= 100
        assert reply.headers["access-control-allow-origin"] == "https://shop.example"
        assert "retry-after" in reply.headers["access-control-expose-headers"]
        assert (await http.get("/readyz")).status_code == 200


def test_a_bucket_fills_at_its_rate_and_holds_two_seconds():
    now = [0.0]
    limiter = Limiter(2.0, clock=lambda: now[0])
    taken = 0
    for tick in range(1000):
        now[0] = tick / 100
        with suppress(Problem):
            limiter.take("key")
            taken += 1
    assert taken == 4 + 19
    now[0] = 10.0
    limiter.take("key")
    with pytest.raises(Problem) as problem:
        limiter.take("key")
    assert (problem.value.status, problem.value.headers["retry-after"]) == (429, "1")
    limiter.take("another key")


async def test_pages_of_named_origins_alone_may_read(published):
    settings = replace(published, origins=frozenset({"https://shop.example"}), api_key="k")
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with shop.serving(settings) as (http, _):
        good = await http.options("/v1/segments", headers={"origin": "https://shop.example", **wanted})
        assert (good.status_code, good.headers["access-control-allow-methods"]) == (204, "GET, POST")
        assert good.headers["access-control-allow-origin"] == "https://shop.example"
        bad = await http.options("/v1/segments", headers={"origin": "https://other.example", **wanted})
        assert (bad.status_code, "access-control-allow-origin" in bad.headers) == (403, False)
        error = await http.get("/v1/model", headers={"origin": "https://shop.example"})
        assert (error.status_code, error.headers["vary"]) == (401, "origin")
        assert error.headers["access-control-allow-origin"] == "https://shop.example"
        assert "access-control-allow-origin" not in (await http.get("/v1/model")).headers


async def test_a_body_that_does_not_come_is_not_waited_for(published, monkeypatch):
    monkeypatch.setattr(gate, "BODY_S", 0.05)

    async def drip():
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    async with shop.serving(published) as (http, _):
        reply = await http.post("/v1/segments", content=drip())
        assert (reply.status_code, reply.headers["connection"]) == (408, "close")
        assert reply.headers["content-type"] == "application/problem+json"
