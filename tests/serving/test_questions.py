"""Many users at once, somebody who does not exist, and answers that need not be sent again."""

import numpy as np
import pytest

from features.instants import DAY, HOUR, parse_instant
from serving.questions import BATCH_USERS, CHUNK
from tests.serving import shop

pytestmark = pytest.mark.anyio

DIFFERS = ("status", "request_id", "as_of", "staleness_ms")


async def populated(http, n=CHUNK + 6):
    """Users with histories of their own; one of them has refused personalisation."""
    rows = [
        shop.message(f"u{k}", "order_completed" if k % 3 else "product_viewed", shop.NOW - k * HOUR, {"revenue": k + 1})
        for k in range(n)
    ]
    refusal = {"consent": {"categoryPreferences": {"personalisation": False}}}
    rows.append(shop.message("shy", context=refusal))
    assert (await http.post("/v1/batch", json={"batch": rows})).status_code == 200
    return [f"u{k}" for k in range(n)] + ["shy", "nobody"]


async def test_a_batch_says_of_everybody_what_a_single_question_says(published):
    """In order, over more than one chunk, denied and unknown ids among them, somebody twice; all of it logged."""
    async with shop.serving(published) as (http, runtime):
        users = [*(await populated(http)), "u3", "null"][::-1]
        reply = await http.post("/v1/segments:batch", json={"users": users})
        assert (reply.status_code, reply.headers["x-model-version"]) == (200, "1")
        told = reply.json()["answers"]
        assert [each["user_id"] for each in told] == users
        assert {each["status"] for each in told} == {200}
        assert runtime.predictions.flush() == len(users)
        at = runtime.now()
        for user in users:
            one, answer = told[users.index(user)], runtime.release().scorer.answer(user, at)
            assert one["source"] == answer.source
            if answer.source == "live":
                many = runtime.release().scorer.answers([*users, user], at)[-1]
                np.testing.assert_array_equal(many.values.view(np.int64), answer.values.view(np.int64))
                assert many.verdict == answer.verdict
            else:
                assert one["segments"] == []


async def test_one_poisoned_item_fails_no_neighbour(published):
    async with shop.serving(published) as (http, _):
        users = ["ann", 7, None, "", "x" * 300, {"user_id": "ann"}, "bob"]
        told = (await http.post("/v1/segments:batch", json={"users": users})).json()["answers"]
        assert [each["status"] for each in told] == [200, 400, 400, 400, 400, 400, 200]
        assert "256 characters" in told[4]["detail"]
        many = await http.post("/v1/segments:batch", json={"users": ["ann"] * (BATCH_USERS + 1)})
        assert (many.status_code, many.headers["content-type"]) == (413, "application/problem+json")
        assert (await http.post("/v1/segments:batch", json={"users": []})).json()["answers"] == []
        nobody = (await http.post("/v1/segments:batch", json={"users": [{}]})).json()["answers"]
        assert [each["status"] for each in nobody] == [400]
        assert (await http.post("/v1/segments:batch", json={"users": "ann"})).status_code == 400


async def test_scoring_given_events_says_what_sending_them_would(published):
    async with shop.serving(published) as (http, runtime):
        sent = shop.messages(
            ("ann", "product_viewed", shop.NOW - DAY, {"product_id": "p", "price": 2.5}),
            ("ann", "order_completed", shop.NOW - HOUR, {"revenue": 9.99}),
        )
        supposed = await http.post("/v1/score", json={"events": [*sent, {"event": "no_such_event"}, 5]})
        assert supposed.status_code == 200
        assert [each["index"] for each in supposed.json()["refused"]] == [2, 3]
        unknown = (await http.get("/v1/segments?user_id=ann")).json()
        assert (unknown["source"], runtime.predictions.flush()) == ("default", 1)
        await http.post("/v1/batch", json={"batch": sent})
        asked = {"events": sent, "at": (told := (await http.get("/v1/segments?user_id=ann")).json())["as_of"]}
        supposed = (await http.post("/v1/score", json=asked)).json()
        assert (supposed["scores"], supposed["segments"]) == (told["scores"], told["segments"])
        assert supposed["source"] == "given"


