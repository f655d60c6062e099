"""Questions: which segments is one user in, are many users in, would somebody be in."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl

from features.errors import DefinitionError, nearest
from features.events.identity import MAX_ID
from features.instants import EARLIEST, LATEST, iso, parse_instant
from serving import collection
from serving.problems import Problem
from serving.releases import Release
from serving.request import ENCODER, Reply, Request, revalidated
from serving.runtime import Runtime
from serving.scorer import Answer
from serving.state import State, states_of

ASKED = 65_536
"""Bytes of a question about one user."""
BATCH_ASKED = 1_048_576
BATCH_USERS = 1_000
CHUNK = 64
"""Users answered in one go: a batch does not keep other callers waiting for longer."""

SOMEBODY = "somebody"
"""Whose a caller's own events are, whatever ids they carry."""

Json = dict[str, Any]


class Question(msgspec.Struct):
    """The body of POST /v1/segments and /v1/explain: one user, by either name of the field, and the call's context."""

    user_id: str | None = None
    userId: str | None = None  # noqa: N815 - Segment's spelling
    anonymous_id: str | None = None
    anonymousId: str | None = None  # noqa: N815 - Segment's spelling
    context: dict[str, Any] | None = None

    @property
    def user(self) -> str | None:
        """The id asked for: the first that is given; all that are given must be ids."""
        ids = (self.user_id, self.userId, self.anonymous_id, self.anonymousId)
        given = [named(each) for each in ids if each is not None]
        return given[0] if given else None


class Batch(msgspec.Struct):
    """The body of POST /v1/segments:batch: users, and the context of the call, the same for all of them."""

    users: list[Any]
    context: dict[str, Any] | None = None


class Supposition(msgspec.Struct):
    """The body of POST /v1/score: events or features of the caller's own."""

    events: list[Any] | None = None
    features: dict[str, float | None] | None = None
    at: str | None = None


QUESTION, BATCH, SUPPOSITION = (msgspec.json.Decoder(kind) for kind in (Question, Batch, Supposition))


def _read(decoder: "msgspec.json.Decoder[Any]", body: bytes, hint: str) -> Any:  # noqa: ANN401 - the decoder's type
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"the body is not a question: {error}. Hint: {hint}") from None


# -- one user


def ask(request: Request) -> Reply:
    """POST /v1/segments."""
    question = _read(QUESTION, request.body, '{"user_id": "..."}')
    return _one(request, question.user, question.context)


async def explain(request: Request) -> Reply:
    """POST /v1/explain: why a user is in every declared segment or not, and what moves each propensity."""
    question, runtime = _read(QUESTION, request.body, '{"user_id": "..."}'), request.runtime
    name, release = _permitted(request, question.user), runtime.release()
    _wants_fresh(request)
    now = runtime.now()
    told = await asyncio.to_thread(release.scorer.explain, name, now, question.context)
    told |= freshness(runtime, told["source"], told.pop("age"), now, degraded=told["degraded"])
    told, _ = _fresh(request, ({**told, "bundle": release.about, "request_id": request.id}, ""))
    body = ENCODER.encode(told)
    return Reply(body, headers={"x-model-version": str(release.bundle.version)})


def look_up(request: Request) -> Reply:
    """GET /v1/segments?user_id=...; with `scores=false` the answer can be revalidated."""
    given = request.query()
    names = [name for name in ("user_id", "userId", "anonymous_id", "anonymousId") if name in given]
    user = given[names[0]] if names else None
    return _one(request, user) if request.flag("scores", default=True) else _without_scores(request, user)


def _one(request: Request, user: str | None, context: Json | None = None) -> Reply:
    told, version = _fresh(request, answer(request.runtime, _permitted(request, user), request.id, context))
    return Reply(ENCODER.encode(told), headers={"x-model-version": version})


