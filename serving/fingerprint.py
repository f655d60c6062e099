"""Fingerprint: what an answer saw of a person's state, in one pass; a replay from the event log must find it again."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import compiled
from features.behaviour.histories import Histories
from features.behaviour.schema import CONSENT_SAID, CONSENT_SHIFT, HEAD, ID, KNOWN, SEQ_SHIFT, TS
from features.instants import NEVER

N_EVENTS, SUM_IDS, LAST_TS, LAST_KNOWN, CONSENT, AS_OF = range(6)
FIXED = -1
"""As of an instant and not a microsecond later."""


class Fingerprint(NamedTuple):
    """Of the state that an answer read.

    Attributes:
        n_events: Records within the horizon, copies included.
        sum_ids: Sum of the records' ids modulo 2^64, signed.
        last_ts: Newest ts, 0 where there is none.
        schema: The state schema's fingerprint.
    """

    n_events: int
    sum_ids: int
    last_ts: int
    schema: str


def seen(histories: Histories, at: NDArray[np.int64], *, ahead: int = FIXED) -> NDArray[np.int64]:
    """Per row: records, sum of ids, newest ts, newest known, the purposes agreed to, and as of when; shape (n_rows, 6).

    Args:
        histories: What was read.
        at: Shape (n_rows,), or (1,) for all. What happened a horizon before is not counted: stores trim it at times of
            their own.
        ahead: Everything known counts, and the instant is that of the newest known where it is later than `at`, at most
            by so much; without it what was known after `at` is not seen.
    """
    told = np.empty((len(histories.starts), 6), np.int64)
    schema = histories.schema
    see(histories.slots, histories.starts, histories.ends, at, ahead, schema.horizon, schema.consent, told)
    return told


@compiled
def see(
    slots: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64], at: NDArray[np.int64], ahead: int,
    horizon: int, consent: int, told: NDArray[np.int64],
) -> None:  # fmt: skip
    """Fill `told` as `seen` gives it."""
    for row in range(len(starts)):
        said, now = -1, at[row if len(at) > 1 else 0]
        told[row, N_EVENTS] = told[row, SUM_IDS] = told[row, LAST_TS] = told[row, LAST_KNOWN] = 0
        told[row, CONSENT] = consent
        floor, known = now - horizon, now if ahead == FIXED else NEVER
        for record in range(starts[row], ends[row]):
            if slots[record, KNOWN] > known:
                continue
            if slots[record, TS] > floor:
                told[row, N_EVENTS] += 1
                told[row, SUM_IDS] += slots[record, ID]
                told[row, LAST_TS] = max(told[row, LAST_TS], slots[record, TS])
            told[row, LAST_KNOWN] = max(told[row, LAST_KNOWN], slots[record, KNOWN])
            if slots[record, HEAD] >> CONSENT_SHIFT & CONSENT_SAID and (said < 0 or _later(slots, record, said)):
                said = record
        if said >= 0:
            told[row, CONSENT] = slots[said, HEAD] >> CONSENT_SHIFT & (CONSENT_SAID - 1)
        told[row, AS_OF] = now if ahead == FIXED else min(max(now, told[row, LAST_KNOWN]), now + ahead)


@compiled
def _later(slots: NDArray[np.int64], one: int, other: int) -> bool:
    """Whether a record comes after another in the order (ts, seq, id); of equals the one that is stored later."""
    if slots[one, TS] != slots[other, TS]:
        return bool(slots[one, TS] > slots[other, TS])
    seq, other_seq = slots[one, HEAD] >> SEQ_SHIFT, slots[other, HEAD] >> SEQ_SHIFT
    if seq != other_seq:
        return bool(seq > other_seq)
    return bool(slots[one, ID] >= slots[other, ID])
