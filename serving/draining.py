"""Draining: on SIGTERM the process first says that it is not ready, then the server finishes what it has and stops."""

import asyncio
import ctypes
import signal
import socket
import struct
import sys
import threading
from types import FrameType

import uvicorn

from serving.runtime import Runtime

ACCEPTING_S = 0.05
"""How long the loop has to take in who is connected, once nobody else can connect."""
ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux, which Python's socket does not name
NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)  # the filter of one instruction, `return 0`: no packet passes


class Server(uvicorn.Server):
    """uvicorn's server, which by itself resets the connections that the kernel has made and it has not taken yet."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody else connect, take in who has, then finish and stop."""
        for each in sockets or ():
            deafen(each)
        await asyncio.sleep(ACCEPTING_S)
        await super().shutdown(sockets)


def deafen(listening: socket.socket) -> None:
    """Whoever connects from now on is not heard, and is refused when the socket is closed; only Linux can do that."""
    if sys.platform == "linux":
        code = ctypes.create_string_buffer(NOTHING)
        listening.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(code)))


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
