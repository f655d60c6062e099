"""Fallback: what is said of a user's state while the store does not answer: what was read last, and how long ago."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from features.behaviour.schema import StateSchema
from features.errors import StoreError
from serving.state import State, StateStore

LOGGER = logging.getLogger("ethogram.fallback")
SLOW_S = 0.02
"""A reading that takes longer is as bad as none: every caller waits for it."""
FAILURES = 3
"""So many in a row, and the store is left alone."""
PAUSE_S = 1.0
"""For how long; then one caller tries it."""
HELD_BYTES = 64 << 20
"""What is kept of the states that were read last; those read longest ago go first."""


class Fallback:
    """Reads a store, with a circuit breaker and the last known states; it never fails.

    Only of a remote store is anything kept: where a file of this machine cannot be read, nothing else can.

    Attributes:
        erased: Whether an id was ever erased: of such a person nothing that was read before is used. Where the log of
            the erasure is another service's, the store's count tells that somebody was, and all of it is forgotten.
    """

    def __init__(self, store: StateStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.clock = clock
        self.erased: Callable[[str], bool] = lambda _: False
        self.on_failure: Callable[[], None] = lambda: None
        self._failures = 0
        self._until = 0.0
        self._held: dict[tuple[str, str], tuple[State, float]] = {}
        self._size = 0
        self._erasures = store.erasures
        self._turn = threading.Lock()

    def read(self, schema: StateSchema, users: Sequence[str]) -> list[State]:
        """The states of these ids: live, or stale, or lost."""
        now = self.clock()
        if self.store.erasures != self._erasures:
            self._forget()
        if self._failures >= FAILURES and now < self._until:
            return [self._last(schema, user, now) for user in users]
        try:
            states = self.store.read(schema, users)
        except (StoreError, sqlite3.Error) as error:
            self._failed(now, str(error))
            return [self._last(schema, user, now) for user in users]
        if not self.store.remote:
            self._failures = 0
            return states
        taken = self.clock() - now
        if taken > SLOW_S:
            self._failed(now, f"reading took {taken * 1000:.0f} ms")
        else:
            self._failures = 0
        self._remember(schema, users, states, now)
        if any(state.source == "lost" for state in states):
            self.on_failure()
            return [
                self._last(schema, user, now) if state.source == "lost" else state
                for user, state in zip(users, states, strict=True)
            ]
        return states

    def _failed(self, now: float, why: str) -> None:
        self._failures += 1
        self._until = now + PAUSE_S
        self.on_failure()
        if self._failures == FAILURES:
            LOGGER.error("states are not read for %g s at a time: %s", PAUSE_S, why)

    def _last(self, schema: StateSchema, user: str, now: float) -> State:
        held = self._held.get((schema.fingerprint, user))
        if held is None or self.erased(user) or self.erased(held[0].user):
            return State(user, source="lost")
        return replace(held[0], source="stale", age=round((now - held[1]) * 1e6))

    def _forget(self) -> None:
        with self._turn:
            self._held, self._size, self._erasures = {}, 0, self.store.erasures

    def _remember(self, schema: StateSchema, users: Sequence[str], states: Sequence[State], now: float) -> None:
        with self._turn:
            held = self._held
            for user, state in zip(users, states, strict=True):
                if state.source == "lost":
                    continue
                key = schema.fingerprint, user
                before = held.pop(key, None)
                held[key] = state, now
                self._size += _size(state) - (_size(before[0]) if before else 0)
            while self._size > HELD_BYTES:
                self._size -= _size(held.pop(next(iter(held)))[0])


def _size(state: State) -> int:
    return 500 + len(state.records)
