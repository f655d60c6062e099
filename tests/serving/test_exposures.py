"""Who sees which arm, over the service: sticky over login, frozen segments, switches, what is kept and forgotten."""

import json
from collections import Counter

import pytest

from experiments.amendment import rollout
from experiments.exposed import Exposed
from features.draws import place
from features.instants import SECOND, iso
from features.people import pseudonym
from serving import exposures, predictions
from serving.exposures import Followed
from serving.settings import Settings
from serving.store import SqliteStore
from tests.serving import shop
from training.bundle import CHALLENGER, publish

pytestmark = pytest.mark.anyio

AB = """tests:
  hero:
    control: plain
    arms: {plain: {content: {title: Hello}}, bold: {content: {title: HELLO}}}
    segments: [purchase_7d]
  brains:
    control: old
    arms: {old: {model: champion}, new: {model: challenger}}
"""


@pytest.fixture
def running(published):
    published.ab.write_text(AB, encoding="utf-8")
    return published


async def arm_of(http, user, test="hero"):
    reply = await http.post("/v1/assign", json={"user_id": user, "tests": [test]})
    assert reply.status_code == 200, reply.text
    return reply.json()["tests"][test]


async def show(http, *rows):
    sent = [{"user_id": user, "test": "hero", "arm": arm} for user, arm in rows]
    return await http.post("/v1/exposures", json={"exposures": sent})


def named_in(arm, start="u"):
    """An id that the hash puts into an arm of `hero`."""
    want = (lambda here: here < 0.5) if arm == "plain" else (lambda here: here >= 0.5)
    return next(f"{start}{k}" for k in range(100) if want(place("hero", f"{start}{k}")))


async def test_assigning_says_arm_content_and_segment_and_keeps_nothing(running):
    async with shop.serving(running) as (http, runtime):
        user = named_in("bold")
        said = await arm_of(http, user)
        assert said == {
            "arm": "bold",
            "show": "bold",
            "content": {"title": "HELLO"},
            "segment": "other",
            "enrolled": None,
        }
        assert runtime.store.enrolled([user]) == []
        every = (await http.post("/v1/assign", json={"anonymousId": "a-1"})).json()
        assert (list(every["tests"]), every["degraded"]) == (["hero", "brains"], False)
        assert (await http.post("/v1/assign", json={"user_id": "ann", "tests": ["heros"]})).status_code == 422
        assert (await http.post("/v1/assign", json={"user_id": "null"})).json()["tests"]["hero"]["reason"]


async def test_an_arm_stays_over_login(running):
    """Shown bold as somebody anonymous; the name signed in with would have drawn plain."""
    async with shop.serving(running) as (http, _):
        visitor, name = named_in("bold", "a-"), named_in("plain", "user")
        assert (await show(http, (visitor, "bold"))).status_code == 200
        assert (await arm_of(http, name))["arm"] == "plain"
        await http.post("/v1/identify", json={"userId": name, "anonymousId": visitor})
        assert (await arm_of(http, name))["arm"] == "bold"
        assert (await arm_of(http, visitor))["arm"] == "bold"


async def test_of_two_exposed_ids_that_turn_out_one_person_the_first_counts(running):
    async with shop.serving(running) as (http, _):
        visitor, name = named_in("bold", "a-"), named_in("plain", "user")
        await show(http, (name, "plain"))
        await show(http, (visitor, "bold"))
        await http.post("/v1/identify", json={"userId": name, "anonymousId": visitor})
        assert [(await arm_of(http, one))["arm"] for one in (visitor, name)] == ["plain", "plain"]


async def test_the_segment_is_frozen_at_the_first_exposure(running, stricter):
    """The bundle after it puts everybody into `purchase_7d`, whose threshold is 0 there."""
    async with shop.serving(running) as (http, runtime):
        user, fresh = named_in("bold"), named_in("bold", "fresh")
        for one in (user, fresh):
            await http.post("/v1/track", json=shop.message(one))
        assert (await arm_of(http, user))["segment"] == "other"
        await show(http, (user, "bold"))
        publish(stricter.path, running.bundles)
        runtime.releases.look()
        assert (await arm_of(http, fresh))["segment"] == "purchase_7d"
        assert (await arm_of(http, user))["segment"] == "other"
        await show(http, (user, "bold"), (fresh, "bold"))
        told = {"user_id": "told", "test": "hero", "arm": "bold", "segment": "purchase_7d"}
        assert (await http.post("/v1/exposures", json={"exposures": [told]})).status_code == 200
        assert (await arm_of(http, "told"))["segment"] == "purchase_7d"
        runtime.exposures.roll()
        rows = exposures.read(running.exposures, "hero")
        frozen = [(user, "other"), (user, "other"), (fresh, "purchase_7d"), ("told", "purchase_7d")]
        assert rows.select("user", "segment").rows() == frozen


