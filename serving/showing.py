"""Showing: which arm somebody sees, and what was shown; the two routes of A/B tests."""

import asyncio
import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from features.errors import DefinitionError, StoreError, nearest
from features.events.identity import MAX_ID, is_denied
from features.instants import EARLIEST, iso, parse_instant
from features.people import pseudonym
from serving.abtests import OTHER, AbTests, Experiment
from serving.assignment import Assignment, Enrolled, assign, stratum
from serving.collection import MAX_MESSAGE_ID, Erased
from serving.exposures import Exposure
from serving.problems import Problem
from serving.questions import Json, Question, freshness, named
from serving.releases import Release
from serving.request import ENCODER, Reply, Request
from serving.runtime import Runtime
from serving.scorer import UNKNOWN, UNREADABLE, Answer

ASKED = 65_536
SHOWN = 1_048_576
MOST_SHOWN = 1_000
"""Exposures of one request."""
NO_CHALLENGER = "there is no challenger in service"
NOBODY = "this id stands for nobody"


class Asking(Question):
    """The body of POST /v1/assign: one user, the tests asked for (all of them by default), and the call's context."""

    tests: list[str] | None = None


class Shown(msgspec.Struct):
    """The body of POST /v1/exposures."""

    exposures: list[dict[str, Any]]


ASKING, SHOWINGS = msgspec.json.Decoder(Asking), msgspec.json.Decoder(Shown)


def _read(decoder: "msgspec.json.Decoder[Any]", body: bytes, hint: str) -> Any:  # noqa: ANN401 - the decoder's type
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"the body cannot be read: {error}. Hint: {hint}") from None


# -- which arm


async def assigned(request: Request) -> Reply:
    """POST /v1/assign: the arm of each test that a person sees."""
    asked: Asking = _read(ASKING, request.body, '{"user_id": "..."}')
    name = _own(request, named(asked.user))
    tests = _tests(request.runtime)
    wanted = list(tests.tests) if asked.tests is None else asked.tests
    for each in wanted:
        if each not in tests.tests:
            raise Problem(422, f"unknown test {each[:100]!r}. {nearest(each, tests.tests)}")
    release = request.runtime.release()
    answer = release.scorer.answer(name, request.runtime.now(), asked.context)
    found = _assignments(request.runtime, tests, wanted, answer)
    told = {each: _told(request, each, tests.tests[each], said, asked.context, answer) for each, said in found.items()}
    about = {"user_id": name, "as_of": iso(answer.at), **_freshness(request.runtime, answer)}
    body = ENCODER.encode({**about, "tests": told, "bundle": release.about, "request_id": request.id})
    return Reply(body, headers={"x-model-version": str(release.bundle.version), "cache-control": "no-store"})


def _freshness(runtime: Runtime, answer: Answer) -> Json:
    return freshness(runtime, answer.source, answer.age, answer.at - answer.skew, degraded=answer.degraded)


def _tests(runtime: Runtime) -> AbTests:
    """The tests, or a Problem: 503 where the file is wrong and none was read before."""
    tests = runtime.abtests()
    if runtime.abtests.fault and not tests.tests:
        raise Problem(503, "the A/B tests cannot be read; the service's log says why.", {"retry-after": "1"})
    return tests


def _own(request: Request, user: str) -> str:
    if request.subject is not None and user != request.subject:
        raise Problem(403, "this token is for another user.")
    return user


def _assignments(runtime: Runtime, tests: AbTests, wanted: Collection[str], answer: Answer) -> dict[str, Assignment]:
    """What the person of an answer sees of each test."""
    refused, held = "", dict[str, Enrolled]()
    try:
        held = _first(runtime, answer.user) if wanted else {}
    except (StoreError, sqlite3.Error):
        refused = "the state cannot be read now"
    if is_denied(answer.user):
        refused = NOBODY
    elif answer.reason and answer.reason != UNKNOWN:
        refused = answer.reason
    found = {}
    for name in wanted:
        segments = answer.verdict.segments
        said = assign(tests, name, answer.canonical, answer.at, enrolled=held.get(name), segments=segments)
        alone = tests.tests[name].of_models and runtime.challengers.current is None
        reason = refused or (NO_CHALLENGER if alone else "")
        found[name] = Assignment(tests.tests[name].control, reason=reason) if reason and said.arm else said
    return found


def _first(runtime: Runtime, user: str) -> dict[str, Enrolled]:
    """Per test the first exposure of a person, under whichever of their ids."""
    found: dict[str, Enrolled] = {}
    for test, each in runtime.store.enrolled(runtime.store.ids(user)):
        if test not in found or each.at < found[test].at:
            found[test] = each
    return found


def _told(
    request: Request, name: str, test: Experiment, said: Assignment, context: Mapping[str, Any] | None, answer: Answer
) -> Json:
    shown = test.arms[said.show]
    told: Json = {"arm": said.arm, "show": said.show, "content": shown.content, "segment": said.segment}
    told["enrolled"] = iso(said.enrolled) if said.enrolled is not None else None
    if said.reason:
        told["reason"] = said.reason
    if shown.model is not None:
        told["model"] = shown.model
        told["answer"] = _answer(request, shown.model, answer, context, f"{name}={said.arm}" if said.arm else "")
    return told


