"""Memberships in answers: batch, the running service and a replay event by event say the same of everybody."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from shutil import copytree, ignore_patterns

import numpy as np
import polars as pl
import pytest

from experiments import release
from experiments.declared import Declared
from experiments.enrolment import Enrolment
from experiments.standing import Standing
from features.behaviour.feature_set import FeatureSet
from features.behaviour.schema import KNOWN
from features.events.log import EventLog
from features.instants import DAY, HOUR, MINUTE, NEVER, iso
from features.project import Project
from features.segments.ledger import Ledger
from features.simulate import Shop, write_shop
from serving.scorer import AHEAD, UNKNOWN, Scorer
from serving.store import State
from tests.features.segments.test_format import SHOP
from tests.serving import shop
from tests.serving.test_contract import assert_described
from training.bundle import Bundle, publish
from training.model import Model

pytestmark = pytest.mark.anyio

SEGMENTS = """version: 1
segments:
  looked: {when: {did: {event: product_viewed, last: 2h}}, membership: {ttl: 1h, exit_on: [{event: order_completed}]}}
  often: {when: {feature: {count_any_7d: {gte: 3}}}, membership: {hysteresis: {exit: 1}}}
  lucky: {when: {bucket: {salt: s, lt: 1}}, membership: {ttl: 30d}}
  plain: {when: {did: {event: product_viewed, last: 2h}}}
  rare: {when: {did: {event: any}}, min_size: 100}
"""


async def test_an_answer_tells_the_membership_and_goes_on_from_what_was_applied(tmp_path):
    project, settings = small(tmp_path)
    Enrolment.plan(project, at=shop.NOW - 3 * HOUR).apply()
    settings = replace(settings, memberships=project.path("memberships"))
    publish(bundled(project, tmp_path / "made").path, settings.bundles)
    async with shop.serving(settings) as (http, runtime):
        runtime.now = lambda: shop.NOW
        told = (await http.get("/v1/segments?user_id=ann")).json()
        assert "rare" not in told["rules"]
        assert {name for name, each in told["rules"].items() if each["in"]} == {"often", "lucky", "plain"}
        why = (await http.post("/v1/explain", json={"user_id": "ann"})).json()
        assert {name: each["in"] for name, each in why["segments"].items()} == {
            name: each["in"] for name, each in told["rules"].items()
        }
        assert_described("Explanation", why)
        by_command = Standing.of(project, "ann", at=shop.NOW)
        assert why["memberships"] == by_command.terms
        assert why["memberships"]["looked"]["left"] == iso(shop.NOW - 30 * MINUTE)
        assert why["memberships"]["often"]["since"] == iso(shop.NOW - 70 * MINUTE)
        assert why["memberships"]["lucky"]["since"] == iso(shop.NOW - 90 * MINUTE), "seen first since the apply"
        listed = (await http.get("/v1/catalogue")).json()
        assert_described("Catalogue", listed)
        applied, seen = iso(shop.NOW - 3 * HOUR), {each["segment"]: each for each in listed["segments"]}
        members = Counter(Ledger.read(settings.memberships).members(shop.NOW - 3 * HOUR)["segment"])
        assert {name: seen[name].get("size") for name in seen if seen[name]["kind"] == "rule"} == {
            **{name: members[name] for name in ("looked", "often", "lucky", "plain")}, "rare": None,
        }  # fmt: skip
        assert {each["as_of"] for each in seen.values() if "size" in each} == {applied}
        runtime.now = lambda: shop.NOW - HOUR
        why = (await http.post("/v1/explain", json={"user_id": "ann"})).json()
        assert why["memberships"]["looked"]["leaves"] == iso(shop.NOW - 30 * MINUTE)
        runtime.now = lambda: shop.NOW
        Enrolment.plan(project, at=shop.NOW + 20 * DAY).apply()
        before = runtime.release()
        assert runtime.releases.look()
        assert runtime.release() is not before
        assert not runtime.releases.look()


async def test_without_an_applied_ledger_a_membership_is_its_truth(tmp_path):
    project, settings = small(tmp_path)
    publish(bundled(project, tmp_path / "made").path, settings.bundles)
    async with shop.serving(settings) as (http, runtime):
        runtime.now = lambda: shop.NOW
        told = (await http.get("/v1/segments?user_id=ann")).json()
        assert {name for name, each in told["rules"].items() if each["in"]} == {"looked", "often", "lucky", "plain"}


def small(folder):
    """A project with one person who looked three times, and last 70 minutes ago."""
    root = folder / "project"
    shop.plan_in(root)
    (root / "ethogram.yaml").write_text("version: 1\nname: shop\n")
    (root / "features.yaml").write_text("version: 1\nfeatures: [{count: [any, page_viewed], windows: [1d, 7d, 30d]}]\n")
    (root / "segments.yaml").write_text(SEGMENTS)
    project = Project.find(root)
    log = EventLog.of(project)
    for place, minutes in enumerate((90, 80, 70)):
        ts = shop.NOW - minutes * MINUTE
        log.append(shop.cleaned(log.plan, [shop.message("ann", ts=ts)], ts).batch, name=f"part{place}")
    log.append(
        shop.cleaned(log.plan, [shop.message("bob", ts=shop.NOW - 9 * DAY)], shop.NOW - 9 * DAY).batch, name="bob"
    )
    return project, replace(shop.settings_in(folder / "service"), log=project.path("log"), key=project.key)


def bundled(project, folder):
    """A bundle of the project's features and segments, with models fitted on made-up values."""
    log = EventLog.of(project)
    log.codes.write(project.file("plan.lock"))
    features = FeatureSet.of(project, log.plan, log.codes)
    paths = shop.models_in(folder / "models", features, 0.5)
    models = {study: Model.load(path) for study, path in paths.items()}
    segments = release.bounded(Declared.of(project).segments(), log, features, models, {})
    files = {"plan": project.file("plan.yaml"), "lock": project.file("plan.lock")}
    return Bundle.write(
        folder / "bundle", name="shop", version="1", features=features, models=paths, segments=segments, **files
    )