async def test_the_kill_switch_works_within_a_second_and_a_wrong_file_changes_nothing(running):
    async with shop.serving(running) as (http, runtime):
        user, seconds = named_in("bold"), [0.0]
        runtime.abtests = Followed(running.ab, clock=lambda: seconds[0])
        assert (await arm_of(http, user))["arm"] == "bold"
        running.ab.write_text(AB.replace("control: plain\n", "control: plain\n    killed: true\n"), encoding="utf-8")
        seconds[0] = 1.0
        said = await arm_of(http, user)
        assert (said["arm"], said["show"], said["content"]) == (None, "plain", {"title": "Hello"})
        running.ab.write_text("tests: {hero: }", encoding="utf-8")
        seconds[0] = 2.0
        assert (await arm_of(http, user))["reason"] == "the test is switched off"
        assert runtime.abtests.fault.startswith("ab.yaml:1: tests.hero")


async def test_a_file_that_was_wrong_from_the_start_is_no_neutral_answer(published):
    published.ab.write_text("tests: 7", encoding="utf-8")
    async with shop.serving(published) as (http, _):
        reply = await http.post("/v1/assign", json={"user_id": "ann"})
        assert (reply.status_code, reply.headers["content-type"]) == (503, "application/problem+json")


async def test_an_arm_of_models_is_answered_by_its_model(running, stricter):
    async with shop.serving(running) as (http, runtime):
        await http.post("/v1/track", json=shop.message("ann"))
        none = await arm_of(http, "ann", "brains")
        assert (none["arm"], none["show"], none["reason"]) == (None, "old", "there is no challenger in service")
        publish(stricter.path, running.bundles, pointer=CHALLENGER)
        runtime.challengers.look()
        answers = {}
        for user in ("ann", *(f"u{k}" for k in range(20))):
            said = await arm_of(http, user, "brains")
            answers[said["arm"]] = said["answer"]
        assert answers["old"]["bundle"]["version"] == "1"
        assert answers["new"]["bundle"]["version"] == "2"
        assert runtime.shadowed.flush() > 0
        runtime.predictions.flush()
        (file,) = (running.predictions / "challenger").glob("*/*.parquet")
        assert set(predictions.read(file)["arm"]) == {"brains=new"}
        (file,) = running.predictions.glob("*T*/*.parquet")
        assert "brains=old" in set(predictions.read(file)["arm"])


@pytest.mark.parametrize("order", [["brains", "hero"], ["hero", "brains"]])
async def test_a_test_that_waits_for_a_challenger_switches_no_other_off(running, order):
    async with shop.serving(running) as (http, _):
        reply = await http.post("/v1/assign", json={"user_id": "ann", "tests": order})
        said = reply.json()["tests"]
        assert said["brains"]["reason"] == "there is no challenger in service"
        assert said["hero"]["arm"] in ("plain", "bold")
        assert "reason" not in said["hero"]


async def test_exposures_that_cannot_be_used_are_named_and_fail_no_other(running):
    async with shop.serving(running) as (http, runtime):
        sent = [
            {"user_id": "ann", "test": "hero", "arm": "bold", "message_id": "m1", "at": iso(shop.NOW - SECOND)},
            {"user_id": "null", "test": "hero", "arm": "bold"},
            {"user_id": "bob", "test": "zero", "arm": "bold", "message_id": "m3"},
            {"user_id": "bob", "test": "hero", "arm": "bald"},
            {"user_id": "bob", "test": "hero", "arm": "bold", "at": "soon"},
            {"user_id": "bob", "test": "hero", "arm": "bold", "message_id": 5},
            {"user_id": "bob", "test": "hero", "arm": "bold", "segment": "rich"},
        ]
        reply = await http.post("/v1/exposures", json={"exposures": sent})
        problem = reply.json()
        assert (reply.status_code, problem["accepted"]) == (422, 1)
        fields = [(each["index"], each["messageId"], each["field"]) for each in problem["failed_records"]]
        assert fields == [
            (1, None, "user_id"),
            (2, "m3", "test"),
            (3, None, "arm"),
            (4, None, "at"),
            (5, None, "message_id"),
            (6, None, "segment"),
        ]
        assert (await http.post("/v1/exposures", json={"exposures": [{}] * 1001})).status_code == 413
        assert (await http.post("/v1/exposures", content=b"[")).status_code == 400
        runtime.exposures.roll()
        row = exposures.read(running.exposures).row(0, named=True)
        assert (row["user"], row["message_id"], row["at"]) == ("ann", "m1", shop.NOW - SECOND)


