"""Histories: many users' events in one array of slots, like the rows of a CSR matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.behaviour.schema import CONSENT_SAID, CONSENT_SHIFT, HEAD, ID, SEQ_SHIFT, TS, StateSchema
from features.errors import SchemaError


@dataclass(frozen=True)
class Histories:
    """Rows of users' events; row i owns `slots[starts[i]:ends[i]]`.

    Rows may share events: a training set repeats a user at several instants without a copy.

    Attributes:
        schema: What the slots mean.
        users: Canonical ids, one per row.
        slots: Shape (n_records, schema.n_slots), int64. Within a row in any order: sorted by (ts, seq, id) where the
            log was, in arrival order where a state store keeps them. The kernel's gather settles it.
        starts: Shape (n_rows,).
        ends: Shape (n_rows,).
        carry: Shape (n_rows, 1 + len(schema.lifetime)): the boundary up to which all events are folded, then the
            folds; None where every event is in `slots`.
        settled: Whether each row is in the order (ts, seq, id), holds each id once and takes nothing back: what the
            compacted log guarantees. The kernel then need not settle it again.
    """

    schema: StateSchema
    users: NDArray[np.object_]
    slots: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    carry: NDArray[np.int64] | None = None
    settled: bool = False

    @classmethod
    def from_frame(cls, schema: StateSchema, frame: pl.DataFrame, *, settled: bool | None = None) -> Self:
        """Histories from a log frame; users in order of their ids, unless each user's events are together already.

        Args:
            schema: What to keep of an event.
            frame: See `StateSchema.encode`.
            settled: Whether the frame has each event once, in order; None to look.
        """
        frame = schema.counting(frame)
        runs = frame.select(pl.col("user").rle()).unnest("user")
        if runs["value"].n_unique() < runs.height:
            frame = frame.sort("user", "ts", "seq", "id", "known")
            runs = frame.select(pl.col("user").rle()).unnest("user")
        return cls.of(schema, runs["value"], runs["len"], frame, settled=settled)

    @classmethod
    def of(
        cls,
        schema: StateSchema,
        users: pl.Series,
        sizes: pl.Series,
        frame: pl.DataFrame,
        *,
        settled: bool | None = None,
    ) -> Self:
        """The same of a frame that has been through `schema.counting`, given whose its rows are: so many each."""
        ends = np.cumsum(sizes.to_numpy(), dtype=np.int64)
        if "until" in frame.columns and frame["until"].null_count() < frame.height:
            removals = np.concatenate([[0], frame["until"].is_not_null().cum_sum().to_numpy()])
            ends += removals[ends].astype(np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
        slots = schema.records(frame)
        if settled is None:
            from features.behaviour.gather import are_settled

            settled = are_settled(slots, starts, ends)
        whole = settled and len(slots) == frame.height
        return cls(schema, users.to_numpy().astype(object), slots, starts, ends, settled=whole)

    @classmethod
    def from_states(
        cls,
        schema: StateSchema,
        users: Sequence[str],
        states: Sequence[bytes],
        carries: Sequence[bytes | None] | None = None,
    ) -> Self:
        """Histories from stored states: whole records, in arrival order.

        Raises:
            SchemaError: a state is not a whole number of records of this schema.
        """
        cuts = edges_of(schema, users, states)
        slots = np.frombuffer(bytearray().join(states), np.int64).reshape(-1, schema.n_slots)
        carry = carries_of(schema, carries) if carries is not None and any(carries) else None
        return cls(schema, np.array(users, dtype=object), slots, cuts[:-1], cuts[1:], carry)

    def __len__(self) -> int:
        return len(self.users)

    @property
    def n_records(self) -> int:
        """Records in all rows' array."""
        return len(self.slots)

    def take(self, rows: NDArray[np.int64]) -> "Histories":
        """These rows, in this order, repeated where asked; no event is copied."""
        carry = None if self.carry is None else self.carry[rows]
        return Histories(
            self.schema, self.users[rows], self.slots, self.starts[rows], self.ends[rows], carry, self.settled
        )

    def state(self, row: int) -> bytes:
        """One row's records as a store keeps them."""
        return self.slots[self.starts[row] : self.ends[row]].tobytes()

    def consent(self) -> NDArray[np.int64]:
        """Per row, the mask of purposes consented to: what was said last in (ts, seq, id) order, else the default."""
        said = np.flatnonzero((self.slots[:, HEAD] >> CONSENT_SHIFT) & CONSENT_SAID)
        masks = np.full(len(self), self.schema.consent, np.int64)
        lows, highs = np.searchsorted(said, self.starts), np.searchsorted(said, self.ends)
        for row in np.flatnonzero(highs > lows):
            records = self.slots[said[lows[row] : highs[row]]]
            order = np.lexsort((records[:, ID], records[:, HEAD] >> SEQ_SHIFT, records[:, TS]))
            masks[row] = (records[order[-1], HEAD] >> CONSENT_SHIFT) & (CONSENT_SAID - 1)
        return masks


def edges_of(schema: StateSchema, users: Sequence[str], states: Sequence[bytes]) -> NDArray[np.int64]:
    """Where the records of each of these states begin, once they are joined, and the last one's end: shape (n + 1,).

    Raises:
        SchemaError: a state is not a whole number of records of this schema.
    """
    width, edges = 8 * schema.n_slots, [0]
    for user, state in zip(users, states, strict=True):
        size, rest = divmod(len(state), width)
        if rest:
            raise SchemaError(f"the state of {user!r} is not made of {width}-byte records. Hint: rebuild the state.")
        edges.append(edges[-1] + size)
    return np.array(edges, np.int64)


def carries_of(schema: StateSchema, carries: Sequence[bytes | None]) -> NDArray[np.int64]:
    """Stored carries as rows; of whom nothing is folded, the empty one."""
    empty = empty_carry(schema).tobytes()
    return np.frombuffer(bytearray().join(each or empty for each in carries), np.int64).reshape(len(carries), -1)


def empty_carry(schema: StateSchema) -> NDArray[np.int64]:
    """The carry of a user of whom nothing is folded yet, shape (1 + len(schema.lifetime),)."""
    neutral = [0 if each.what in ("count", "sum") else np.iinfo(np.int64).min for each in schema.lifetime]
    return np.array([np.iinfo(np.int64).min, *neutral], np.int64)
