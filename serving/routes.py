"""Routes: what the door answers itself, one function each."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import msgspec

from features.events.identity import MAX_ID
from features.instants import iso
from serving import collection, metrics
from serving.gate import admit
from serving.intake import Delivery, IntakeFull, Receipt
from serving.problems import Problem
from serving.runtime import Runtime
from serving.scorer import Answer

JSON = b"application/json"
ASKED = 65_536
"""Bytes of a question."""

ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True)
class Reply:
    """A response."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class Request:
    """A request with what the handlers need of it."""

    __slots__ = ("body", "headers", "id", "method", "path", "runtime", "scope")

    def __init__(self, scope: MutableMapping[str, Any], runtime: Runtime) -> None:
        self.scope = scope
        self.runtime = runtime
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.body = b""
        given = self.header(b"x-request-id")
        self.id = given if given.isascii() and given.isprintable() and 0 < len(given) <= 64 else secrets.token_hex(16)

    def header(self, name: bytes) -> str:
        """A header's value, empty where it is not sent."""
        return self.headers.get(name, b"").decode("latin-1")

    def query(self) -> dict[str, str]:
        """The query string's fields; of a repeated one the last."""
        text = self.scope.get("query_string", b"").decode("latin-1")
        return {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}


@dataclass(frozen=True)
class Route:
    """How one path is answered.

    Attributes:
        template: Its name in the metrics.
        answer: The handler.
        limit: Bytes of body it takes; 0: the body is not read.
        open: Not asked for a key at the door; the handler may ask.
    """

    template: str
    answer: Callable[[Request], Awaitable[Reply]]
    limit: int = 0
    open: bool = False


def route_of(request: Request) -> Route:
    """The route that answers a request, or a Problem: 404 for the path, 405 for the method."""
    methods = ROUTES.get(request.path)
    if methods is None:
        raise Problem(404, f"there is nothing at this path. Hint: {', '.join(sorted(ROUTES))}.")
    route = methods.get("GET" if request.method == "HEAD" else request.method)
    if route is None:
        allowed = ", ".join(sorted(methods))
        raise Problem(405, f"this path takes {allowed}.", {"allow": allowed})
    return route


# -- questions


class Question(msgspec.Struct):
    """The body of POST /v1/segments: one user, by either name of the field."""

    user_id: str | None = None
    userId: str | None = None  # noqa: N815 - Segment's spelling
    anonymous_id: str | None = None
    anonymousId: str | None = None  # noqa: N815 - Segment's spelling

    @property
    def user(self) -> str | None:
        """The id asked for."""
        return self.user_id or self.userId or self.anonymous_id or self.anonymousId


QUESTION = msgspec.json.Decoder(Question)


async def ask(request: Request) -> Reply:
    """POST /v1/segments."""
    try:
        question = QUESTION.decode(request.body)
    except msgspec.DecodeError as error:
        raise Problem(400, f'the body is not a question: {error}. Hint: {{"user_id": "..."}}') from None
    return segments(request, question.user)


async def look_up(request: Request) -> Reply:
    """GET /v1/segments?user_id=..."""
    given = request.query()
    names = [name for name in ("user_id", "userId", "anonymous_id", "anonymousId") if given.get(name)]
    return segments(request, given[names[0]] if names else None)


def segments(request: Request, user: str | None) -> Reply:
    """One user's answer."""
    document, version = answer(request.runtime, user, request.id)
    headers = {"x-model-version": version, "cache-control": "no-store"}
    return Reply(ENCODER.encode(document), headers=headers)


