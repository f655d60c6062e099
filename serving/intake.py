"""Intake: deliveries of messages become journal rows and state in one transaction, through one thread."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from features.events.batch import EventBatch
from serving import journal
from serving.store import SqliteStore

GROUP = 256
"""Deliveries that one transaction takes at most."""
WAITING = 10_000
"""Deliveries that may wait; a further one is told to come again."""


@dataclass(frozen=True)
class Refused:
    """A message that could not be used."""

    index: int
    message_id: str | None
    field: str
    reason: str


@dataclass(frozen=True)
class Receipt:
    """What became of a delivery."""

    accepted: int
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A delivery cleaned: what goes into journal and state, what into quarantine."""

    batch: EventBatch
    quarantine: pl.DataFrame
    receipt: Receipt


Prepare = Callable[[Sequence[Any], int], Prepared]


@dataclass
class Delivery:
    """One request's messages, and whom to tell."""

    messages: Sequence[Any]
    received: int
    done: Callable[[Receipt | Exception], None]
    prepare: Prepare
    prepared: Prepared | None = field(default=None)


class IntakeFull(Exception):  # noqa: N818 - a state of the intake, not a fault of the code
    """More waits than can be written soon."""


class Intake:
    """One writer thread with group commit: whatever arrived while one transaction was written shares the next."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.on_commit: Callable[[float], None] = lambda _: None
        self._queue: queue.Queue[Delivery | None] = queue.Queue(WAITING)
        self._oldest: int | None = None
        self._thread = threading.Thread(target=self._run, name="ethogram-intake", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then end."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, delivery: Delivery) -> None:
        """Hand over a delivery; its `done` is called from the writer thread.

        Raises:
            IntakeFull: too many deliveries wait.
        """
        try:
            self._queue.put_nowait(delivery)
        except queue.Full:
            raise IntakeFull from None

    def lag(self, now: int) -> int:
        """Microseconds that the oldest event not yet in the state has waited."""
        waiting = self._queue.queue  # a deque: looking at its head takes no lock
        head = waiting[0] if waiting else None
        oldest = self._oldest if self._oldest is not None or head is None else head.received
        return 0 if oldest is None else max(0, now - oldest)

    def _run(self) -> None:
        ended = False
        while not ended:
            group = [self._queue.get()]
            while len(group) < GROUP and not self._queue.empty():
                group.append(self._queue.get())
            ended = None in group
            self._write([delivery for delivery in group if delivery is not None])

    def _write(self, group: Sequence[Delivery]) -> None:
        if not group:
            return
        self._oldest = group[0].received
        try:
            ready = [delivery for delivery in group if self._prepare(delivery)]
            self._commit_or_split(ready)
        finally:
            self._oldest = None

    def _prepare(self, delivery: Delivery) -> bool:
        try:
            delivery.prepared = delivery.prepare(delivery.messages, delivery.received)
        except Exception as error:  # noqa: BLE001 - told to the caller; the neighbours go on
            delivery.done(error)
            return False
        return True

    def _commit_or_split(self, ready: Sequence[Delivery]) -> None:
        try:
            self._commit(ready)
        except Exception as error:  # noqa: BLE001 - one bad delivery must not fail its neighbours
            if len(ready) == 1:
                ready[0].done(error)
            else:
                for delivery in ready:
                    self._commit_or_split([delivery])

    def _commit(self, ready: Sequence[Delivery]) -> None:
        prepared = [delivery.prepared for delivery in ready if delivery.prepared is not None]
        frames = [each.batch.frame for each in prepared if len(each.batch)]
        begun = time.perf_counter()
        with self.store.writing() as db:
            for each in prepared:
                if each.quarantine.height:
                    journal.refuse(db, each.quarantine)
            if frames:
                frame = pl.concat(frames, how="diagonal") if len(frames) > 1 else frames[0]
                journal.write(db, frame)
                self.store.record(db, frame)
        self.on_commit(time.perf_counter() - begun)
        for delivery, each in zip(ready, prepared, strict=True):
            delivery.done(each.receipt)
