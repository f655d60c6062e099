"""Door: the one ASGI application in front of everything; what is not one of its routes goes on to BentoML's own."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any, cast

import msgspec

from serving.cors import preflight, shared
from serving.draining import drain_on_sigterm, take_over
from serving.gate import admit, body_of, enter
from serving.problems import PAGE, PLAIN, Problem
from serving.request import JSON, Reply, Request
from serving.routes import ROUTES, route_of
from serving.runtime import Runtime

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOGGER = logging.getLogger("ethogram.door")
PASSED_BODY = 1_048_576

NO_CONTENT = frozenset({204, 304})
UNKEPT = (b"cache-control", b"no-store")


class Door:
    """Raw ASGI: routes, key, limits, problems, metrics, draining.

    Attributes:
        app: What answers the paths of `passes`.
        make: Gives the runtime, the parts of the service, when the process starts.
        passes: Paths that go on to `app`; one that ends in `/` stands for all below it.
    """

    def __init__(self, app: App, *, make: Callable[[], Runtime], passes: tuple[str, ...] = ()) -> None:
        self.app = app
        self.make = make
        self.passes = frozenset(passes)
        self.below = tuple(path for path in passes if path.endswith("/") and path != "/")

    @cached_property
    def runtime(self) -> Runtime:
        """The parts of the service."""
        return self.make()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the process."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1003})

    def at_once(self, scope: Scope, body: bytes) -> tuple[int, Headers, bytes] | None:
        """Status, headers and body of the response to a request that came whole, without a task and what it awaits.

        None where the application has to be asked: another route, a request that fails before it is read, a drain.
        """
        route = ROUTES.get(scope["path"], {}).get(scope["method"])
        if route is None or not route.at_once or len(body) > route.limit or self.runtime.draining:
            return None
        begun = time.perf_counter()
        request = Request(scope, self.runtime)
        request.body = body
        try:
            if not route.open:
                admit(request, route.scope, own=route.own)
            reply = cast("Reply", route.answer(request))
        except Exception as error:  # noqa: BLE001 - every failure is a response
            reply = _failed(error, route.template)
        headers = self._headers(reply, request)
        self.runtime.metrics.request(route.template, reply.status, time.perf_counter() - begun)
        return reply.status, headers, reply.body

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()
        request = Request(scope, self.runtime)
        template = "other"
        try:
            if request.method == "OPTIONS" and b"access-control-request-method" in request.headers:
                template, reply = "preflight", preflight(request)
            elif self._passes(request.path):
                template = "bentoml"
                reply = await self._pass(request, receive)
            else:
                route = route_of(request)
                template = route.template
                await enter(request, receive, route)
                told = route.answer(request)
                reply = told if isinstance(told, Reply) else await told
        except Exception as error:  # noqa: BLE001 - every failure is a response
            reply = _failed(error, template)
        await send({"type": "http.response.start", "status": reply.status, "headers": self._headers(reply, request)})
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else reply.body})
        self.runtime.metrics.request(template, reply.status, time.perf_counter() - begun)

    def _passes(self, path: str) -> bool:
        return path in self.passes or path.startswith(self.below) if self.below else path in self.passes

    def _headers(self, reply: Reply, request: Request) -> Headers:
        headers = [(b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body))]
        if reply.status in NO_CONTENT:
            headers = []
        headers += [
            (b"x-request-id", request.id.encode()),
            *(PAGE if reply.content_type.startswith(b"text/html") else PLAIN),
        ]
        if "cache-control" not in reply.headers:
            headers.append(UNKEPT)
        headers += [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        if self.runtime.settings.origins:
            headers += shared(request)
        if self.runtime.draining:
            headers.append((b"connection", b"close"))
        return headers

    async def _pass(self, request: Request, receive: Receive) -> Reply:
        """What BentoML answers, after the same key and size checks; its errors become problems."""
        admit(request, "read")
        kind = request.header(b"content-type").partition(";")[0].strip().lower()
        if kind not in ("", "application/json"):  # what BentoML cannot read of a form would be its own failure
            raise Problem(415, f"this path takes application/json. Got {kind[:100]!r}.")
        body = await body_of(request, receive, PASSED_BODY)
        given = [{"type": "http.request", "body": body, "more_body": False}]
        start: Message = {}
        parts: list[bytes] = []

        async def replay() -> Message:
            return given.pop() if given else await receive()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        headers = [*request.scope["headers"], (b"x-request-id", request.id.encode())]
        await self.app({**request.scope, "headers": headers}, replay, collect)
        return _passed(int(start.get("status", 500)), start.get("headers", []), b"".join(parts))

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def opening() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.runtime.open()
                take_over(self)
                drain_on_sigterm(self.runtime, asyncio.get_running_loop())
            return message

        async def closing(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await asyncio.to_thread(self.runtime.close)
            await send(message)

        await self.app(scope, opening, closing)


def _failed(error: Exception, template: str) -> Reply:
    """What is said instead of an answer."""
    if not isinstance(error, Problem):
        LOGGER.error("a request to %s failed", template, exc_info=error)
        error = Problem(500, "the service failed at this request; its log says why.")
    return Reply(error.document(), error.status, b"application/problem+json", error.headers)


def _passed(status: int, headers: Headers, body: bytes) -> Reply:
    told = {name.lower(): value for name, value in headers}
    kind = told.get(b"content-type", JSON)
    if status < 400:
        return Reply(body, status, kind)
    raise Problem(status, _said(body) or "BentoML could not answer.")


def _said(body: bytes) -> str:
    """What an error of BentoML's says: an object, a list of one, or text."""
    try:
        document = msgspec.json.decode(body)
        return str((document[0] if isinstance(document, list) else document)["error"])
    except (msgspec.DecodeError, LookupError, TypeError):
        return body.decode(errors="replace")[:500]


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application behind the door that has no route of its own: for a door without BentoML."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})
