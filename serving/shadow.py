"""Shadow: the challenger scores the histories that were answered from, after the answers, in a thread of its own."""

import threading
from collections import deque
from collections.abc import Callable

from serving.periodic import Periodic
from serving.releases import Release
from serving.scorer import Answer

CAPACITY = 4_096
"""Answers that may wait; what exceeds them is dropped and counted: callers come first."""
AT_ONCE = 32
EVERY_S = 0.1


class Shadow:
    """A bounded queue of answers, and the thread that has the challenger say what it would have said.

    What the champion saw is what was known as of the answer's instant, so that is what the challenger sees, through
    its own features; the same user may have done more meanwhile.
    """

    def __init__(self, release: Callable[[], Release | None]) -> None:
        self.release = release
        self.on_done: Callable[[str, int], None] = lambda _outcome, _n: None
        self._waiting: deque[tuple[str, str, int]] = deque()
        self._turn = threading.Lock()
        self.thread = Periodic("shadow", self.work, lambda: self.on_done("failed", 1))

    def put(self, request_id: str, answer: Answer) -> None:
        """Remember an answer for the challenger."""
        if len(self._waiting) >= CAPACITY:
            self.on_done("dropped", 1)
        else:
            self._waiting.append((request_id, answer.canonical, answer.at))

    def work(self) -> None:
        """Score what waits; who calls while another does waits until it is done."""
        with self._turn:
            while self._waiting:
                self._score([self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))])

    def _score(self, part: list[tuple[str, str, int]]) -> None:
        release = self.release()
        if release is None:
            return
        users, ats = [user for _, user, _ in part], [at for _, _, at in part]
        for (request_id, _, _), answer in zip(part, release.scorer.answers_at(users, ats), strict=True):
            kept = release.ring.put(request_id, answer)
            self.on_done("scored" if kept else "dropped", 1)