async def test_exposures_are_moved_once_and_survive_a_mover_that_dies(running, monkeypatch):
    async with shop.serving(running) as (http, runtime):
        await show(http, ("ann", "bold"), ("bob", "plain"))
        with runtime.store.writing() as db:
            db.execute("CREATE TRIGGER stuck BEFORE DELETE ON exposures BEGIN SELECT RAISE(ABORT, 'dead'); END")
        with pytest.raises(Exception, match="dead"):
            runtime.exposures.roll()
        with runtime.store.writing() as db:
            db.execute("DROP TRIGGER stuck")
        await show(http, ("eve", "bold"))
        assert runtime.exposures.roll() == 3
        assert Counter(exposures.read(running.exposures)["user"]) == Counter(["ann", "bob", "eve"])
        assert runtime.exposures.roll() == 0


async def test_who_is_erased_is_in_no_exposure_and_what_was_before_cannot_come_back(running):
    async with shop.serving(running) as (http, runtime):
        await show(http, ("ann", "bold"), ("bob", "plain"))
        runtime.exposures.roll()
        await show(http, ("ann", "bold"))
        runtime.store.erase("ann", key=shop.KEY)
        assert exposures.forget(running.exposures, ["ann"]) == 1
        runtime.exposures.roll()
        assert exposures.read(running.exposures)["user"].to_list() == ["bob"]
        assert runtime.store.enrolled(["ann"]) == []
        tomb = {"version": 1, "erased": {pseudonym(shop.KEY, "ann"): runtime.now()}}
        running.log.mkdir(exist_ok=True)
        (running.log / "tombstones.json").write_text(json.dumps(tomb))
        late = {"user_id": "ann", "test": "hero", "arm": "bold", "at": iso(shop.NOW)}
        assert (await http.post("/v1/exposures", json={"exposures": [late]})).status_code == 422


async def test_who_agrees_to_no_personalisation_is_in_no_test(running):
    async with shop.serving(running) as (http, _):
        no = {"consent": {"categoryPreferences": {"personalisation": False}}}
        await http.post("/v1/track", json=shop.message("ann", context=no))
        said = await arm_of(http, "ann")
        assert (said["arm"], said["show"]) == (None, "plain")
        assert "personalisation" in said["reason"]


def test_two_first_exposures_at_once_leave_one(tmp_path):
    from serving.assignment import Enrolled

    with SqliteStore(tmp_path / "state.db") as store:
        store.enrol([("hero", "ann", Enrolled("bold", "other", 1))])
        store.enrol([("hero", "ann", Enrolled("plain", "other", 2))])
        assert store.enrolled(["ann"]) == [("hero", Enrolled("bold", "other", 1))]


async def test_the_circle_from_assigning_to_the_roll_out_closes(bundle, tmp_path):
    """Everybody asks, sees what is said and reports it; who sees bold buys, mostly; the analysis says so."""
    folder = tmp_path / "shop"
    shop.plan_in(folder)
    (folder / "ethogram.yaml").write_text("version: 1\nname: shop\n")
    spent = "spent: {sum: order_completed.revenue, guardrail: true}"
    metrics = f"    metrics: {{bought: {{conversion: order_completed}}, {spent}}}\n"
    (folder / "ab.yaml").write_text(AB.replace("  brains:", metrics + "  brains:"))
    settings = Settings.from_environment({"ETHOGRAM_PROJECT": str(folder), "ETHOGRAM_ROLL_S": "3600"})
    publish(bundle.path, settings.bundles)
    async with shop.serving(settings) as (http, runtime):
        for k in range(100):
            said = await arm_of(http, f"user{k}")
            await show(http, (f"user{k}", said["arm"]))
            buys = k % 5 > 0 if said["show"] == "bold" else k % 5 == 0
            event, more = ("order_completed", {"revenue": 5.0}) if buys else ("page_viewed", {})
            sent = {"type": "track", "userId": f"user{k}", "event": event, "properties": more}
            assert (await http.post("/v1/track", json=sent)).status_code == 200
        runtime.exposures.roll()
        runtime.roller.roll()
        result = Exposed.of(settings.project, "hero").analyze()
        assert (result.decision.answer, result.decision.arm) == ("ship", "bold")
        assert result.guardrails[0].state == "holds"
        assert sum(arm.n for arm in result.arms) == 100
        rollout(settings.project, "hero").apply()
        runtime.abtests = Followed(settings.ab)
        assert (await arm_of(http, named_in("plain")))["show"] == "bold"
