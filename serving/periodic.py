"""Periodic: work that a thread repeats until it is stopped, and does once more then."""

import logging
import threading
from collections.abc import Callable


class Periodic:
    """A thread around `work`; what goes wrong is logged and counted, and tried again at the next turn."""

    def __init__(self, name: str, work: Callable[[], object], failed: Callable[[], None]) -> None:
        self.name = name
        self.work = work
        self.failed = failed
        self._due = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def start(self, every_s: float) -> None:
        """Work every so many seconds until stopped."""
        self._thread = threading.Thread(target=self._run, args=(every_s,), name=f"ethogram-{self.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Work now, not only when it is time."""
        self._due.set()

    def stop(self) -> None:
        """Work once more, then end."""
        self._ended = True
        self.wake()
        if self._thread:
            self._thread.join()
        self._attempt()

    def _run(self, every_s: float) -> None:
        while True:
            self._due.wait(every_s)
            self._due.clear()
            if self._ended:
                return
            self._attempt()

    def _attempt(self) -> None:
        try:
            self.work()
        except Exception:
            logging.getLogger(f"ethogram.{self.name}").exception("this turn failed")
            self.failed()
