"""Intake: deliveries of messages become journal rows and state in one transaction, through one thread."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from features.events.batch import EventBatch
from serving.state import StateStore

GROUP = 256
"""Deliveries that one transaction takes at most."""
LINGER_S = 0.002
"""How long the first of a group waits for others: the server's own thread needs the interpreter to read them."""
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
    """Messages cleaned: what goes into journal and state, what into quarantine.

    Attributes:
        batch: Events.
        quarantine: Sealed rows.
        refused: The messages behind them, by their places.
    """

    batch: EventBatch
    quarantine: pl.DataFrame
    refused: tuple[Refused, ...] = ()


Prepare = Callable[[Sequence[Any], int], Prepared]


@dataclass(frozen=True)
class Delivery:
    """One request's messages, and whom to tell."""

    messages: Sequence[Any]
    arrived: int
    done: Callable[[Receipt | Exception], None]
    prepare: Prepare


class IntakeFull(Exception):  # noqa: N818 - a state of the intake, not a fault of the code
    """More waits than can be written soon."""


class Intake:
    """One writer thread with group commit: whatever arrived while one transaction was written shares the next.

    What shares a transaction is cleaned as one batch and has one instant of arrival, the clock's when it is taken up.
    Cleaning a batch of a hundred costs little more than cleaning one event.
    """

    def __init__(self, store: StateStore, clock: Callable[[], int]) -> None:
        self.store = store
        self.clock = clock
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
        if self.store.behind is not None:
            return max(0, now - self.store.behind)
        waiting = self._queue.queue  # a deque: looking at its head takes no lock
        head = waiting[0] if waiting else None
        oldest = self._oldest if self._oldest is not None or head is None else head.arrived
        return 0 if oldest is None else max(0, now - oldest)

    def _run(self) -> None:
        ended = False
        while not ended:
            group = [self._queue.get()]
            time.sleep(LINGER_S)
            while len(group) < GROUP and not self._queue.empty():
                group.append(self._queue.get())
            ended = None in group
            self._write([delivery for delivery in group if delivery is not None])

    def _write(self, group: Sequence[Delivery]) -> None:
        if not group:
            return
        self._oldest = group[0].arrived
        try:
            for prepare in dict.fromkeys(delivery.prepare for delivery in group):
                self._take([delivery for delivery in group if delivery.prepare is prepare])
        finally:
            self._oldest = None

    def _take(self, group: Sequence[Delivery]) -> None:
        """Clean and write what came together as one batch; if that fails, each alone: a bad one fails no neighbour."""
        try:
            receipts = self._commit(group)
        except Exception as error:  # noqa: BLE001 - told to the caller
            if len(group) == 1:
                group[0].done(error)
                return
            for delivery in group:
                self._take([delivery])
            return
        for delivery, receipt in zip(group, receipts, strict=True):
            delivery.done(receipt)

    def _commit(self, group: Sequence[Delivery]) -> list[Receipt]:
        messages = [message for delivery in group for message in delivery.messages]
        prepared = group[0].prepare(messages, self.clock())
        begun = time.perf_counter()
        self.store.take(prepared.batch, prepared.quarantine)
        self.on_commit(time.perf_counter() - begun)
        return _split(prepared.refused, [len(delivery.messages) for delivery in group])


def _split(refused: Sequence[Refused], lengths: Sequence[int]) -> list[Receipt]:
    """A receipt per delivery, places counted within it."""
    receipts, start = [], 0
    for length in lengths:
        own = [replace(each, index=each.index - start) for each in refused if start <= each.index < start + length]
        receipts.append(Receipt(length - len(own), tuple(own)))
        start += length
    return receipts