def _without_scores(request: Request, user: str | None) -> Reply:
    told, version = _fresh(request, answer(request.runtime, _permitted(request, user), request.id))
    del told["scores"]
    reply = Reply(ENCODER.encode(told), headers={"x-model-version": version})
    same = ("user_id", "canonical_id", "segments", "source", "reason", "degraded", "consent", "bundle")
    return revalidated(request, reply, *(told.get(name) for name in same))


def _permitted(request: Request, user: str | None) -> str:
    """The id asked for, or a Problem: 403 where the caller may ask about another person only."""
    name = named(user)
    if request.subject is not None and name != request.subject:
        raise Problem(403, "this token is for another user.")
    return name


def _wants_fresh(request: Request) -> bool:
    """Whether the caller rather has 503 than a degraded answer, or a Problem: 400."""
    if b"x-require-fresh" not in request.headers:
        return False
    text = request.header(b"x-require-fresh")
    if text not in ("0", "1"):
        raise Problem(400, f"x-require-fresh is 0 or 1. Got {text[:40]!r}.")
    return text == "1"


def _fresh(request: Request, answered: tuple[Json, str]) -> tuple[Json, str]:
    """The answer, or a Problem: 503 where it is degraded and the caller wants none of that."""
    if _wants_fresh(request) and answered[0]["degraded"]:
        raise Problem(503, "the state of this user cannot be read now, or lacks events.", {"retry-after": "1"})
    return answered


def answer(runtime: Runtime, user: str, request_id: str, context: Json | None = None) -> tuple[Json, str]:
    """One user's answer as a document, logged and counted; also for BentoML's typed endpoint.

    Raises:
        Problem: 503, nothing is in service yet.
    """
    release = runtime.release()
    found = release.scorer.answer(user, runtime.now(), context)
    runtime.note(release, request_id, [found])
    told = document(found, release.about, runtime, request_id)
    return told, str(release.bundle.version)


def named(user: object) -> str:
    """The id asked for, or a Problem: 400."""
    if user is not None and not isinstance(user, str):
        raise Problem(400, f"an id is a text. Got {type(user).__name__}.")
    name = (user or "").strip()
    if not name:
        raise Problem(400, "no user is named. Hint: give user_id (or userId, anonymous_id, anonymousId).")
    if len(name) > MAX_ID:
        raise Problem(400, f"an id has at most {MAX_ID} characters. Got {len(name):,}.")
    return name


def document(found: Answer, bundle: Mapping[str, str], runtime: Runtime, request_id: str) -> Json:
    """An answer as callers see it."""
    told: Json = {
        "user_id": found.user,
        "segments": found.verdict.segments,
        "scores": found.verdict.scores,
        "as_of": iso(found.at),
        **freshness(runtime, found.source, found.age, found.at - found.skew, degraded=found.degraded),
        "consent": found.consent,
        "bundle": bundle,
        "request_id": request_id,
    }
    if found.canonical != found.user:
        told["canonical_id"] = found.canonical
    if found.reason:
        told["reason"] = found.reason
    if found.verdict.rules:
        told["rules"] = found.verdict.rules
    return told


def freshness(runtime: Runtime, source: str, age: int, at: int, *, degraded: bool = False) -> Json:
    """Where an answer as of `at` comes from, how old that is, and whether it lacks anything."""
    degraded = degraded or runtime.store.behind is not None
    staleness = max(age, runtime.intake.lag(at)) // 1000
    return {"source": source, "staleness_ms": staleness, "degraded": degraded}


# -- many users


async def ask_batch(request: Request) -> Reply:
    """POST /v1/segments:batch: up to 1,000 users, in their order, a status each."""
    asked: Batch = _read(BATCH, request.body, '{"users": ["...", "..."]}')
    users = asked.users
    if len(users) > BATCH_USERS:
        raise Problem(413, f"a batch has at most {BATCH_USERS:,} users. Got {len(users):,}.")
    _wants_fresh(request)
    release, parts = request.runtime.release(), []
    for start in range(0, len(users), CHUNK):
        chunk = users[start : start + CHUNK]
        parts.append(await asyncio.to_thread(_chunk, request, release, chunk, asked.context))
    body = b'{"answers":[' + b",".join(parts) + b'],"request_id":' + ENCODER.encode(request.id) + b"}"
    return Reply(body, headers={"x-model-version": str(release.bundle.version)})


