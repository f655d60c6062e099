"""Protocol: HTTP/1.1 whose callers may neither take forever to say what they want nor say it without an end."""

import asyncio
import os
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.problems import PLAIN, Problem

HEADERS_S = 10.0
"""How long a request's line and headers may take, from the connection on or from their first byte on."""
LAST_S = 1.0
"""How long who has connected may still take to ask once the server ends: they were let in."""
HEAD_BYTES = 65_536
"""How much of them is read, beyond the first piece; the parser copies what it has with every piece that comes."""

INTERIM = b"HTTP/1.1 100 "


class Joined:
    """A transport that keeps the head of a response until the body comes: the caller wakes up once, not twice."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: Any) -> None:  # noqa: ANN401 - asyncio's or uvloop's
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Keep the first piece, send it with the second."""
        if self._head is None and not data.startswith(INTERIM):
            self._head = data
        elif self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Let the caller go."""
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the caller is being let go."""
        return bool(self._transport.is_closing())


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for headers without an end, and sends a response in two pieces.

    A request that came whole is answered at once where the application knows how to (`Door.at_once`): no task is made,
    nothing is awaited. All others go the way of ASGI.
    """

    _patience: asyncio.TimerHandle | None = None
    _reading = False
    _begun = False
    _head_bytes = 0
    _held: tuple[Any, Any] | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn's signature
        """A caller connected."""
        super().connection_made(transport)
        self._at_once = getattr(self.app, "at_once", None)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """What has not come whole is waited for: headers by a timer, a body by its task."""
        was_begun, self._reading = self._begun, True
        super().data_received(data)
        self._reading = False
        if self._held is not None:
            held, self._held = self._held, None
            super()._start_asgi_task(*held)
        cycle = cast("Any", self.cycle)
        if self._begun:
            self._head_bytes += len(data) if was_begun else 0
            if self._head_bytes > HEAD_BYTES:
                self._refuse(Problem(431, f"request line and headers are larger than {HEAD_BYTES:,} bytes."))
            elif self._patience is None:
                self._wait()
        elif cycle is not None and cycle.response_complete and self.timeout_keep_alive_task is None:
            later = self.timeout_keep_alive  # what still comes of a body that nobody reads keeps no connection open
            self.timeout_keep_alive_task = self.loop.call_later(later, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        """The first byte of a request arrived."""
        super().on_message_begin()
        self._begun, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """All headers arrived."""
        self._leave()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body arrived."""
        super().on_message_complete()
        if self._held is not None:
            held, self._held = self._held, None
            self._start_asgi_task(*held)

    def shutdown(self) -> None:
        """The server ends: what was asked, or is about to be, is answered; who only listens is let go."""
        if cast("Any", self.cycle) is not None and not self._begun:
            super().shutdown()
        else:
            self._wait(LAST_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller left."""
        self._leave()
        self._held = None
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so as every other mistake is."""
        self._refuse(Problem(400, f"{msg} Hint: speak HTTP/1.1."))

    def _refuse(self, problem: Problem) -> None:
        body = problem.document()
        about = ((b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body)))
        said = (*about, (b"x-request-id", os.urandom(16).hex().encode()), *PLAIN, (b"connection", b"close"))
        lines = [name + b": " + value + b"\r\n" for name, value in said]
        self._leave()
        self.transport.write(b"".join((STATUS_LINE[problem.status], *lines, b"\r\n", body)))
        self.transport.close()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:  # noqa: ANN401 - uvicorn's signature
        if cycle.more_body and self._reading and self._at_once is not None:
            self._held = cycle, app
        elif cycle.more_body or not self._answered(cycle):
            if cycle.scope["method"] != "HEAD":  # whose response has no second piece
                cycle.transport = cast("Any", Joined(self.transport))
            super()._start_asgi_task(cycle, app)

    def _answered(self, cycle: Any) -> bool:  # noqa: ANN401 - uvicorn's own
        """Whether the response went out at once."""
        if self._at_once is None or not cycle.keep_alive or self.flow.write_paused or cycle.waiting_for_100_continue:
            return False
        told = self._at_once(cycle.scope, bytes(cycle.body))
        if told is None:
            return False
        status, headers, body = told
        lines = [b"%b: %b\r\n" % header for header in (*self.server_state.default_headers, *headers)]
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join((STATUS_LINE[status], *lines, b"\r\n", body)))
        self.on_response_complete()
        return True

    def _wait(self, seconds: float = HEADERS_S) -> None:
        self._forget()
        self._patience = self.loop.call_later(seconds, self.transport.close)

    def _leave(self) -> None:
        self._begun = False
        self._forget()

    def _forget(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


OPTIONS: dict[str, Any] = {
    "http": Protocol,
    "loop": "uvloop",
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,  # the door itself turns those away who come through a proxy and show no key
    "backlog": 2048,
    "timeout_keep_alive": 75,  # longer than load balancers keep an idle connection, so that they close it, not we
}
"""Of uvicorn, wherever it runs the door."""
