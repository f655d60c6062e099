"""Draining: on SIGTERM the process first says that it is not ready, then the server finishes what it has and stops."""

import asyncio
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from ctypes import addressof, create_string_buffer
from types import FrameType
from typing import Any, cast

import uvicorn

from serving.protocol import Protocol
from serving.runtime import Runtime

ATTACH_FILTER, DETACH_FILTER = 26, 27
"""Linux's options of a socket."""
NOBODY_NEW = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
"""A filter of packets: of the byte of TCP's flags, only SYN of SYN and ACK: dropped; all else passes."""
HANDSHAKE_S = 0.2
"""How long who has begun to connect may take to end it."""


class Server(uvicorn.Server):
    """uvicorn's server, which by itself resets the connections that the kernel has made and it has not taken yet."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take in who has connected, let nobody else, then finish and stop."""
        loop = asyncio.get_running_loop()
        if sockets and all(let_nobody_new(each) for each in sockets):
            await asyncio.sleep(HANDSHAKE_S)
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


def let_nobody_new(listening: socket.socket) -> bool:
    """Have the kernel begin no more connections, and end those that have begun; whether it can.

    Between a last look for callers and the end of the socket one more would be let in, and reset. Whoever is not let in
    asks again after a second, and is refused.
    """
    if sys.platform != "linux":
        return False
    steps = create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in NOBODY_NEW))
    with suppress(OSError):
        listening.setsockopt(
            socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("HP", len(NOBODY_NEW), addressof(steps))
        )  # fmt: skip
        return True
    return False


def waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """The connections that the kernel has made and nobody has taken; then it makes no more."""
    listening.setblocking(False)
    with suppress(OSError):
        while True:
            yield listening.accept()[0]
    with suppress(OSError):  # BentoML's first process holds it as well, and would let callers in whom nobody answers
        listening.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):  # another worker may listen again
        listening.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)


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