def _chunk(request: Request, release: Release, users: Sequence[object], context: Json | None) -> bytes:
    """The items of some users, separated by commas."""
    runtime = request.runtime
    items: list[Json | None] = [None] * len(users)
    names: dict[int, str] = {}
    for place, user in enumerate(users):
        try:
            names[place] = named(user)
        except Problem as problem:
            items[place] = {**problem.members_of(), "user_id": user[:MAX_ID] if isinstance(user, str) else None}
    answers = release.scorer.answers(list(names.values()), runtime.now(), context)
    runtime.note(release, request.id, answers)
    for place, found in zip(names, answers, strict=True):
        told = document(found, release.about, runtime, request.id)
        try:
            items[place] = {"status": 200, **_fresh(request, (told, ""))[0]}
        except Problem as problem:
            items[place] = {**problem.members_of(), "user_id": names[place]}
    return ENCODER.encode(items)[1:-1]


# -- somebody


async def score(request: Request) -> Reply:
    """POST /v1/score: what would be said of somebody who did this, or of whom this is known."""
    asked: Supposition = _read(SUPPOSITION, request.body, '{"events": [...]} or {"features": {...}}')
    if (asked.events is None) == (asked.features is None):
        raise Problem(400, "either events or features are scored. Hint: give one of them.")
    release = request.runtime.release()
    at = _instant(asked.at) if asked.at is not None else request.runtime.now()
    told: Json = {"as_of": iso(at), "bundle": release.about, "request_id": request.id, "source": "given"}
    if asked.features is not None:
        told |= _of_features(release, asked.features)
    else:
        told |= await asyncio.to_thread(_of_events, release, asked, at)
    return Reply(ENCODER.encode(told), headers={"x-model-version": str(release.bundle.version)})


def _instant(text: str) -> int:
    try:
        at = parse_instant(text)
    except (DefinitionError, OverflowError) as error:
        raise Problem(422, f"at: {error}") from None
    if not EARLIEST <= at <= LATEST:
        raise Problem(422, f"at: {text!r} is not between {iso(EARLIEST)} and {iso(LATEST)}.")
    return at


def _of_features(release: Release, given: Mapping[str, float | None]) -> Json:
    names = release.bundle.features.names
    for name in given:
        if name not in names:
            raise Problem(422, f"unknown feature {name[:100]!r}. {nearest(name, names)}")
    row = [np.nan if (value := given.get(name)) is None else value for name in names]
    verdict = release.scorer.verdicts(np.array([row], np.float64))[0]
    return {"scores": verdict.scores, "segments": verdict.segments, "refused": []}


def _of_events(release: Release, asked: Supposition, at: int) -> Json:
    """The caller's events as one history, all of them known as of `at`."""
    messages = asked.events or []
    if len(messages) > collection.BATCH_EVENTS:
        raise Problem(413, f"at most {collection.BATCH_EVENTS:,} events are scored. Got {len(messages):,}.")
    named = [
        collection.named({"type": "track", "userId": SOMEBODY, **each}) if isinstance(each, dict) else each
        for each in messages
    ]
    prepared = release.prepare(named, at) if named else None
    records = b""
    if prepared is not None:
        owned = prepared.batch.frame.with_columns(user=pl.lit(SOMEBODY), known="received")
        records = b"".join(slots for _, slots in states_of(release.scorer.schema, owned))
    found = release.scorer.answer_states([SOMEBODY], [State(SOMEBODY, records)], at)[0]
    told = {"scores": found.verdict.scores, "segments": found.verdict.segments, "consent": found.consent}
    told |= {"rules": found.verdict.rules} if found.verdict.rules else {}
    reason = {"reason": found.reason} if found.reason else {}
    refused = [collection.failure(each) for each in prepared.refused] if prepared else []
    return {**told, **reason, "refused": refused}