def _answer(request: Request, model: str, answer: Answer, context: Mapping[str, Any] | None, arm: str) -> Json:
    """What the arm's bundle says of the person, logged where its answers are."""
    runtime = request.runtime
    release: Release = runtime.release()
    if model == "challenger" and runtime.challengers.current is not None:
        release = runtime.challengers.current
        answer = release.scorer.answer(answer.user, runtime.now(), context)
    if not release.ring.put(request.id, answer, arm):
        runtime.metrics.predictions.labels("dropped").inc()
    return {"segments": answer.verdict.segments, "scores": answer.verdict.scores, "bundle": release.about}


# -- what was shown


async def exposed(request: Request) -> Reply:
    """POST /v1/exposures: what was shown to whom; the first time fixes a person's arm and segment."""
    shown: Shown = _read(SHOWINGS, request.body, '{"exposures": [{"user_id": "...", "test": "...", "arm": "..."}]}')
    if len(shown.exposures) > MOST_SHOWN:
        raise Problem(413, f"at most {MOST_SHOWN:,} exposures are taken at once. Got {len(shown.exposures):,}.")
    taken, refused = await asyncio.to_thread(_take, request, shown.exposures)
    if refused:
        detail = f"{len(refused)} of {len(shown.exposures)} exposures cannot be used; the others are kept."
        raise Problem(422, detail, members={"failed_records": refused, "accepted": taken})
    return Reply(b'{"success":true}')


def _take(request: Request, given: list[dict[str, Any]]) -> tuple[int, list[Json]]:
    runtime, tests = request.runtime, _tests(request.runtime)
    erased = Erased(runtime.settings.log)().erased
    rows: list[Exposure] = []
    refused: list[Json] = []
    for index, each in enumerate(given):
        try:
            row = _exposure(request, tests, each)
            if erased.get(pseudonym(runtime.settings.key, row.user), -1) >= row.at:
                raise _Refused("user_id", "the person was erased since")
            rows.append(row)
        except _Refused as fault:
            message = each.get("message_id")
            told = message[:MAX_MESSAGE_ID] if isinstance(message, str) else None
            refused.append({"index": index, "messageId": told, "field": fault.field, "reason": fault.reason})
    if rows:
        _keep(runtime, tests, rows)
    return len(rows), refused


class _Refused(Exception):  # noqa: N818 - an answer, not an error of the program
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field, reason


def _exposure(request: Request, tests: AbTests, given: Mapping[str, Any]) -> Exposure:
    """One row; its stratum is empty where the caller does not tell it."""
    runtime, now = request.runtime, request.runtime.now()
    user, test, arm, at = (given.get(name) for name in ("user_id", "test", "arm", "at"))
    if not isinstance(user, str) or not 0 < len(user.strip()) <= MAX_ID or is_denied(user):
        raise _Refused("user_id", "no id of anybody")
    if request.subject is not None and user.strip() != request.subject:
        raise _Refused("user_id", "this token is for another user")
    if not isinstance(test, str) or test not in tests.tests:
        raise _Refused("test", f"unknown test. {nearest(str(test)[:100], tests.tests)}")
    if not isinstance(arm, str) or arm not in tests.tests[test].arms:
        raise _Refused("arm", f"no arm of this test. {nearest(str(arm)[:100], tests.tests[test].arms)}")
    segment = given.get("segment")
    if segment is not None and segment not in (*tests.tests[test].segments, OTHER):
        raise _Refused("segment", f"no segment of this test. {nearest(str(segment)[:100], tests.tests[test].segments)}")
    message = given.get("message_id")
    if message is not None and (not isinstance(message, str) or len(message) > MAX_MESSAGE_ID):
        raise _Refused("message_id", f"a text of at most {MAX_MESSAGE_ID} characters")
    shown = now if at is None else _instant(at, now)
    return Exposure(test, user.strip(), arm, segment or "", shown, runtime.arrival(), message)


def _instant(text: object, now: int) -> int:
    try:
        at = parse_instant(text if isinstance(text, str) else "")
    except (DefinitionError, OverflowError):
        raise _Refused("at", "no ISO 8601 instant") from None
    if at < EARLIEST:
        raise _Refused("at", f"before {iso(EARLIEST)}")
    return min(at, now)


def _keep(runtime: Runtime, tests: AbTests, rows: list[Exposure]) -> None:
    """Freeze arm and segment of whoever is exposed for the first time, then keep every row."""
    people = list(dict.fromkeys(row.user for row in rows))
    answers = dict(zip(people, runtime.release().scorer.answers(people, runtime.now()), strict=True))
    try:
        known = {user: _first(runtime, user) for user in people}
        fresh = []
        for row in sorted(rows, key=lambda row: row.at):
            if row.test not in known[row.user]:
                answer = answers[row.user]
                if answer.reason == UNREADABLE:
                    raise StoreError(answer.reason)
                segment = row.segment or stratum(tests.tests[row.test], answer.verdict.segments)
                known[row.user][row.test] = Enrolled(row.arm, segment, row.at)
                fresh.append((row.test, row.user, known[row.user][row.test]))
            row.segment = known[row.user][row.test].segment
        runtime.store.enrol(fresh)
        runtime.exposures.keep(rows)
    except (StoreError, sqlite3.Error):
        raise Problem(503, "exposures cannot be kept now.", {"retry-after": "1"}) from None
