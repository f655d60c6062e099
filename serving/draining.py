"""Draining: on SIGTERM the process first says that it is not ready, then the server finishes what it has and stops."""

import asyncio
import signal
import threading
from types import FrameType

from serving.runtime import Runtime


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
