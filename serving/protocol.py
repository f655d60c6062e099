"""Protocol: HTTP/1.1 whose callers may not take forever to say what they want."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_S = 10.0
"""How long a request's line and headers may take, from the connection on or from their first byte on."""


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


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for headers without an end, and sends a response in two pieces."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn's signature
        """A caller connected."""
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        """The first byte of a request arrived."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """All headers arrived."""
        self._leave()
        super().on_headers_complete()
        if self.scope["method"] != "HEAD":  # whose response has no second piece
            self.cycle.transport = cast("Any", Joined(self.transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller left."""
        self._leave()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._leave()
        self._patience = self.loop.call_later(HEADERS_S, self.transport.close)

    def _leave(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
