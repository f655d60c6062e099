"""State: what stores hold of users, as records under a schema, and what a store has to do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.behaviour.schema import (
    CONSENT_SAID,
    CONSENT_SHIFT,
    HEAD,
    ID,
    KNOWN,
    MISSING,
    SEQ_SHIFT,
    TS,
    Lifetime,
    StateSchema,
)
from features.events.batch import EventBatch
from features.events.plan import TrackingPlan
from features.instants import DAY
from serving.assignment import Enrolled

if TYPE_CHECKING:
    from serving.store import SqliteStore

SLACK = DAY
"""What trimming keeps beyond the horizon."""


LOOK_S = 0.5
"""How often a remote store is looked at for what is new there, and given what it could not take."""


@dataclass(slots=True)
class State:
    """What the store holds of one user under one schema.

    Attributes:
        user: The canonical id.
        records: Whole records in arrival order, empty for an unknown user.
        carry: Life-time folds, None where there are none.
        source: `live`; `stale`, as it was read `age` ago; `lost`, it could not be read and had not been before.
        age: Microseconds.
    """

    user: str
    records: bytes = b""
    carry: bytes | None = None
    source: str = "live"
    age: int = 0


@dataclass(frozen=True)
class LiveSchema:
    """A generation of a schema that appends go to; `filled` once it holds what the event log holds."""

    id: int
    schema: StateSchema
    filled: bool


Row = tuple[str, bytes, bytes | None]
"""A user, records, carry."""


class StateStore(Protocol):
    """States and identity, and the journal of events that are not in the event log yet.

    No user expires: nobody is loaded again from the log when they come back, so whoever expired would be taken for
    somebody unknown. Only what lies behind the horizon is trimmed.

    Attributes:
        journal: The file that accepted events wait in.
        behind: Arrival of the oldest accepted event that the state is known to lack; None where it lacks none.
        remote: Whether reading can fail while this machine is well.
        erasures: How often anybody was erased, by whichever process, as of a second ago; of a remote store alone.
    """

    journal: "SqliteStore"
    behind: int | None
    remote: bool
    erasures: int

    def read(self, schema: StateSchema, users: Sequence[str]) -> list[State]:
        """The states of these ids under the newest filled generation; aliases are followed."""

    def take(self, batch: EventBatch, held: pl.DataFrame) -> None:
        """Keep cleaned events, and rows that could not be used: in the journal, and in every live generation."""

    def catch_up(self, plan: TrackingPlan) -> None:
        """Append what the journal holds and the state lacks."""

    def ids(self, user: str) -> list[str]:
        """Every id of the person behind an id."""

    def enrolled(self, ids: Sequence[str]) -> list[tuple[str, Enrolled]]:
        """Test and first exposure of each of these ids, in no order."""

    def enrol(self, rows: Sequence[tuple[str, str, Enrolled]]) -> None:
        """Keep test, id and first exposure; one that is kept already stays."""

    def live(self) -> list[LiveSchema]:
        """The generations that appends go to, oldest first."""

    def filled(self, schema: StateSchema) -> int | None:
        """The newest filled generation of a schema; None: the state has to be filled first."""

    def filling(self) -> AbstractContextManager[None]:
        """One filler at a time."""

    def begin(self, schema: StateSchema, plan: TrackingPlan) -> LiveSchema:
        """A new generation that is appended to from now on, and holds what waits in the journal."""

    def load(self, live: LiveSchema, rows: Iterable[Row]) -> None:
        """Add what the event log holds of users, before what has been appended; aliases are followed."""

    def complete(self, live: LiveSchema) -> None:
        """Let readers have a generation."""

    def adopt(self, links: pl.DataFrame) -> None:
        """Take in links (columns a, b, at), and give the records of ids to the person they turn out to be."""

    def drop(self, place: int) -> None:
        """Forget a generation."""

    def users(self, place: int) -> list[str]:
        """Every canonical id with a state."""

    def erase(self, user: str, *, key: bytes) -> list[str]:
        """Remove every record, link and waiting row of the person behind an id; all ids that were theirs."""

    def close(self) -> None:
        """Let go; the store cannot be used afterwards."""


def keep(store: StateStore, schemas: Sequence[StateSchema]) -> None:
    """Drop the filled generations of all other schemas."""
    kept = {schema.fingerprint for schema in schemas}
    for live in store.live():
        if live.filled and live.schema.fingerprint not in kept:
            store.drop(live.id)


def routed(rows: Iterable[Row], found: Mapping[str, tuple[str, int]], schema: StateSchema) -> Iterator[Row]:
    """Rows of the log as rows of the store: trimmed, and of an id that was joined meanwhile, the person's it joined.

    Args:
        rows: Of ids.
        found: Canonical id and instant of joining of those that are joined.
        schema: The records'.
    """
    for user, records, carry in rows:
        canonical, joined = found.get(user, (user, 0))
        known = known_from(schema, records, joined) if joined else records
        yield canonical, trimmed(schema, known), carry


def states_of(schema: StateSchema, owned: pl.DataFrame) -> Iterator[tuple[str, bytes]]:
    """(user, records) of a log frame's events, in the order of arrival."""
    kept = owned.filter(pl.col("mark").is_null() & pl.col("event").is_in(list(schema.codes)))
    if not kept.height:
        return
    kept = kept.sort("user", maintain_order=True)
    slots = schema.encode(kept)
    start = 0
    for length, user in kept.select(pl.col("user").rle()).unnest("user").iter_rows():
        yield user, slots[start : start + length].tobytes()
        start += length


def known_from(schema: StateSchema, records: bytes, joined: int) -> bytes:
    """The records of an id that joined a person at `joined`: none is known earlier."""
    slots = np.frombuffer(records, np.int64).reshape(-1, schema.n_slots).copy()
    np.maximum(slots[:, KNOWN], joined, out=slots[:, KNOWN])
    return slots.tobytes()


def trimmed(schema: StateSchema, records: bytes) -> bytes:
    """The records that an answer from now on may need; all of them where a life-time fold may need them."""
    if schema.lifetime:
        return records
    slots = np.frombuffer(records, np.int64).reshape(-1, schema.n_slots)
    newest = int(slots[:, KNOWN].max(initial=0))
    kept: NDArray[np.bool_] = slots[:, TS] > newest - schema.horizon - SLACK
    if kept.all():
        return records
    said = np.flatnonzero(slots[:, HEAD] >> CONSENT_SHIFT & CONSENT_SAID)
    if len(said):  # what was last said about consent holds until something else is said, however long ago it was
        kept[said[np.lexsort((slots[said, ID], slots[said, HEAD] >> SEQ_SHIFT, slots[said, TS]))[-1]]] = True
    return slots[kept].tobytes()


def merged(schema: StateSchema, carry: bytes | None, other: bytes | None) -> bytes | None:
    """The life-time folds of two ids that turned out to be one person."""
    if carry is None or other is None:
        return carry or other
    one, two = np.frombuffer(carry, np.int64), np.frombuffer(other, np.int64)
    folds = [_fold(*each) for each in zip(schema.lifetime, one[1:].tolist(), two[1:].tolist(), strict=True)]
    return np.array([max(one[0], two[0]), *folds], np.int64).tobytes()


def _fold(kind: Lifetime, one: int, two: int) -> int:
    if kind.what in ("count", "sum"):
        return one + two
    if MISSING in (one, two):
        return max(one, two)  # MISSING is the lowest number
    if kind.what == "min" or (kind.what == "first" and not kind.property):
        return min(one, two)
    return max(one, two)