def answer(runtime: Runtime, user: str | None, request_id: str) -> tuple[dict[str, object], str]:
    """One user's answer as a document, logged and counted; also for BentoML's typed endpoint.

    Raises:
        Problem: 400 for an id that cannot be one, 503 where nothing is in service yet.
    """
    name = (user or "").strip()
    if not name:
        raise Problem(400, "no user is named. Hint: give user_id (or userId, anonymous_id, anonymousId).")
    if len(name) > MAX_ID:
        raise Problem(400, f"an id has at most {MAX_ID} characters. Got {len(name):,}.")
    release = runtime.release()
    at = runtime.now()
    found = release.scorer.answer(name, at)
    runtime.note(release, request_id, found)
    bundle = release.bundle
    about = {"name": bundle.name, "version": bundle.version, "digest": bundle.digest}
    return document(found, about, runtime.intake.lag(at) // 1000, request_id), str(bundle.version)


def document(found: Answer, bundle: Mapping[str, str], staleness_ms: int, request_id: str) -> dict[str, object]:
    """An answer as callers see it."""
    told: dict[str, object] = {
        "user_id": found.user,
        "segments": found.segments,
        "scores": found.scores,
        "source": found.source,
        "as_of": iso(found.at),
        "staleness_ms": staleness_ms,
        "consent": found.consent,
        "bundle": bundle,
        "request_id": request_id,
    }
    if found.canonical != found.user:
        told["canonical_id"] = found.canonical
    if found.reason:
        told["reason"] = found.reason
    return told


async def model(request: Request) -> Reply:
    """GET /v1/model: what is in service."""
    release = request.runtime.release()
    bundle = release.bundle
    previous = request.runtime.releases.previous
    studies = {
        study: {"kind": model.kind, "digest": model.digest, "threshold": model.threshold, "names": model.names}
        for study, model in bundle.models.items()
    }
    told = {
        "name": bundle.name,
        "version": bundle.version,
        "digest": bundle.digest,
        "since": iso(release.since),
        "features": {"fingerprint": bundle.features.fingerprint, "count": len(bundle.features.names)},
        "schema": bundle.features.schema.fingerprint,
        "studies": studies,
        "previous": previous.bundle.digest if previous else None,
        "fault": request.runtime.releases.fault or None,
    }
    return Reply(ENCODER.encode(told), headers={"x-model-version": str(bundle.version)})


async def catalogue(request: Request) -> Reply:
    """GET /v1/catalogue: the segments that answers may name."""
    bundle = request.runtime.release().bundle
    told: list[dict[str, object]] = []
    for study, model in sorted(bundle.models.items()):
        if model.kind == "clusters":
            told += [{"segment": f"{study}:{name}", "study": study, "kind": model.kind} for name in model.names]
        else:
            told.append({"segment": study, "study": study, "kind": model.kind, "threshold": model.threshold})
    return Reply(ENCODER.encode({"bundle": bundle.digest, "segments": told}))


# -- events


async def collect(request: Request) -> Reply:
    """POST /v1/{track,identify,page,screen,group,alias,batch}: 200 once journal and state hold the events."""
    document = collection.document_of(request.body)
    admit(request, collection.key_in(document))
    messages = collection.messages_of(document, request.path.rpartition("/")[2])
    runtime = request.runtime
    release = runtime.release()
    strict = request.query().get("strict") == "1"
    receipt = await _deliver(runtime, release.prepare, messages) if messages else Receipt(0)
    runtime.metrics.events.labels("accepted").inc(receipt.accepted)
    runtime.metrics.events.labels("refused").inc(len(receipt.refused))
    if strict and receipt.refused:
        failed = [collection.failure(each) for each in receipt.refused]
        detail = f"{len(failed)} of {len(messages)} messages cannot be used; the others are accepted."
        raise Problem(400, detail, members={"failed_records": failed, "accepted": receipt.accepted})
    return Reply(b'{"success":true}')


async def _deliver(runtime: Runtime, prepare: collection.Preparation, messages: list[Any]) -> Receipt:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Receipt] = loop.create_future()

    def settle(result: Receipt | Exception) -> None:
        if future.cancelled():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    def done(result: Receipt | Exception) -> None:
        loop.call_soon_threadsafe(settle, result)

    try:
        runtime.intake.submit(Delivery(messages, runtime.now(), done, prepare))
    except IntakeFull:
        raise Problem(503, "more events wait than can be written.", {"retry-after": "1"}) from None
    return await future


# -- operations


async def live(_: Request) -> Reply:
    """GET /livez."""
    return Reply(b"ok\n", content_type=b"text/plain")


async def ready(request: Request) -> Reply:
    """GET /readyz: 200 while a bundle answers and the process is not being stopped."""
    runtime = request.runtime
    if runtime.draining or runtime.releases.current is None:
        raise Problem(503, "stopping" if runtime.draining else "not ready", {"retry-after": "1"})
    return Reply(b"ok\n", content_type=b"text/plain")


async def exposition(request: Request) -> Reply:
    """GET /metrics."""
    return Reply(request.runtime.metrics.text(), content_type=metrics.CONTENT_TYPE.encode())


def _routes() -> dict[str, dict[str, Route]]:
    found = {
        "/v1/segments": {
            "POST": Route("/v1/segments", ask, ASKED),
            "GET": Route("/v1/segments", look_up),
        },
        "/v1/model": {"GET": Route("/v1/model", model)},
        "/v1/catalogue": {"GET": Route("/v1/catalogue", catalogue)},
        "/livez": {"GET": Route("/livez", live, open=True)},
        "/readyz": {"GET": Route("/readyz", ready, open=True)},
        "/metrics": {"GET": Route("/metrics", exposition)},
    }
    for kind in collection.KINDS:
        found[f"/v1/{kind}"] = {"POST": Route(f"/v1/{kind}", collect, collection.BATCH_BYTES, open=True)}
    return found


ROUTES: Mapping[str, Mapping[str, Route]] = _routes()