async def test_scoring_given_features_says_what_the_models_say(published, bundle):
    async with shop.serving(published) as (http, _):
        names = bundle.features.names
        supposed = await http.post("/v1/score", json={"features": {names[0]: 3.0, names[1]: None}})
        row = np.array([[3.0, *[np.nan] * (len(names) - 1)]])
        model = bundle.models["purchase_7d"]
        chosen = row[:, [names.index(name) for name in model.preparation.names]]
        assert supposed.json()["scores"]["purchase_7d"]["probability"] == model.score_values(chosen).probability[0]
        assert (await http.post("/v1/score", json={"features": {"count_any_9d": 1}})).status_code == 422
        for at in ("tomorrow", "1999-12-31", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"):
            for somebody in ({"features": {}}, {"events": [shop.message("ann")]}):
                assert (await http.post("/v1/score", json={**somebody, "at": at})).status_code == 422
        assert (await http.post("/v1/score", json={"features": {}, "events": []})).status_code == 400
        assert (await http.post("/v1/score", json={})).status_code == 400


@pytest.mark.parametrize(
    "path", ["/v1/model", "/v1/catalogue", "/openapi.json", "/openapi.yaml", "/v1/segments?user_id=ann&scores=false"]
)
async def test_what_is_held_already_is_not_sent_again(published, path):
    async with shop.serving(published) as (http, _):
        first = await http.get(path)
        assert first.headers["cache-control"] == "private, no-cache"
        again = await http.get(path, headers={"if-none-match": f'"other", {first.headers["etag"]}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
        assert "content-length" not in again.headers
        assert (await http.get(path, headers={"if-none-match": 'W/"other"'})).status_code == 200


async def test_an_answer_without_scores_is_new_once_it_means_something_else(published):
    async with shop.serving(published) as (http, runtime):
        path = "/v1/segments?user_id=ann&scores=false"
        first = await http.get(path)
        assert "scores" not in first.json()
        await http.post("/v1/track", json=shop.message("ann"))
        again = await http.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.json()["source"]) == (200, "live")
        runtime.store.behind = shop.NOW  # as a Redis that has not taken everything
        worse = await http.get(path, headers={"if-none-match": again.headers["etag"]})
        assert (worse.status_code, worse.json()["degraded"]) == (200, True)
        asked = {"json": {"user_id": "ann"}}
        batch = {"json": {"users": ["ann"]}}
        for scored in (
            await http.get("/v1/segments?user_id=ann"),
            await http.post("/v1/segments", **asked),
            await http.post("/v1/segments:batch", **batch),
            await http.post("/v1/explain", **asked),
            await http.post("/v1/assign", **asked),
            await http.get("/v1/segments"),
        ):
            assert (scored.headers["cache-control"], "etag" in scored.headers) == ("no-store", False)


async def test_the_parts_of_an_explanation_add_up_to_the_margin(published, bundle):
    async with shop.serving(published) as (http, runtime):
        await http.post("/v1/track", json=shop.message("ann", "order_completed", properties={"revenue": 12.5}))
        explained = (await http.post("/v1/explain", json={"user_id": "ann"})).json()
        told = explained["contributions"]
        assert list(told) == ["purchase_7d"]
        parts, model = told["purchase_7d"], bundle.models["purchase_7d"]
        assert list(parts["columns"]) == list(model.preparation.outputs)
        answer = runtime.release().scorer.answer("ann", parse_instant(explained["as_of"]))
        margin = np.array([parts["base"] + sum(parts["columns"].values())])
        told_probability = answer.verdict.scores["purchase_7d"]["probability"]
        assert abs(model.calibration.probability(margin)[0] - told_probability) < 1e-5
