"""Declared segments in answers: equal to batch, with class and freshness; the call's context; why."""

import numpy as np
import pytest

from features.behaviour.histories import Histories
from features.instants import DAY, HOUR, MINUTE, iso
from tests.serving import shop
from tests.serving.test_contract import assert_described
from training.bundle import Bundle, publish

pytestmark = pytest.mark.anyio

ABANDONED = [
    {"event": "product_viewed", "count": {"gte": 2}, "within": "1h"},
    {"not": {"event": "order_completed"}, "within": "24h"},
]
SEGMENTS = {
    "abandoned": {"when": {"sequence": {"same": ["product_id"], "steps": ABANDONED[:1]}}, "status": "draft"},
    "left": {"when": {"sequence": {"steps": ABANDONED}}},
    "buyers": {"when": {"did": {"event": "order_completed", "last": "7d"}}},
    "not_buyers": {"when": {"none": [{"segment": "buyers"}]}},
    "premium": {"when": {"trait": {"plan": "premium"}}},
    "mobile": {"when": {"context": {"device": "mobile", "local_time": {"between": ["00:00", "23:59"]}}}},
    "likely": {"when": {"model": {"study": "purchase_7d", "gte": 0}}},
    "clustered": {"when": {"cluster": {"study": "behaviour", "in": ["browsers", "buyers"], "min_confidence": 0.5}}},
    "often": {"when": {"feature": {"count_any_7d": {"gte": 3}}}},
}


@pytest.fixture(scope="module")
def ruled(tmp_path_factory):
    return shop.bundle_in(tmp_path_factory.mktemp("ruled"), version="9", segments=SEGMENTS)


@pytest.fixture
def published(ruled, tmp_path):
    settings = shop.settings_in(tmp_path)
    publish(ruled.path, settings.bundles)
    return settings


async def send(http):
    rows = [shop.message("ann", ts=shop.NOW - 23 * HOUR + k * MINUTE) for k in range(3)]
    rows += [shop.message("bob", "order_completed", shop.NOW - k * DAY, {"revenue": 5}) for k in range(4)]
    rows.append({"type": "identify", "userId": "bob", "traits": {"plan": "premium"}})
    rows += [shop.message(f"u{k}", ts=shop.NOW - k * 5 * HOUR - j * MINUTE) for k in range(12) for j in range(k % 4)]
    assert (await http.post("/v1/batch", json={"batch": rows})).status_code == 200


async def test_an_answer_tells_every_active_segment_with_class_and_freshness(published):
    async with shop.serving(published) as (http, _):
        await send(http)
        body = {"user_id": "bob", "context": {"device": "mobile", "timezone": "Europe/Berlin"}}
        told = (await http.post("/v1/segments", json=body)).json()
        assert "abandoned" not in told["rules"]
        assert {name for name, each in told["rules"].items() if each["in"]} <= set(told["segments"])
        assert {"buyers", "premium", "mobile", "likely", "often"} <= set(told["segments"])
        assert [told["rules"][name]["class"] for name in ("mobile", "premium", "buyers", "clustered")] == [
            "request",
            "stream",
            "timer",
            "batch",
        ]
        assert told["rules"]["premium"]["next_change"] is None
        assert told["rules"]["buyers"]["next_change"] == iso(shop.NOW + 7 * DAY)
        elsewhere = (await http.get("/v1/segments?user_id=bob")).json()
        assert "mobile" not in elsewhere["segments"]


async def test_of_clusters_the_answer_tells_as_of_when_they_are_and_the_explanation_how_far(published):
    async with shop.serving(published) as (http, _):
        await send(http)
        answer = (await http.get("/v1/segments?user_id=bob")).json()
        assert answer["rules"]["clustered"]["computed_at"] == iso(shop.CUT)
        assert "computed_at" not in answer["rules"]["likely"]
        why = (await http.post("/v1/explain", json={"user_id": "bob"})).json()["segments"]["clustered"]
        named, sure = why["of"][0]["of"]
        assert named["distances"] == answer["scores"]["behaviour"]["distances"]
        assert set(named["distances"]) == {"browsers", "buyers", "sleepers"}
        assert named["computed_at"] == iso(shop.CUT)
        assert sure["value"] == answer["scores"]["behaviour"]["confidence"]


