"""Draining: on SIGTERM the process first says that it is not ready, then the server finishes what it has and stops."""

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import Any, cast

import uvicorn

from serving.protocol import Protocol
from serving.runtime import Runtime


class Server(uvicorn.Server):
    """uvicorn's server, which by itself resets the connections that the kernel has made and it has not taken yet."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take in who has connected, let nobody else, then finish and stop."""
        loop = asyncio.get_running_loop()
        late = [caller for each in sockets or () for caller in waiting(each)]
        for server in self.servers:
            server.close()
        tls = self.config.ssl
        taken = [loop.create_task(loop.connect_accepted_socket(self._protocol, each, ssl=tls)) for each in late]
        await super().shutdown(sockets)
        await asyncio.gather(*taken, return_exceptions=True)

    def _protocol(self) -> asyncio.Protocol:
        made: Any = self.config.http_protocol_class
        return cast("asyncio.Protocol", made(self.config, self.server_state, self.lifespan.state))


def waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """The connections that the kernel has made and nobody has taken; it makes no more."""
    listening.setblocking(False)
    with suppress(OSError):
        while True:
            yield listening.accept()[0]
    with suppress(OSError):  # BentoML's first process holds it as well, and would let callers in whom nobody answers
        listening.shutdown(socket.SHUT_RDWR)


def take_over(app: Any) -> None:  # noqa: ANN401 - an ASGI application
    """Where somebody else has made the server of this process, as BentoML does, have it speak and end as ours does."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(server, uvicorn.Server) and not isinstance(server, Server):
        server.__class__ = Server
        server.config.http_protocol_class, server.config.loaded_app = Protocol, app


def drain_on_sigterm(runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
    """Put a pause between SIGTERM and the server's own handler, which closes the door at once.

    The load balancer needs it to notice. A second SIGTERM does not wait. Outside the main thread, as under test, there
    are no signals to handle.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    server = signal.getsignal(signal.SIGTERM)
    if not callable(server):
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if runtime.draining:
            server(number, frame)
            return
        runtime.draining = True
        loop.call_soon_threadsafe(loop.call_later, runtime.settings.drain_s, server, number, None)

    signal.signal(signal.SIGTERM, handle)