@pytest.mark.integration
async def test_batch_the_running_service_and_a_replay_agree_on_everybody_in_the_shop_at_any_instant(tmp_path):
    copytree(SHOP.parent, tmp_path / "shop", ignore=ignore_patterns(".ethogram"))
    write_shop(Shop(users=2_000, days=50, seed=5), tmp_path / "raw", format="parquet")
    project = Project.find(tmp_path / "shop")
    log = EventLog.of(project)
    for file in sorted((tmp_path / "raw" / "events").iterdir()):
        log.ingest(file)
    publish(bundled(project, tmp_path / "made").path, project.path("bundles"))
    known = np.unique(log.frame(columns=["known"])["known"].to_numpy())
    begin = int(known[-1]) - 3 * DAY
    Enrolment.plan(project, at=begin).apply()
    copytree(project.path("memberships"), tmp_path / "begun")
    instants = [quiet(known, begin + 17 * HOUR), quiet(known, begin + 2 * DAY), int(known[-1]) + 1]
    batch = {}
    for at in instants:
        Enrolment.plan(project, at=at).apply()
        ledger = Ledger.read(project.path("memberships"))
        batch[at] = set(ledger.members(at).select("user", "segment").iter_rows())
    users = sorted(set(log.frame(columns=["user", "ts"])["user"]))
    for at in instants:
        settings = replace(
            shop.settings_in(tmp_path / f"service-{at}"), log=project.path("log"), bundles=project.path("bundles"),
            key=project.key, memberships=tmp_path / "begun", project=project,
        )  # fmt: skip
        async with shop.serving(settings) as (http, runtime):
            runtime.now = lambda at=at: at
            answers = []
            for start in range(0, len(users), 500):
                asked = {"users": users[start : start + 500]}
                answers += (await http.post("/v1/segments:batch", json=asked)).json()["answers"]
            for each in (each for each in answers if each.get("reason") == UNKNOWN):  # all of whose events are marked
                assert all(each["rules"][name]["class"] == "request" for name in each["segments"])
                each["segments"] = []
            told = {(each["user_id"], name) for each in answers for name in each["segments"]}
            assert {pair for pair in told if pair[1] in ledger.segments} == batch[at]
            scorer = Scorer(runtime.release().bundle, runtime.store, tmp_path / "begun")
    assert len({user for user, _ in batch[at]}) > 1_000
    assert {segment for _, segment in batch[at]} > {"cart_abandoners", "active", "champions", "longest_sessions"}
    assert all(len(batch[one] ^ batch[other]) > 100 for one, other in pairwise(instants))

    replayed, folded = {at: set() for at in instants}, {"cart_abandoners"}
    histories = log.histories(scorer.schema)
    for row, user in enumerate(histories.users.tolist()):
        records = histories.slots[histories.starts[row] : histories.ends[row]]
        records = records[np.argsort(records[:, KNOWN], kind="stable")]
        late = np.unique([*records[records[:, KNOWN] > begin, KNOWN].tolist(), *instants]).tolist()
        for now in late:
            (answer,) = scorer.answer_states([user], [State(user, records[records[:, KNOWN] <= now].tobytes())], now)
            if now in replayed:
                replayed[now] |= {(user, name) for name in answer.verdict.segments if name in ledger.segments}
    assert replayed == batch
    changes = ledger.changes().filter(pl.col("at") > begin, pl.col("segment").is_in(folded)).collect()
    assert {"event", "time"} <= set(changes["cause"])


def quiet(known, about):
    """The first instant from then on after which nothing becomes known for a while: an answer's is not moved to it."""
    places = np.flatnonzero((known >= about) & (np.diff(known, append=NEVER) > AHEAD))
    return int(known[places[0]])