async def test_what_only_the_call_knows_is_answered_for_unknown_users_too(published):
    async with shop.serving(published) as (http, _):
        body = {"user_id": "nobody", "context": {"device": "mobile", "timezone": "UTC"}}
        told = (await http.post("/v1/segments", json=body)).json()
        assert (told["source"], told["segments"]) == ("default", ["mobile"])
        odd = {"user_id": "nobody", "context": {"device": {"a": [1]}, "local_time": 3, "timezone": "\x00"}}
        assert (await http.post("/v1/segments", json=odd)).json()["segments"] == []


async def test_the_context_of_a_batch_is_that_of_each_of_its_users(published):
    async with shop.serving(published) as (http, _):
        await send(http)
        users, context = ["bob", "ann", "nobody"], {"device": "mobile", "timezone": "UTC"}
        body = {"users": users, "context": context}
        many = (await http.post("/v1/segments:batch", json=body)).json()
        assert_described("Answers", many)
        for user, each in zip(users, many["answers"], strict=True):
            one = (await http.post("/v1/segments", json={"user_id": user, "context": context})).json()
            assert "mobile" in each["segments"]
            assert each["segments"] == one["segments"]
        for other in ({**context, "device": "tablet"}, None):
            told = (await http.post("/v1/segments:batch", json={**body, "context": other})).json()["answers"]
            assert all("mobile" not in each["segments"] for each in told)
        assert (await http.post("/v1/segments:batch", json={**body, "context": "mobile"})).status_code == 400


async def test_why_names_the_events_and_what_is_pending(published):
    async with shop.serving(published) as (http, runtime):
        await send(http)
        told = (await http.post("/v1/explain", json={"user_id": "ann"})).json()
        assert (told["source"], told["degraded"]) == ("live", False)
        (node,) = told["segments"]["left"]["of"]
        assert node["truth"] == "unknown"
        assert node["pending_until"] == iso(shop.NOW + HOUR + 2 * MINUTE)
        assert [each["event"] for each in node["events"]] == ["product_viewed"] * 2
        assert set(told["segments"]) == set(runtime.release().scorer.rules.names)
        answer = (await http.post("/v1/segments", json={"user_id": "ann"})).json()
        assert {name: each["in"] for name, each in told["segments"].items()} == {
            name: each["in"] for name, each in answer["rules"].items()
        }
        assert (await http.post("/v1/explain", json={})).status_code == 400


async def test_the_answer_of_everybody_equals_batch(published, ruled):
    """The same users, instant and bundle, from the states in one pass and one by one."""
    async with shop.serving(published) as (http, runtime):
        await send(http)
        users, at = ["ann", "bob", *(f"u{k}" for k in range(12) if k % 4)], runtime.now()
        scorer, bundle = runtime.release().scorer, Bundle.load(ruled.path)
        states = runtime.store.read(scorer.schema, users)
        rows = Histories.from_states(bundle.schema, users, [s.records for s in states], [s.carry for s in states])
        matrix = bundle.computed.compute(rows, at)
        assert bundle.schema.fingerprint != bundle.features.schema.fingerprint
        truths = bundle.told.evaluate(rows, at, features=matrix, scores=bundle.score_matrix(matrix))
        wanted = [[name for name in truths.of(row) if name != "abandoned"] for row in range(len(users))]
        answers = scorer.answers(users, at)
        assert [[name for name, each in a.verdict.rules.items() if each["in"]] for a in answers] == wanted
        assert [scorer.answer(user, at).verdict for user in users] == [answer.verdict for answer in answers]
        assert np.unique([len(each) for each in wanted]).size > 1


async def test_the_catalogue_lists_declared_segments(published):
    async with shop.serving(published) as (http, _):
        told = (await http.get("/v1/catalogue")).json()["segments"]
        rules = {each["segment"]: each["class"] for each in told if each["kind"] == "rule"}
        assert rules["left"] == "timer"
        assert "abandoned" not in rules
