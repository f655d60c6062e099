"""Carry: what lies behind the horizon, folded; written from the whole log, never by trimming a state."""

import numpy as np

from features.behaviour.compiled import Ints, compiled
from features.behaviour.gather import Scratch, freed, gather, scratch, seat_of
from features.behaviour.histories import Histories, empty_carry
from features.behaviour.lifetime import FAMILY, fold, stream_of
from features.behaviour.members import Kinds, kinds_of, settle
from features.behaviour.schema import ID, TS
from features.behaviour.table import Asked, Table, User, tabulate
from features.errors import SchemaError
from features.instants import NEVER, iso


def fold_carry(histories: Histories, boundary: int) -> Histories:
    """The same histories with everything up to `boundary` in their carry, and out of their records.

    Features as of any `at` by which all that was folded is known, and whose own boundary (`lifetime.boundary_of`) is
    not before this one, are equal to those of the histories as they were, exactly. A record that comes later, with a
    ts up to the boundary, does not count until a fold from the log sees it: it may be a copy of a folded one.

    Args:
        histories: All events of each user, or an earlier result of this function with what came since.
        boundary: Microseconds UTC; for serving `boundary_of(now, horizon)`.

    Raises:
        SchemaError: a row is folded beyond the boundary already.
    """
    schema = histories.schema
    carry = histories.carry if histories.carry is not None else np.tile(empty_carry(schema), (len(histories), 1))
    if len(histories) and int(carry[:, 0].max()) > boundary:
        raise SchemaError(f"the state is folded up to {iso(int(carry[:, 0].max()))}, beyond {iso(boundary)}.")
    sources = [stream_of(each, schema) for each in schema.lifetime]
    asked = Asked.of((), sources, schema.horizon)
    table, kinds = tabulate(FAMILY, (), schema, asked, sources), kinds_of(asked.kinds, asked.windows, schema)
    lengths = histories.ends - histories.starts
    longest = int(lengths.max(initial=0))
    room = scratch(n_events=longest, n_codes=schema.n_codes, n_kinds=len(kinds.codes))
    folded = np.empty_like(carry)
    kept, ends = np.empty(int(lengths.sum()), np.int64), np.empty(len(histories), np.int64)
    _fold_rows(
        histories.slots, histories.starts, histories.ends, carry, boundary, schema.code_bounds, table, kinds,
        room, folded, kept, ends,
    )  # fmt: skip
    slots = histories.slots[kept[: ends[-1] if len(ends) else 0]]
    starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
    return Histories(schema, histories.users, slots, starts, ends, folded)


@compiled
def _fold_rows(
    slots: Ints, starts: Ints, ends: Ints, carry: Ints, boundary: int, bounds: Ints, table: Table, kinds: Kinds,
    room: Scratch, folded: Ints, kept: Ints, kept_ends: Ints,
) -> None:  # fmt: skip
    """Fill `folded`, the places of the records to keep, and where each row's end."""
    total = 0
    for row in range(len(starts)):
        start, end = starts[row], ends[row]
        n, _ = gather(slots, start, end, False, NEVER, carry[row, 0], NEVER, bounds, room)
        settle(slots, n, NEVER, kinds, room)
        user = User(
            slots, room.rows, room.ts, room.codes, room.marks, 0, n, n, carry[row],
            room.spare, room.spare, room.spare, room.seats, room.era, room.counts, room.tally, room.folds, room.heap,
            room.members, room.begins, room.ends, room.firsts,
        )  # fmt: skip
        past = 0
        while past < n and room.ts[past] <= boundary:
            past += 1
        fold(user, past, table, carry[row], folded[row])
        folded[row, 0] = boundary
        mask, era = freed(room.seats, room.era, past)
        for k in range(past):
            key = slots[room.rows[k], ID]
            seat = seat_of(room.seats, mask, era, key)
            room.seats[seat, 0], room.seats[seat, 1] = key, era + 1
        for record in range(start, end):
            seat = seat_of(room.seats, mask, era, slots[record, ID])
            if slots[record, TS] > boundary and room.seats[seat, 1] <= era:
                kept[total] = record
                total += 1
        kept_ends[row] = total
