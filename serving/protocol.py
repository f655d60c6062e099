"""Protocol: HTTP/1.1 whose callers may not take forever to say what they want."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_S = 10.0
"""How long a request's line and headers may take, from the connection on or from their first byte on."""


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for headers without an end."""

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
